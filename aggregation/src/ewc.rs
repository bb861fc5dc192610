//! Elastic weight consolidation in the effective weights: forget less of what the base knew.
//!
//! The penalty is `(lambda / 2) * sum_ij F_ij * (s * (B A)_ij)^2` (Kirkpatrick et al. 2017, arXiv
//! 1612.00796; in `delta W` as Xiang et al. 2023, arXiv 2305.10626). In `A` and `B` it would be
//! degenerate: at `B = 0` the Fisher of `A` is zero. The Fisher of a module is kept factored,
//! `F_ij = u_i v_j`, with exact row and column sums, so that all of it costs
//! `O(rank^2 (in + out))` (algorithms.md 2.2 to 2.4). In per-token units `lambda` is a weight on
//! general KL divergence: about 1 is the natural scale.

mod anchor;
pub(crate) mod eigen;
mod fisher;
mod penalty;
mod proximal;

pub use anchor::{Anchor, AnchorError, BoundAnchor, ModuleFisher};
pub use fisher::FisherAccumulator;
pub use penalty::{penalty, penalty_gradient};
pub use proximal::proximal_step;

pub use crate::layout::Factor;
