//! Measures training steps on random weights: seconds a step, tokens a second, peak memory.
//!
//! `step_time [steps] [all]`: SmolLM2-135M's shape, rank 16 on q and v (or on all seven projections), 2 x 256 tokens, loss
//! on every token. Not a benchmark suite: a tool for work on the engine. Run it alone on the machine.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{error::Error, path::Path, sync::Arc, time::Instant};

use aggregation::Adapter;
use finetune::{
    LoadError,
    batch::Batch,
    config::LlamaConfig,
    device::{self, DeviceChoice},
    lora::{LoraConfig, LoraFactors, Projection},
    model::{Dropout, Llama},
    weights::WeightSource,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: finetune::allocator::Allocator = finetune::allocator::Allocator;

const SHAPE: &str = r#"{
    "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
    "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "max_position_embeddings": 8192,
    "hidden_act": "silu", "tie_word_embeddings": true
}"#;

/// Weights that are uniform and small; norms are one.
struct RandomWeights(LlamaConfig);

impl WeightSource for RandomWeights {
    fn config(&self) -> &LlamaConfig {
        &self.0
    }

    fn contains(&self, _hf_name: &str) -> bool {
        true
    }

    fn tensor(&self, hf_name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let count = shape.iter().product();
        if shape.len() == 1 {
            return Ok(vec![1.0; count]);
        }
        let mut random = ChaCha8Rng::seed_from_u64(hf_name.len() as u64);
        Ok((0..count)
            .map(|_| random.random_range(-0.035_f32..0.035))
            .collect())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let steps: usize = arguments.next().map_or(Ok(6), |text| text.parse())?;
    let all = arguments.next().is_some();
    let device = device::open(
        std::env::var("DEVICE")
            .as_deref()
            .unwrap_or("cpu")
            .parse::<DeviceChoice>()?,
    )?;
    let config = LlamaConfig::from_json(SHAPE, Path::new("SHAPE"))?;
    let llama = Llama::from_weights(&RandomWeights(config.clone()), &device)?;
    let mut lora = LoraConfig::default();
    if all {
        lora.target_modules = Projection::ALL.to_vec();
    }
    let mut adapter = Adapter::initial(Arc::new(lora.layout(&config)?), 1);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let texts: Vec<Vec<u32>> = (0..2)
        .map(|_| (0..256).map(|_| random.random_range(0..49152)).collect())
        .collect();
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let batch = Batch::of_texts(&texts);
    println!("resident after loading: {} MB", resident_mb("VmRSS"));
    let mut seconds = Vec::new();
    for step in 0..steps {
        let start = Instant::now();
        let factors = LoraFactors::upload(&adapter, &device)?;
        let dropout = Some(Dropout {
            rate: lora.dropout,
            seed: step as u64,
        });
        let (loss, gradient) = llama.loss_and_gradient(&batch, &factors, dropout)?;
        let rate = 1e-2 / gradient.norm() as f32;
        for (value, slope) in adapter.values_mut().iter_mut().zip(gradient.values()) {
            *value -= rate * slope;
        }
        seconds.push(start.elapsed().as_secs_f64());
        println!(
            "step {step}: loss {:.6}, {:.3} s",
            loss.mean(),
            seconds[step]
        );
    }
    seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    if let Some(median) = seconds.get(seconds.len() / 2) {
        println!(
            "median {median:.3} s, least {:.3} s, {:.0} tokens/s, peak {} MB",
            seconds[0],
            batch.tokens.len() as f64 / median,
            resident_mb("VmHWM"),
        );
    }
    Ok(())
}

/// A line of `/proc/self/status` in MB; zero elsewhere than on Linux.
fn resident_mb(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1000
}
