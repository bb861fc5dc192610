//! Accumulates the factored Fisher over examples.
//!
//! For one example with layer inputs `X [T, in]` and output gradients `D [T, out]`, `G = D^T X`, the
//! caller gives the row sums `row_i = sum_j G_ij^2`, the column sums `col_j = sum_i G_ij^2` and the
//! total; none of them needs `G` (algorithms.md 2.2). The gradients must be of one example's summed
//! log-likelihood with labels sampled from the model. Squaring a batch's mean gradient instead is
//! the common mistake: `{+1, -1, +1, -1}` would give 0 instead of 1 (algorithms.md 2.1).

use std::collections::BTreeMap;

use crate::ewc::anchor::{Anchor, AnchorError, ModuleFisher};
use crate::layout::AdapterLayout;

/// Entries above this quantile of their vector are clamped to it.
const CLAMP_QUANTILE: f64 = 0.999;

/// Sums of squared gradients of one module.
#[derive(Debug, Clone)]
struct Sums {
    row: Vec<f64>,
    col: Vec<f64>,
    total: f64,
}

impl Sums {
    fn zeros(out_features: usize, in_features: usize) -> Self {
        Self {
            row: vec![0.0; out_features],
            col: vec![0.0; in_features],
            total: 0.0,
        }
    }

    fn add(&mut self, row: &[f64], col: &[f64], total: f64) {
        self.row
            .iter_mut()
            .zip(row)
            .for_each(|(sum, value)| *sum += value);
        self.col
            .iter_mut()
            .zip(col)
            .for_each(|(sum, value)| *sum += value);
        self.total += total;
    }

    fn is_sound(&self) -> bool {
        let sound = |value: &f64| value.is_finite() && *value >= 0.0;
        sound(&self.total) && self.row.iter().all(sound) && self.col.iter().all(sound)
    }

    fn clear(&mut self) {
        self.row.fill(0.0);
        self.col.fill(0.0);
        self.total = 0.0;
    }
}

/// Row and column sums of the per-example Fisher of every module, in f64.
#[derive(Debug, Clone)]
pub struct FisherAccumulator {
    names: Vec<String>,
    sums: Vec<Sums>,
    /// The example being added, so that it can be dropped as a whole.
    pending: Vec<Sums>,
    tokens: u64,
    examples: u64,
    dropped: u64,
}

impl FisherAccumulator {
    /// Nothing accumulated yet, for the modules of this layout.
    pub fn new(layout: &AdapterLayout) -> Self {
        let modules = layout.modules();
        let sums: Vec<_> = modules
            .iter()
            .map(|m| Sums::zeros(m.out_features, m.in_features))
            .collect();
        Self {
            names: modules.iter().map(|module| module.name.clone()).collect(),
            pending: sums.clone(),
            sums,
            tokens: 0,
            examples: 0,
            dropped: 0,
        }
    }

    /// Adds one module's squared gradient sums of the current example.
    ///
    /// # Shapes
    /// `row` is `[out]`, `col` is `[in]`; both sum to `total`.
    ///
    /// # Panics
    /// If there is no such module or the shapes differ from its layout.
    pub fn add(&mut self, module_index: usize, row: &[f64], col: &[f64], total: f64) {
        let pending = &mut self.pending[module_index];
        assert_eq!(
            (row.len(), col.len()),
            (pending.row.len(), pending.col.len()),
            "wrong widths"
        );
        pending.add(row, col, total);
    }

    /// Ends the current example of this many derived tokens.
    ///
    /// An example with any value that is negative or not finite is dropped as a whole and counted.
    pub fn finish_example(&mut self, tokens: u64) {
        if self.pending.iter().all(Sums::is_sound) {
            for (sums, pending) in self.sums.iter_mut().zip(&self.pending) {
                sums.add(&pending.row, &pending.col, pending.total);
            }
            self.tokens += tokens;
            self.examples += 1;
        } else {
            self.dropped += 1;
        }
        self.pending.iter_mut().for_each(Sums::clear);
    }

    /// Examples accumulated so far.
    pub fn examples(&self) -> u64 {
        self.examples
    }

    /// Examples dropped because a value was not finite.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The anchor: `u = row / sqrt(total)`, `v = col / sqrt(total)`, in per-token units.
    ///
    /// So `u v^T` has the row and column sums of the accumulated Fisher over the number of tokens,
    /// but for entries above the 99.9 % quantile, which are clamped to it.
    ///
    /// # Errors
    /// [`AnchorError::NoExamples`] if no example with at least one token was usable.
    pub fn finish(self, base_fingerprint: [u8; 32]) -> Result<Anchor, AnchorError> {
        if self.tokens == 0 {
            return Err(AnchorError::NoExamples {
                dropped: self.dropped,
            });
        }
        let tokens = self.tokens as f64;
        let modules = self.names.into_iter().zip(&self.sums).map(|(name, sums)| {
            // sqrt(total * tokens) on both sides: F_ij = row_i col_j / total, over tokens.
            let norm = (sums.total * tokens).sqrt();
            let fisher = ModuleFisher {
                u: scaled(&sums.row, norm),
                v: scaled(&sums.col, norm),
            };
            (name, fisher)
        });
        Ok(Anchor {
            base_fingerprint,
            tokens: self.tokens,
            examples: self.examples,
            modules: modules.collect::<BTreeMap<_, _>>(),
        })
    }
}

/// `values / norm` clamped at the quantile; zeros if no gradient reached the module.
fn scaled(values: &[f64], norm: f64) -> Vec<f32> {
    if norm == 0.0 {
        return vec![0.0; values.len()];
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    // Nearest rank: with fewer than a thousand entries this is the largest, and nothing is clamped.
    let place = (sorted.len() as f64 * CLAMP_QUANTILE).ceil() as usize;
    let limit = sorted[place.max(1) - 1];
    values
        .iter()
        .map(|value| (value.min(limit) / norm).min(f64::from(f32::MAX)) as f32)
        .collect()
}

#[cfg(test)]
mod tests;
