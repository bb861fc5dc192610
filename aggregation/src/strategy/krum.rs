//! Krum and Multi-Krum: the updates that are closest to most of the others.
//!
//! Blanchard et al. 2017 (arXiv 1703.02757). The score of an update is the sum of its squared distances to the `n - f - 2`
//! nearest others; Krum takes the update with the lowest score, Multi-Krum the mean of the `keep` updates with the lowest
//! scores. Of equal scores the one that comes first in the order of names is taken.

use rayon::prelude::*;

use crate::encoded::ReadAt;

use super::columns::{Columns, Unusable, add_in_order};
use super::distance::squared_distance;
use super::robust::Outcome;

/// Bytes of the distances within one block, at most, or those of one stretch.
const SUMS_BYTES: usize = 8 << 20;

/// The mean of the `keep` best updates of at least `2 * byzantine + 3`.
pub(super) fn apply<R: ReadAt>(
    columns: &Columns<'_, R>,
    byzantine: usize,
    keep: usize,
) -> Result<Outcome, Unusable> {
    let distances = Distances::measure(columns)?;
    let used = distances.best(byzantine, keep);
    let chosen = columns.only(&used);
    let mut update = vec![0.0; columns.columns()];
    let count = used.len() as f64;
    chosen.pass(&mut update, Vec::new, |sums, stretch, out, _| {
        sums.clear();
        sums.resize(out.len(), 0.0_f64);
        for row in 0..stretch.rows() {
            for (sum, &value) in sums.iter_mut().zip(stretch.row(row)) {
                *sum += f64::from(value);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = (*sum / count) as f32;
        }
    })?;
    let squares = distances.to_mean_of(&used);
    let left_out = (0..columns.rows()).filter(|row| used.binary_search(row).is_err());
    Ok(Outcome {
        left_out: left_out.collect(),
        ..Outcome::of_all(update, &squares)
    })
}

/// The squared distances of all updates from each other.
#[derive(Debug)]
struct Distances {
    rows: usize,
    /// Of each pair, in the order (0, 1), (0, 2), ... (1, 2), ...
    squares: Vec<f64>,
}

impl Distances {
    fn measure<R: ReadAt>(columns: &Columns<'_, R>) -> Result<Self, Unusable> {
        let rows = columns.rows();
        let pairs: Vec<_> = (0..rows)
            .flat_map(|one| (one + 1..rows).map(move |other| (one, other)))
            .collect();
        let (mut squares, mut sums) = (vec![0.0; pairs.len()], Vec::new());
        // As many stretches at a time as have room for the sums of all their pairs.
        let at_once = (SUMS_BYTES / (pairs.len().max(1) * size_of::<f64>())).max(1);
        columns.blocks(|_, block| {
            for first in (0..block.stretches()).step_by(at_once) {
                let stretches = at_once.min(block.stretches() - first);
                sums.clear();
                sums.resize(stretches * pairs.len(), 0.0);
                sums.par_iter_mut().enumerate().for_each(|(index, sum)| {
                    let stretch = block.stretch(first + index / pairs.len());
                    let (one, other) = pairs[index % pairs.len()];
                    *sum = squared_distance(stretch.row(one), stretch.row(other));
                });
                add_in_order(&mut squares, &sums);
            }
        })?;
        Ok(Self { rows, squares })
    }

    fn between(&self, one: usize, other: usize) -> f64 {
        let (low, high) = (one.min(other), one.max(other));
        if low == high {
            return 0.0;
        }
        // The pairs of the rows before `low`, then those of `low` itself.
        let before = low * (2 * self.rows - low - 1) / 2;
        self.squares[before + high - low - 1]
    }

    fn score(&self, row: usize, byzantine: usize) -> f64 {
        let others = (0..self.rows).filter(|&other| other != row);
        let mut squares: Vec<_> = others.map(|other| self.between(row, other)).collect();
        squares.sort_unstable_by(f64::total_cmp);
        squares[..self.rows - byzantine - 2].iter().sum()
    }

    /// The `keep` updates with the lowest scores, in their own order.
    fn best(&self, byzantine: usize, keep: usize) -> Vec<usize> {
        let mut scored: Vec<_> = (0..self.rows)
            .map(|row| (self.score(row, byzantine), row))
            .collect();
        scored.sort_unstable_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        let mut best: Vec<_> = scored[..keep].iter().map(|one| one.1).collect();
        best.sort_unstable();
        best
    }

    /// The squared distance of each update to the mean of some:
    /// `|x - mean(S)|^2 = mean_s |x - s|^2 - mean_(s, t) |s - t|^2 / 2`.
    fn to_mean_of(&self, some: &[usize]) -> Vec<f64> {
        let count = some.len() as f64;
        let mean = |row| some.iter().map(|&one| self.between(row, one)).sum::<f64>() / count;
        let spread = some.iter().map(|&one| mean(one)).sum::<f64>() / (2.0 * count);
        let squares = (0..self.rows).map(|row| (mean(row) - spread).max(0.0));
        squares.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(points: &[f64]) -> Distances {
        let rows = points.len();
        let pairs = (0..rows).flat_map(|one| (one + 1..rows).map(move |other| (one, other)));
        let squares = pairs.map(|(one, other)| (points[one] - points[other]).powi(2));
        Distances {
            rows,
            squares: squares.collect(),
        }
    }

    #[test]
    fn known_points_have_known_scores() {
        let distances = of(&[0.0, 1.0, 2.0, 10.0, 100.0]);
        let scores: Vec<_> = (0..5).map(|row| distances.score(row, 1)).collect();
        assert_eq!(scores, [5.0, 2.0, 5.0, 145.0, 17704.0]);
        assert_eq!(distances.best(1, 1), [1]);
        // The first two of three best: equal scores go by the order of names.
        assert_eq!(distances.best(1, 2), [0, 1]);
    }

    #[test]
    fn the_corners_of_a_square_tie_and_the_first_is_taken() {
        let corners = [
            (0.0, 0.0),
            (0.0, 1.0),
            (1.0, 0.0),
            (1.0, 1.0),
            (100.0, 100.0),
        ];
        let (x, y) = (of(&corners.map(|c| c.0)), of(&corners.map(|c| c.1)));
        let squares = x.squares.iter().zip(&y.squares).map(|(x, y)| x + y);
        let distances = Distances {
            rows: 5,
            squares: squares.collect(),
        };
        let scores: Vec<_> = (0..5).map(|row| distances.score(row, 1)).collect();
        assert_eq!(scores, [2.0, 2.0, 2.0, 2.0, 39403.0]);
        assert_eq!(distances.best(1, 1), [0]);
    }

    #[test]
    fn distances_to_a_mean_follow_from_those_between_the_updates() {
        let distances = of(&[0.0, 1.0, 2.0, 10.0, 100.0]);
        let found = distances.to_mean_of(&[0, 1, 2]);
        for (found, expected) in found.iter().zip([1.0, 0.0, 1.0, 81.0, 9801.0]) {
            assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
        }
    }
}
