//! `[training]` as it is typed.

use serde::{Deserialize, Serialize};

/// How the learning rate runs over the whole run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RawSchedule {
    /// The same rate throughout.
    Constant,
    /// Falls in a straight line to zero.
    Linear,
    /// Falls along half a cosine to zero.
    Cosine,
}

/// `[training]`: what every participant does in a round. Part of the signed plan.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTraining {
    /// Optimizer steps in a round.
    pub local_steps: u32,
    /// Examples in one micro-batch.
    pub batch_examples: u32,
    /// Micro-batches in one optimizer step.
    pub accumulation: u32,
    /// Longest example in tokens.
    pub max_tokens: u32,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Steps of linear warm-up at the start of the run.
    pub warmup_steps: u32,
    /// Course of the rate after the warm-up, over all rounds together.
    pub schedule: RawSchedule,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of one step's mean gradient.
    pub clip_norm: f64,
}

impl Default for RawTraining {
    fn default() -> Self {
        Self {
            local_steps: 20,
            batch_examples: 4,
            accumulation: 1,
            max_tokens: 512,
            learning_rate: 2e-4,
            warmup_steps: 0,
            schedule: RawSchedule::Linear,
            weight_decay: 0.0,
            clip_norm: 1.0,
        }
    }
}
