//! The whole model against an f64 reference, finite differences, itself in other arrangements, and golden outputs.

use std::{collections::BTreeMap, sync::Arc};

use aggregation::{Adapter, ewc::FisherAccumulator};
use burn::tensor::Device;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Checkpointing, Dropout, Llama, MaskSeeds, ModelError, PassOptions, fisher::Marginals};
use crate::{
    batch::{Batch, Target},
    config::{Architecture, LlamaConfig, RopeScaling},
    generate_cache::KvCache,
    host::{self, Kernels},
    lora::{LoraConfig, LoraFactors, Projection},
    precision::BasePrecision,
};

mod example_gradients;
mod golden;
mod precision;
mod reference;

use reference::{MemoryWeights, Reference};

fn config() -> LlamaConfig {
    LlamaConfig {
        architecture: Architecture::Qwen2,
        vocab_size: 40,
        hidden_size: 24,
        intermediate_size: 36,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: Some(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 16,
        }),
        max_position_embeddings: 512,
        tie_word_embeddings: false,
        attention_bias: true,
        bos_token_id: None,
        eos_token_ids: vec![],
    }
}

fn weights(config: LlamaConfig) -> MemoryWeights {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut tensors = BTreeMap::new();
    let mut put = |name: String, count: usize, range: std::ops::Range<f32>| {
        let values = (0..count)
            .map(|_| random.random_range(range.clone()))
            .collect();
        tensors.insert(name, values);
    };
    let table = config.vocab_size * config.hidden_size;
    put("model.embed_tokens.weight".into(), table, -1.0..1.0);
    put("lm_head.weight".into(), table, -0.5..0.5);
    put("model.norm.weight".into(), config.hidden_size, 0.5..1.5);
    for layer in 0..config.num_hidden_layers {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            put(
                format!("model.layers.{layer}.{norm}.weight"),
                config.hidden_size,
                0.5..1.5,
            );
        }
        for projection in Projection::ALL {
            let (inputs, outputs) = projection.widths(&config);
            let bound = (3.0 / inputs as f32).sqrt();
            let name = projection.module(layer);
            put(format!("{name}.weight"), inputs * outputs, -bound..bound);
            if matches!(projection, Projection::Q | Projection::K | Projection::V) {
                put(format!("{name}.bias"), outputs, -0.3..0.3);
            }
        }
    }
    MemoryWeights { config, tensors }
}

fn adapter(config: &LlamaConfig, targets: &[Projection]) -> Adapter {
    let lora = LoraConfig {
        rank: 3,
        target_modules: targets.to_vec(),
        ..LoraConfig::default()
    };
    let mut adapter = Adapter::initial(Arc::new(lora.layout(config).unwrap()), 5);
    let mut random = ChaCha8Rng::seed_from_u64(6);
    // B = 0 would hide every mistake in A's gradient.
    for module in 0..adapter.layout().modules().len() {
        adapter
            .b_mut(module)
            .iter_mut()
            .for_each(|b| *b = random.random_range(-0.05..0.05));
    }
    adapter
}

fn batch() -> Batch {
    let texts: [&[u32]; 3] = [
        &[3, 1, 4, 1, 5, 9, 2, 6, 39],
        &[7],
        &[27, 18, 28, 18, 2, 8, 0],
    ];
    let mut batch = Batch::of_texts(&texts);
    // Some rows ask for nothing, as prompts do.
    batch.targets.retain(|target| target.row % 3 != 1);
    batch
}

fn upload(adapter: &Adapter) -> LoraFactors {
    LoraFactors::upload(adapter, &Device::flex()).unwrap()
}

fn model(weights: &MemoryWeights) -> Llama {
    Llama::from_weights(weights, &Device::flex(), BasePrecision::F32).unwrap()
}

fn close(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance * expected.abs().max(1e-9)
}

#[test]
fn logits_and_loss_equal_the_f64_reference() {
    let weights = weights(config());
    let adapter = adapter(&weights.config, &Projection::ALL);
    let values = adapter.values().iter().map(|&x| f64::from(x)).collect();
    let reference = Reference {
        weights: &weights,
        adapter: Some((&adapter, values)),
    };
    let (llama, batch) = (model(&weights), batch());
    let found = llama.logits(&batch, Some(&upload(&adapter))).unwrap();
    let expected = batch
        .segments
        .iter()
        .flat_map(|s| reference.logits(&batch.tokens[s.clone()]));
    for (found, expected) in found.iter().zip(expected.flatten()) {
        assert!(
            (f64::from(*found) - expected).abs() < 2e-5,
            "{found} {expected}"
        );
    }
    let loss = llama.loss(&batch, Some(&upload(&adapter))).unwrap();
    assert_eq!(loss.tokens, batch.targets.len() as u64);
    assert!(close(loss.nats, reference.nats(&batch), 1e-6));
}

