//! The trimmed mean: of each value the `trim` lowest and `trim` highest are left out, and the mean of the others is taken.
//!
//! Yin et al. 2018 (arXiv 1803.01498). Up to `trim` participants, whatever they send, cannot move a value out of the range of
//! the others'.

use crate::encoded::ReadAt;

use super::columns::{Columns, Unusable};
use super::median::by_ranks;
use super::ranks::{Keys, LANES, OfRanks, value};
use super::robust::Outcome;

#[derive(Clone, Copy, Debug)]
struct Trimmed {
    trim: usize,
}

impl OfRanks for Trimmed {
    #[inline(always)]
    fn fill(self, sorted: &Keys, out: &mut [f32]) {
        let kept = &sorted[self.trim..sorted.len() - self.trim];
        let mut sums = [0.0_f64; LANES];
        for keys in kept {
            for (sum, &key) in sums.iter_mut().zip(keys) {
                *sum += f64::from(value(key));
            }
        }
        let count = kept.len() as f64;
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = (sum / count) as f32;
        }
    }
}

/// The trimmed mean of more than `2 * trim` updates.
pub(super) fn apply<R: ReadAt>(columns: &Columns<'_, R>, trim: usize) -> Result<Outcome, Unusable> {
    by_ranks(columns, Trimmed { trim })
}
