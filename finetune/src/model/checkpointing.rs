//! What a block's forward keeps until its backward.
//!
//! Activation checkpointing trades time for memory (Chen et al. 2016, arXiv 1604.06174): kept inputs only, a block's state
//! is computed again when backward reaches it. Everything is computed again in the same order from the same values, dropout
//! masks included, so that on the CPU the gradient is the same bit for bit.

use std::{fmt, str::FromStr};

use burn::tensor::Tensor;

use super::block::{Block, Pass, Saved};

/// What forward keeps for backward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checkpointing {
    /// The state of every block: about eleven values of the residual width a row and block.
    #[default]
    None,
    /// The input of every block: one value of the residual width, for about a third more time.
    Block,
}

impl fmt::Display for Checkpointing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Block => "block",
        })
    }
}

/// A name that is no kind of checkpointing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no activation checkpointing: write none or block")]
pub struct UnknownCheckpointing {
    /// What was written.
    pub found: String,
}

impl FromStr for Checkpointing {
    type Err = UnknownCheckpointing;

    fn from_str(text: &str) -> Result<Self, UnknownCheckpointing> {
        match text {
            "none" => Ok(Self::None),
            "block" => Ok(Self::Block),
            _ => Err(UnknownCheckpointing {
                found: text.to_owned(),
            }),
        }
    }
}

/// What one block kept.
#[derive(Debug)]
pub(super) enum Kept {
    State(Box<Saved>),
    /// `[rows, hidden]`.
    Input(Box<Tensor<2>>),
}

impl Kept {
    pub(super) fn new(saved: Saved, checkpointing: Checkpointing) -> Self {
        match checkpointing {
            Checkpointing::None => Self::State(Box::new(saved)),
            Checkpointing::Block => Self::Input(Box::new(saved.x_in)),
        }
    }

    /// The state that backward reads.
    pub(super) fn state(self, block: &Block, pass: &Pass<'_>, layer: usize) -> Saved {
        match self {
            Self::State(saved) => *saved,
            Self::Input(x) => block.state(pass, layer, *x),
        }
    }
}
