//! The sections of an experiment, each with its defaults: together the quickstart.

use serde::{Deserialize, Serialize};

/// How much text is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextSection {
    /// Training records per institution, where the text is generated.
    pub train_records: usize,
    /// Held-out records per institution; of a file given with `data` at most a third.
    pub held_out_records: usize,
    /// Longest record in tokens; longer ones are cut.
    pub max_tokens: usize,
    /// Paragraphs of general text the anchor is measured on, at most.
    pub anchor_paragraphs: usize,
    /// Paragraphs of general text forgetting is measured on, at most.
    pub general_paragraphs: usize,
}

impl Default for TextSection {
    fn default() -> Self {
        Self {
            train_records: 16,
            held_out_records: 12,
            max_tokens: 160,
            anchor_paragraphs: 16,
            general_paragraphs: 16,
        }
    }
}

/// The adapter's shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdapterSection {
    /// Rank of the factors.
    pub rank: usize,
    /// The scale is alpha / rank.
    pub alpha: f64,
    /// Share of the adapter's inputs dropped while training.
    pub dropout: f64,
    /// The adapted projections.
    pub target_modules: Vec<String>,
}

impl Default for AdapterSection {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.1,
            target_modules: vec!["q_proj".to_owned(), "v_proj".to_owned()],
        }
    }
}

/// How everybody trains: each institution alone for `rounds * local_steps` steps, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingSection {
    /// Rounds of exchange.
    pub rounds: u32,
    /// Optimizer steps of an institution in a round.
    pub local_steps: u32,
    /// Examples of a step.
    pub batch_examples: u32,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u32,
    /// `constant`, `linear` or `cosine`, over all rounds.
    pub schedule: Course,
    /// Largest norm of a step's gradient.
    pub clip_norm: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Default for TrainingSection {
    fn default() -> Self {
        Self {
            rounds: 8,
            local_steps: 2,
            batch_examples: 3,
            learning_rate: 8e-3,
            warmup_steps: 1,
            schedule: Course::Linear,
            clip_norm: 1.0,
            weight_decay: 0.0,
        }
    }
}

/// The learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Course {
    /// Stays at the peak.
    Constant,
    /// Falls to nought in a straight line.
    Linear,
    /// Falls to nought along half a cosine.
    Cosine,
}

/// The pull toward what the base model knew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EwcSection {
    /// Nats of domain loss given up per nat of divergence on general text.
    pub lambda: f64,
}

impl Default for EwcSection {
    fn default() -> Self {
        Self { lambda: 1.0 }
    }
}

/// Differential privacy by record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrivacySection {
    /// What the run may cost at the institution with the fewest records; the noise follows from it.
    pub epsilon: f64,
    /// At which delta.
    pub delta: f64,
    /// Largest norm of one record's gradient.
    pub clip_norm: f64,
    /// Micro-batches of `training.batch_examples` in a step: private steps want large batches.
    pub accumulation: u32,
    /// Peak learning rate of the private run.
    pub learning_rate: f64,
}

impl Default for PrivacySection {
    fn default() -> Self {
        Self {
            epsilon: 8.0,
            delta: 1e-4,
            clip_norm: 1.0,
            accumulation: 8,
            learning_rate: 1e-3,
        }
    }
}
