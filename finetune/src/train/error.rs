//! What can end a training, each with the place to look at.

use std::path::PathBuf;

use crate::{model::ModelError, privacy::PrivateRecipeError, recipe::RecipeError};

/// A training that cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The recipe itself is out of bounds.
    #[error("the training recipe cannot be used: {0}")]
    Recipe(#[from] RecipeError),
    /// The private part of it is out of bounds.
    #[error("the training recipe cannot be used: {0}")]
    Private(#[from] PrivateRecipeError),
    /// There is nothing to train on.
    #[error("{source_name} holds no example to train on")]
    NoExamples {
        /// Where the data set came from.
        source_name: String,
    },
    /// The examples of a step have no token that contributes to the loss.
    #[error("no token of step {step} contributes to the loss: look at {lines}")]
    NoTargets {
        /// The step of the run, from 0.
        step: u64,
        /// Source and line numbers of the step's examples.
        lines: SourceLines,
    },
    /// The loss or the gradient of a step is not finite.
    #[error(
        "training diverged at step {step}: the {what} is {found}; look at {lines}, or lower the learning rate"
    )]
    Diverged {
        /// The step of the run, from 0.
        step: u64,
        /// "loss" or "gradient norm".
        what: &'static str,
        /// Its value.
        found: f64,
        /// Source and line numbers of the batch's examples.
        lines: SourceLines,
    },
    /// A later round brought an adapter of another layout than the first one.
    #[error("the adapter's layout is not the one that this training began with")]
    OtherLayout,
    /// The anchor was bound to another layout than the adapter's.
    #[error("the anchor was bound to another layout than the adapter's")]
    OtherAnchor,
    /// The model could not compute.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Examples of a data set, named as a person would look for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLines {
    /// The file, or what stands for one.
    pub source: PathBuf,
    /// Line numbers from 1, in the order of the batch.
    pub lines: Vec<usize>,
}

impl std::fmt::Display for SourceLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let noun = if self.lines.len() == 1 {
            "line"
        } else {
            "lines"
        };
        let lines: Vec<String> = self.lines.iter().map(ToString::to_string).collect();
        write!(f, "{} {noun} {}", self.source.display(), lines.join(", "))
    }
}