#[test]
fn the_gradient_of_every_factor_agrees_with_finite_differences() {
    let weights = weights(config());
    let adapter = adapter(&weights.config, &Projection::ALL);
    let batch = batch();
    let (_, gradient) = model(&weights)
        .loss_and_gradient(&batch, &upload(&adapter), PassOptions::default())
        .unwrap();
    let layout = adapter.layout();
    for (index, module) in layout.modules().iter().enumerate() {
        for range in [layout.a_range(index), layout.b_range(index)] {
            let slope = &gradient.values()[range.clone()];
            let norm = slope
                .iter()
                .map(|&x| f64::from(x).powi(2))
                .sum::<f64>()
                .sqrt();
            let nats = |step: f64| {
                let mut values: Vec<f64> = adapter.values().iter().map(|&x| f64::from(x)).collect();
                for (value, slope) in values[range.clone()].iter_mut().zip(slope) {
                    *value += step * f64::from(*slope) / norm;
                }
                Reference {
                    weights: &weights,
                    adapter: Some((&adapter, values)),
                }
                .nats(&batch)
            };
            let found = (nats(1e-4) - nats(-1e-4)) / 2e-4;
            assert!(
                close(found, norm, 1e-5),
                "{} {range:?}: {found} {norm}",
                module.name
            );
        }
    }
}

#[test]
fn single_entries_of_the_gradient_agree_with_finite_differences() {
    let weights = weights(config());
    let adapter = adapter(&weights.config, &[Projection::Q, Projection::V]);
    let batch = batch();
    let (_, gradient) = model(&weights)
        .loss_and_gradient(&batch, &upload(&adapter), PassOptions::default())
        .unwrap();
    let scale = gradient.norm() / (adapter.values().len() as f64).sqrt();
    for place in (0..adapter.values().len()).step_by(41) {
        let nats = |step: f64| {
            let mut values: Vec<f64> = adapter.values().iter().map(|&x| f64::from(x)).collect();
            values[place] += step;
            Reference {
                weights: &weights,
                adapter: Some((&adapter, values)),
            }
            .nats(&batch)
        };
        let found = (nats(1e-4) - nats(-1e-4)) / 2e-4;
        let expected = f64::from(gradient.values()[place]);
        assert!(
            (found - expected).abs() < 2e-5 * scale,
            "{place}: {found} {expected}"
        );
    }
}

#[test]
fn both_implementations_give_the_same_gradient_under_dropout() {
    let weights = weights(config());
    let adapter = adapter(&weights.config, &Projection::ALL);
    let dropped = PassOptions {
        dropout: Some(Dropout {
            rate: 0.3,
            seeds: MaskSeeds::Batch(11),
        }),
        ..PassOptions::default()
    };
    let mut llama = model(&weights);
    let (loss, one) = llama
        .loss_and_gradient(&batch(), &upload(&adapter), dropped)
        .unwrap();
    llama.kernels = Kernels::Portable;
    let (other_loss, other) = llama
        .loss_and_gradient(&batch(), &upload(&adapter), dropped)
        .unwrap();
    assert!(close(loss.nats, other_loss.nats, 1e-6));
    assert!(one.difference(&other).unwrap().norm() < 1e-5 * one.norm());
    let (plain, _) = llama
        .loss_and_gradient(&batch(), &upload(&adapter), PassOptions::default())
        .unwrap();
    assert!((plain.nats - loss.nats).abs() > 1e-4, "dropout did nothing");
}

