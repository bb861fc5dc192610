//! How the frozen weights of a base model are kept.
//!
//! Adapters, optimizer state and norms are f32 whatever is chosen here, and so is everything on the CPU but the stored
//! weights. On another device activations are bf16 unless the base is f32. Int8 and nf4 are for the projections of the
//! decoder; embedding and output head, which suffer more from it, are bf16 beside them.

use std::{fmt, str::FromStr};

use crate::host::Kernels;

/// The stored form of frozen weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BasePrecision {
    /// f32 on the CPU, bf16 elsewhere.
    #[default]
    Auto,
    /// Four bytes a weight.
    F32,
    /// Two bytes a weight.
    Bf16,
    /// One byte a weight and a scale for every 64 (Dettmers et al. 2022, arXiv 2208.07339, in blocks).
    Int8,
    /// Half a byte a weight and a scale for every 64: quantiles of the normal distribution (Dettmers et al. 2023, arXiv
    /// 2305.14314, appendix E).
    Nf4,
}

impl BasePrecision {
    /// What `Auto` stands for.
    pub(crate) fn for_kernels(self, kernels: Kernels) -> Self {
        match (self, kernels) {
            (Self::Auto, Kernels::Host) => Self::F32,
            (Self::Auto, Kernels::Portable) => Self::Bf16,
            (chosen, _) => chosen,
        }
    }

    /// The form of the embedding and the output head beside projections of this one.
    pub(crate) fn for_embedding(self) -> Self {
        match self {
            Self::Int8 | Self::Nf4 => Self::Bf16,
            other => other,
        }
    }
}

impl fmt::Display for BasePrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Nf4 => "nf4",
        })
    }
}

/// A name that is no precision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no base precision: write auto, f32, bf16, int8 or nf4")]
pub struct UnknownPrecision {
    /// What was written.
    pub found: String,
}

impl FromStr for BasePrecision {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, UnknownPrecision> {
        [Self::Auto, Self::F32, Self::Bf16, Self::Int8, Self::Nf4]
            .into_iter()
            .find(|known| known.to_string() == text)
            .ok_or_else(|| UnknownPrecision {
                found: text.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in ["auto", "f32", "bf16", "int8", "nf4"] {
            assert_eq!(name.parse::<BasePrecision>().unwrap().to_string(), name);
        }
        let refused = "fp4".parse::<BasePrecision>().unwrap_err().to_string();
        assert_eq!(
            refused,
            "\"fp4\" is no base precision: write auto, f32, bf16, int8 or nf4"
        );
    }
}
