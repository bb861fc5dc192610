//! Gradients of single examples: against each alone, and their sum against the whole.

use std::ops::Range;

use super::*;
use crate::model::LossSum;

#[test]
fn gradients_of_examples_are_those_of_each_alone_and_sum_to_the_whole() {
    let weights = weights(config());
    let llama = model(&weights);
    let factors = upload(&adapter(&weights.config, &Projection::ALL));
    let packed = batch();
    for checkpointing in [Checkpointing::None, Checkpointing::Block] {
        let options = PassOptions {
            dropout: Some(Dropout {
                rate: 0.2,
                seeds: MaskSeeds::Batch(4),
            }),
            checkpointing,
        };
        let (loss, whole) = llama.loss_and_gradient(&packed, &factors, options).unwrap();
        let parts = llama
            .loss_and_example_gradients(&packed, &factors, options)
            .unwrap();
        let (mut sum, mut same_loss) = (
            Adapter::zeros(Arc::clone(factors.layout())),
            LossSum::default(),
        );
        for (loss, part) in &parts {
            sum.add(part).unwrap();
            same_loss.add(*loss);
        }
        assert!(close(loss.nats, same_loss.nats, 1e-12) && loss.tokens == same_loss.tokens);
        assert!(sum.difference(&whole).unwrap().norm() < 1e-5 * whole.norm());
    }
    let parts = llama
        .loss_and_example_gradients(&packed, &factors, PassOptions::default())
        .unwrap();
    for (rows, (loss, part)) in packed.segments.iter().zip(&parts) {
        let (expected_loss, expected) = llama
            .loss_and_gradient(&alone(&packed, rows), &factors, PassOptions::default())
            .unwrap();
        assert_eq!(loss.tokens, expected_loss.tokens);
        assert!(close(loss.nats, expected_loss.nats, 1e-6), "{rows:?}");
        let error = part.difference(&expected).unwrap().norm();
        assert!(error <= 1e-5 * expected.norm(), "{rows:?}: {error:e}");
    }
}

#[test]
fn masks_of_an_example_follow_from_its_own_seed_whatever_else_the_batch_holds() {
    let weights = weights(config());
    let llama = model(&weights);
    let factors = upload(&adapter(&weights.config, &Projection::ALL));
    let packed = batch();
    let seeds: Vec<u64> = (21..).take(packed.segments.len()).collect();
    assert!(seeds.len() > 1, "the batch holds several examples");
    let parts = llama
        .loss_and_example_gradients(&packed, &factors, dropped(MaskSeeds::Examples(&seeds)))
        .unwrap();
    for ((rows, (_, part)), seed) in packed.segments.iter().zip(&parts).zip(&seeds) {
        let alone = alone(&packed, rows);
        let gradient = |seed| {
            let options = dropped(MaskSeeds::Batch(seed));
            let found = llama.loss_and_gradient(&alone, &factors, options);
            found.unwrap().1
        };
        let expected = gradient(*seed);
        let error = part.difference(&expected).unwrap().norm();
        assert!(error <= 1e-5 * expected.norm(), "{rows:?}: {error:e}");
        let other = gradient(seed + 100);
        let apart = other.difference(&expected).unwrap().norm();
        assert!(alone.targets.is_empty() || apart > 1e-2 * expected.norm());
    }
}

#[test]
fn example_that_overflows_spoils_no_other_of_its_batch() {
    let healthy = weights(config());
    let factors = upload(&adapter(&healthy.config, &Projection::ALL));
    let packed = batch();
    let rows = packed.segments[2].clone();
    let mut sick = weights(config());
    let embedding = "model.embed_tokens.weight";
    let token = packed.tokens[rows.start] as usize;
    let width = sick.config.hidden_size;
    sick.tensors.get_mut(embedding).unwrap()[token * width..][..width].fill(f32::INFINITY);
    for kernels in [Kernels::Host, Kernels::Portable] {
        let gradients = |weights: &MemoryWeights| {
            let mut llama = model(weights);
            llama.kernels = kernels;
            let found = llama.loss_and_example_gradients(&packed, &factors, PassOptions::default());
            found.unwrap()
        };
        let (before, after) = (gradients(&healthy), gradients(&sick));
        let is_sick = |rows: &Range<usize>| packed.tokens[rows.clone()].contains(&(token as u32));
        let sick_ones = packed.segments.iter().filter(|rows| is_sick(rows)).count();
        assert!((1..packed.segments.len()).contains(&sick_ones));
        for ((rows, before), after) in packed.segments.iter().zip(&before).zip(&after) {
            if is_sick(rows) {
                assert!(!after.0.nats.is_finite() && !after.1.norm().is_finite());
            } else {
                assert!(before.0 == after.0 && before.1.sha256() == after.1.sha256());
            }
        }
    }
}

fn dropped(seeds: MaskSeeds<'_>) -> PassOptions<'_> {
    PassOptions {
        dropout: Some(Dropout { rate: 0.2, seeds }),
        ..PassOptions::default()
    }
}

/// One example of a batch as a batch of its own.
fn alone(packed: &Batch, rows: &Range<usize>) -> Batch {
    let inside = |target: &&Target| rows.contains(&(target.row as usize));
    let moved = |target: &Target| Target {
        row: target.row - rows.start as u32,
        ..*target
    };
    Batch {
        tokens: packed.tokens[rows.clone()].to_vec(),
        segments: std::iter::once(0..rows.len()).collect(),
        targets: packed.targets.iter().filter(inside).map(moved).collect(),
    }
}