#[test]
fn the_gradient_of_fewer_modules_is_that_part_of_the_gradient_of_all() {
    let weights = weights(config());
    let llama = model(&weights);
    let all = adapter(&weights.config, &Projection::ALL);
    let (_, expected) = llama
        .loss_and_gradient(&batch(), &upload(&all), PassOptions::default())
        .unwrap();
    for kept in [
        vec![1, 2],
        vec![4],
        vec![6],
        vec![3],
        vec![20],
        vec![0, 20],
        vec![12, 9],
    ] {
        // Modules left out stay in the forward pass as part of the base: their B is what matters, so it must be zero.
        let mut all = all.clone();
        for module in (0..21).filter(|module| !kept.contains(module)) {
            all.b_mut(module).fill(0.0);
        }
        let (_, whole) = llama
            .loss_and_gradient(&batch(), &upload(&all), PassOptions::default())
            .unwrap();
        let layout = all.layout();
        let modules = kept
            .iter()
            .map(|&module| layout.modules()[module].clone())
            .collect();
        let few = aggregation::AdapterLayout::new(3, layout.alpha(), false, modules).unwrap();
        let mut few = Adapter::zeros(Arc::new(few));
        for (place, &module) in kept.iter().enumerate() {
            few.a_mut(place).copy_from_slice(all.a(module));
            few.b_mut(place).copy_from_slice(all.b(module));
        }
        let (_, part) = llama
            .loss_and_gradient(&batch(), &upload(&few), PassOptions::default())
            .unwrap();
        for (place, &module) in kept.iter().enumerate() {
            assert_eq!(part.a(place), whole.a(module), "A of {module} in {kept:?}");
            assert_eq!(part.b(place), whole.b(module), "B of {module} in {kept:?}");
        }
    }
    assert!(expected.norm() > 0.0);
}

#[test]
fn packed_examples_compute_what_they_compute_alone() {
    let weights = weights(config());
    let (llama, packed) = (model(&weights), batch());
    let factors = upload(&adapter(
        &weights.config,
        &[Projection::Q, Projection::Down],
    ));
    let (loss, gradient) = llama
        .loss_and_gradient(&packed, &factors, PassOptions::default())
        .unwrap();
    let (mut nats, mut sum) = (0.0, Adapter::zeros(Arc::clone(factors.layout())));
    for rows in &packed.segments {
        let inside = packed
            .targets
            .iter()
            .filter(|t| rows.contains(&(t.row as usize)));
        let alone = Batch {
            tokens: packed.tokens[rows.clone()].to_vec(),
            segments: std::iter::once(0..rows.len()).collect(),
            targets: inside
                .map(|t| Target {
                    row: t.row - rows.start as u32,
                    ..*t
                })
                .collect(),
        };
        let (part, gradient) = llama
            .loss_and_gradient(&alone, &factors, PassOptions::default())
            .unwrap();
        nats += part.nats;
        sum.add(&gradient).unwrap();
    }
    assert!(close(loss.nats, nats, 1e-6));
    assert!(gradient.difference(&sum).unwrap().norm() < 1e-5 * sum.norm());
}

#[test]
fn decoding_with_a_cache_gives_the_logits_of_the_whole_text() {
    let weights = weights(config());
    let llama = model(&weights);
    let factors = upload(&adapter(&weights.config, &Projection::ALL));
    let tokens: Vec<u32> = (0..30).map(|i| i * 7 % 40).collect();
    let whole = llama
        .logits(&Batch::of_texts(&[&tokens]), Some(&factors))
        .unwrap();
    let mut cache = KvCache::new(&weights.config);
    let mut end = 0;
    for piece in [12, 1, 1, 5, 1, 10] {
        let new = &tokens[end..end + piece];
        end += piece;
        let found = llama.decode(&mut cache, new, Some(&factors)).unwrap();
        for (found, expected) in found.iter().zip(&whole[(end - 1) * 40..]) {
            assert!(
                (found - expected).abs() < 1e-5,
                "after {end}: {found} {expected}"
            );
        }
    }
    assert_eq!(cache.tokens(), 30);
    let refused = llama.decode(&mut cache, &[40], None).unwrap_err();
    assert!(matches!(refused, ModelError::Token { token: 40, .. }));
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let large = LlamaConfig {
        vocab_size: 300,
        hidden_size: 128,
        intermediate_size: 320,
        num_hidden_layers: 2,
        head_dim: 32,
        ..config()
    };
    let weights = weights(large);
    let llama = model(&weights);
    let factors = upload(&adapter(&weights.config, &Projection::ALL));
    let text: Vec<u32> = (0..300).map(|i| i * 37 % 300).collect();
    let batch = Batch::of_texts(&[&text, &text[50..200], &text[7..]]);
    let dropped = PassOptions {
        dropout: Some(Dropout {
            rate: 0.1,
            seeds: MaskSeeds::Batch(1),
        }),
        ..PassOptions::default()
    };
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| llama.loss_and_gradient(&batch, &factors, dropped).unwrap())
    };
    let (loss, gradient) = with_threads(1);
    for threads in [2, 3, 7] {
        let (other_loss, other) = with_threads(threads);
        assert_eq!(
            loss.nats.to_bits(),
            other_loss.nats.to_bits(),
            "{threads} threads"
        );
        assert_eq!(gradient.sha256(), other.sha256(), "{threads} threads");
    }
}

