//! The geometric median: the vector with the least sum of distances to all updates, by smoothed Weiszfeld steps.
//!
//! Pillutla et al. 2019 (RFA, arXiv 1912.13445), unweighted: `z <- sum_i b_i x_i / sum_i b_i`, `b_i = 1 / max(nu, |x_i - z|)`. RFA
//! starts at the mean, from which each pass comes nearer by about `f / (n - f)`, the hostile over the others: with two of five
//! far away that is slow. This starts at the coordinate-wise median, which is among the honest values already.
//!
//! A pass reads the updates once and keeps nothing but their distances: where the step leads is known block by block.

use pulp::{Arch, Simd, WithSimd};

use crate::encoded::ReadAt;

use super::columns::{Columns, Stretch, Unusable};
use super::distance::squared_distance;
use super::median;
use super::robust::Outcome;

/// Distances below this count as this: at an update itself the step would not be defined.
const NU: f64 = 1e-6;

/// The geometric median of the updates, after this many steps from their median.
pub(super) fn apply<R: ReadAt>(columns: &Columns<'_, R>, passes: u32) -> Result<Outcome, Unusable> {
    let mut outcome = median::apply(columns)?;
    for _ in 0..passes {
        let weights: Vec<_> = outcome
            .distances
            .iter()
            .map(|distance| 1.0 / distance.max(NU))
            .collect();
        let total: f64 = weights.iter().sum();
        let shares: Vec<_> = weights.iter().map(|weight| weight / total).collect();
        let squares = columns.pass(
            &mut outcome.update,
            Vec::new,
            |mean, stretch, out, squares| {
                mean.clear();
                mean.resize(out.len(), 0.0);
                weighted_mean(stretch, &shares, mean);
                for (out, &mean) in out.iter_mut().zip(mean.iter()) {
                    *out = mean as f32;
                }
                for (row, square) in squares.iter_mut().enumerate() {
                    *square = squared_distance(stretch.row(row), mean.as_slice());
                }
            },
        )?;
        outcome = Outcome::of_all(outcome.update, &squares);
    }
    Ok(outcome)
}

/// Adds up the rows by their shares.
fn weighted_mean(stretch: Stretch<'_>, shares: &[f64], mean: &mut [f64]) {
    struct Add<'a>(Stretch<'a>, &'a [f64], &'a mut [f64]);
    impl WithSimd for Add<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Self(stretch, shares, mean) = self;
            for (row, &share) in shares.iter().enumerate() {
                for (mean, &value) in mean.iter_mut().zip(stretch.row(row)) {
                    *mean += share * f64::from(value);
                }
            }
        }
    }
    Arch::new().dispatch(Add(stretch, shares, mean));
}
