//! The coordinate-wise median: of each value the middle one of all participants'.
//!
//! Yin et al. 2018 (arXiv 1803.01498). Of an even number the mean of the two middle ones. Fewer than half of the participants,
//! whatever they send, cannot move a value out of the range of the others'.

use crate::encoded::ReadAt;

use super::columns::{Columns, Unusable};
use super::distance::squared_distance;
use super::ranks::{Keys, Network, OfRanks, of_ranks, value};
use super::robust::Outcome;

/// The middle of sorted rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Middle;

impl OfRanks for Middle {
    #[inline(always)]
    fn fill(self, sorted: &Keys, out: &mut [f32]) {
        let (low, high) = (&sorted[(sorted.len() - 1) / 2], &sorted[sorted.len() / 2]);
        for ((out, &low), &high) in out.iter_mut().zip(low).zip(high) {
            // In f64 the sum of two f32 neither overflows nor leaves their range.
            *out = ((f64::from(value(low)) + f64::from(value(high))) / 2.0) as f32;
        }
    }
}

/// The median of the updates.
pub(super) fn apply<R: ReadAt>(columns: &Columns<'_, R>) -> Result<Outcome, Unusable> {
    by_ranks(columns, Middle)
}

/// What each column's ranks come to, and how far each update is from that.
pub(super) fn by_ranks<R: ReadAt>(
    columns: &Columns<'_, R>,
    made: impl OfRanks,
) -> Result<Outcome, Unusable> {
    let network = Network::new(columns.rows());
    let mut update = vec![0.0; columns.columns()];
    let squares = columns.pass(&mut update, Vec::new, |keys, stretch, out, squares| {
        of_ranks(stretch, &network, keys, made, out);
        for (row, square) in squares.iter_mut().enumerate() {
            *square = squared_distance(stretch.row(row), out);
        }
    })?;
    Ok(Outcome::of_all(update, &squares))
}