#[test]
fn checkpointing_changes_no_bit_of_the_gradient() {
    let weights = weights(config());
    let llama = model(&weights);
    let dropout = Some(Dropout {
        rate: 0.3,
        seeds: MaskSeeds::Batch(11),
    });
    let gradient = |targets: &[Projection], checkpointing| {
        let options = PassOptions {
            dropout,
            checkpointing,
        };
        let factors = upload(&adapter(&weights.config, targets));
        llama
            .loss_and_gradient(&batch(), &factors, options)
            .unwrap()
    };
    for targets in [&Projection::ALL[..], &[Projection::V]] {
        let (loss, kept) = gradient(targets, Checkpointing::None);
        let (again_loss, again) = gradient(targets, Checkpointing::Block);
        assert_eq!(loss, again_loss);
        assert_eq!(kept.sha256(), again.sha256());
    }
}

#[test]
fn an_adapter_of_another_model_is_refused_and_named() {
    let weights = weights(config());
    let deeper = LlamaConfig {
        num_hidden_layers: 4,
        ..config()
    };
    let factors = upload(&adapter(&deeper, &[Projection::Q]));
    let refused = model(&weights).loss(&batch(), Some(&factors)).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("model.layers.3.self_attn.q_proj"),
        "{refused}"
    );
    let wider = LlamaConfig {
        intermediate_size: 48,
        ..config()
    };
    let factors = upload(&adapter(&wider, &[Projection::Up]));
    let refused = model(&weights).loss(&batch(), Some(&factors)).unwrap_err();
    assert!(matches!(
        refused,
        ModelError::OtherModel {
            found: [24, 48],
            expected: [24, 36],
            ..
        }
    ));
}

#[test]
fn factored_marginals_are_those_of_the_dense_gradient() {
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let mut matrix = |rows: usize, width: usize| -> Vec<f32> {
        (0..rows * width)
            .map(|_| random.random_range(-1.0..1.0))
            .collect()
    };
    let (x, d) = (matrix(9, 5), matrix(9, 4));
    let found = Marginals::of(
        &host::tensor(x.clone(), [9, 5]),
        &host::tensor(d.clone(), [9, 4]),
    );
    let entry = |i: usize, j: usize| -> f64 {
        (0..9)
            .map(|t| f64::from(d[t * 4 + i]) * f64::from(x[t * 5 + j]))
            .sum::<f64>()
            .powi(2)
    };
    for i in 0..4 {
        assert!(close(found.row[i], (0..5).map(|j| entry(i, j)).sum(), 1e-5));
    }
    for j in 0..5 {
        assert!(close(found.col[j], (0..4).map(|i| entry(i, j)).sum(), 1e-5));
    }
    assert!(close(found.total, found.row.iter().sum(), 1e-5));
    assert!(close(found.total, found.col.iter().sum(), 1e-5));
}

#[test]
fn the_fisher_information_of_a_text_follows_from_its_seed() {
    let weights = weights(config());
    let llama = model(&weights);
    let lora = LoraConfig::default();
    let layout = lora.layout(&weights.config).unwrap();
    let anchor = |seed| {
        let mut accumulator = FisherAccumulator::new(&layout);
        for text in [&[1_u32, 2, 3, 4, 5, 6][..], &[9, 8, 7], &[3]] {
            llama
                .fisher_example(text, seed, &lora, &mut accumulator)
                .unwrap();
        }
        assert_eq!(accumulator.examples(), 2);
        accumulator.finish([0; 32]).unwrap()
    };
    assert_eq!(anchor(1).to_bytes(), anchor(1).to_bytes());
    assert_ne!(anchor(1).to_bytes(), anchor(2).to_bytes());
}
