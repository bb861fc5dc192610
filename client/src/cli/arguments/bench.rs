//! The arguments of `foedus-client bench`.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand, ValueEnum};
use finetune::{
    device::DeviceChoice,
    lora::{Projection, UnknownProjection},
    model::Checkpointing,
    precision::BasePrecision,
};

/// Measures this machine
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum BenchCommand {
    Train(BenchTrainArguments),
    Products(BenchProductsArguments),
}

/// Measures matrix-product throughput, the upper bound for training steps
///
/// Products are in f32 on the CPU and in bf16 on CUDA.
#[derive(Debug, Args)]
pub(in crate::cli) struct BenchProductsArguments {
    /// Rows and columns of the matrices
    #[arg(long, default_value_t = 4096)]
    pub(in crate::cli) size: usize,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(in crate::cli) device: DeviceChoice,
    /// Print the result as one line of JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Times training steps on random weights of a known shape, or on a model
///
/// It reads only what --model and --examples name, and writes nothing. benches/compare runs it against PyTorch with PEFT.
#[derive(Debug, Args)]
pub(in crate::cli) struct BenchTrainArguments {
    /// Shape of the base model
    #[arg(long, default_value = "smollm2-135m")]
    pub(in crate::cli) shape: Shape,
    /// Base model to train instead of random weights: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "PATH", conflicts_with = "shape")]
    pub(in crate::cli) model: Option<PathBuf>,
    /// Rank of the factors A and B
    #[arg(long, default_value_t = 16)]
    pub(in crate::cli) rank: usize,
    /// Adapted projections: q, k, v, o, gate, up, down, or all
    #[arg(long, default_value = "q,v", value_name = "NAMES")]
    pub(in crate::cli) targets: Targets,
    /// Examples per step
    #[arg(long, default_value_t = 2)]
    pub(in crate::cli) batch: usize,
    /// Tokens per example
    #[arg(long, default_value_t = 256)]
    pub(in crate::cli) seq: usize,
    /// Examples to step through instead of random ones, one JSON object per line: {"tokens": [..], "response_from": 3}
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) examples: Option<PathBuf>,
    /// Run private steps (DP-SGD) on the same batch: every example's gradient is clipped, and noise is added
    #[arg(long, conflicts_with = "examples")]
    pub(in crate::cli) dp: bool,
    /// Share of the adapter's inputs that is dropped
    #[arg(long, default_value_t = 0.0)]
    pub(in crate::cli) dropout: f64,
    /// Steps to measure; two more run first as warm-up
    #[arg(long, default_value_t = 6)]
    pub(in crate::cli) steps: u64,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(in crate::cli) device: DeviceChoice,
    /// Precision in which the base model is kept: auto, f32, bf16, int8 or nf4
    #[arg(long, default_value = "auto", value_name = "PRECISION")]
    pub(in crate::cli) base_precision: BasePrecision,
    /// What the forward pass keeps for the backward pass: everything (none) or the inputs of blocks (block)
    #[arg(long, default_value = "none", value_name = "KIND")]
    pub(in crate::cli) activation_checkpointing: Checkpointing,
    /// Print the result as one line of JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Decoders whose speed can be measured without their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Shape {
    /// Two layers of width 32, for trying things out
    Tiny,
    /// SmolLM2-135M
    #[value(name = "smollm2-135m")]
    Smollm2_135m,
    /// Llama 3.2 1B
    #[value(name = "llama-3.2-1b")]
    Llama3_2_1b,
    /// Llama 3.1 8B
    #[value(name = "llama-3.1-8b")]
    Llama3_1_8b,
}

impl Shape {
    pub(in crate::cli) fn name(self) -> String {
        let value = self.to_possible_value().expect("no shape is hidden");
        value.get_name().to_owned()
    }
}

/// Projections by their short or full names, in the order of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Targets(pub(in crate::cli) Vec<Projection>);

impl FromStr for Targets {
    type Err = UnknownProjection;

    fn from_str(text: &str) -> Result<Self, UnknownProjection> {
        if text == "all" {
            return Ok(Self(Projection::ALL.to_vec()));
        }
        let named = |name: &str| {
            name.parse()
                .or_else(|refused| format!("{name}_proj").parse().map_err(|_| refused))
        };
        let named: Vec<Projection> = text.split(',').map(named).collect::<Result<_, _>>()?;
        let ordered = Projection::ALL
            .into_iter()
            .filter(|known| named.contains(known));
        Ok(Self(ordered.collect()))
    }
}
