//! Arguments of a training on this machine.

use std::{num::NonZeroU64, path::PathBuf};

use clap::Args;
use finetune::{model::Checkpointing, schedule::Schedule};

use super::{LoraArguments, ModelArguments, PrivateArguments};

/// Trains an adapter alone, on this machine only
///
/// This is the baseline for everything federated: the same recipe, data order and optimizer, without the other institutions.
#[derive(Debug, Args)]
pub(in crate::cli) struct TrainArguments {
    #[command(flatten)]
    pub(in crate::cli) model: ModelArguments,
    /// Training text: one JSON record per line ({"text"}, {"prompt","completion"} or {"messages"})
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) data: PathBuf,
    /// Held-out text; evaluated before and after
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) eval: Option<PathBuf>,
    /// Folder to write the adapter to (PEFT format); it may contain nothing but an earlier adapter
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) out: PathBuf,
    /// Adapter to start from, instead of a fresh one; its rank, scale and modules then apply
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) start: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) lora: LoraArguments,
    #[command(flatten)]
    pub(in crate::cli) recipe: RecipeArguments,
    #[command(flatten)]
    pub(in crate::cli) private: PrivateArguments,
    /// Anchor (from `foedus-client fisher`) that pulls the adapter back to what the base knew
    #[arg(long, value_name = "FILE", requires = "lambda")]
    pub(in crate::cli) anchor: Option<PathBuf>,
    /// Strength of the anchor; 0.1 to 3 is the useful range
    #[arg(long, requires = "anchor")]
    pub(in crate::cli) lambda: Option<f64>,
    /// Evaluate the held-out text after every so many steps
    #[arg(long, value_name = "STEPS", requires = "eval")]
    pub(in crate::cli) eval_every: Option<NonZeroU64>,
    /// Stop early after so many evaluations without a lower loss, and keep the adapter with the lowest loss
    #[arg(long, value_name = "EVALUATIONS", requires = "eval_every")]
    pub(in crate::cli) patience: Option<NonZeroU64>,
    /// File for the state of the training; the same command, run again, resumes from it exactly. Removed once the adapter is written
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) checkpoint: Option<PathBuf>,
    /// Write the checkpoint after every so many steps
    #[arg(
        long,
        value_name = "STEPS",
        default_value = "50",
        requires = "checkpoint"
    )]
    pub(in crate::cli) checkpoint_every: NonZeroU64,
    /// Print the result as one line of JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// The hyper-parameters of a training.
#[derive(Debug, Args)]
pub(in crate::cli) struct RecipeArguments {
    /// Optimizer steps [default: three passes over the data]
    #[arg(long)]
    pub(in crate::cli) steps: Option<u64>,
    /// Peak learning rate
    #[arg(long, default_value_t = 2e-4)]
    pub(in crate::cli) learning_rate: f64,
    /// Course of the learning rate after the warm-up: constant, linear or cosine
    #[arg(long, default_value = "linear")]
    pub(in crate::cli) schedule: Schedule,
    /// Steps of linear warm-up
    #[arg(long, default_value_t = 0)]
    pub(in crate::cli) warmup_steps: u64,
    /// Examples in one forward and backward pass
    #[arg(long, default_value_t = 4)]
    pub(in crate::cli) batch_examples: usize,
    /// Passes in one optimizer step
    #[arg(long, default_value_t = 1)]
    pub(in crate::cli) accumulation: usize,
    /// Longest example in tokens; longer ones are cut
    #[arg(long, default_value_t = 512)]
    pub(in crate::cli) max_tokens: usize,
    /// Largest norm of the gradient
    #[arg(long, default_value_t = 1.0)]
    pub(in crate::cli) clip_norm: f64,
    /// Decoupled weight decay
    #[arg(long, default_value_t = 0.0)]
    pub(in crate::cli) weight_decay: f64,
    /// Seed of everything random: fresh factors, data order, dropout
    #[arg(long, default_value_t = 0)]
    pub(in crate::cli) seed: u64,
    /// What to recompute in the backward pass: none, or block for less memory and a third more time; the result is the same
    #[arg(long, default_value = "none", value_name = "KIND")]
    pub(in crate::cli) activation_checkpointing: Checkpointing,
}
