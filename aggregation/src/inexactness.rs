//! How inexact it is to average `A` and `B` apart instead of averaging `B * A`.
//!
//! LoRA is bilinear, so the product of the means is not the mean of the products. The difference
//! is a covariance (algorithms.md 1.2), which depends on the updates only:
//! `sum_i w_i B_i A_i - B A = sum_i w_i dB_i dA_i - dB dA`, with `B_i = B_global + dB_i`, bars left
//! out. So the one thing to keep while updates stream past is `sum_i w_i dB_i dA_i`, and that only as
//! a sketch: `Y M X` with 16 random buckets on either side of each module's matrix `M`, so 256
//! numbers a module, whose squares add up to `|M|_F^2` in expectation. The result is an estimate: over the tens of
//! modules of a real model it is within a few percent; with one module of rank one allow for a half.
//!
//! Sketches are summed as integers too, so the estimate does not depend on order either.

mod buckets;

use std::sync::Arc;

use rayon::prelude::*;

use self::buckets::{BUCKETS, Buckets};
use crate::adapter::Adapter;
use crate::gram::{Term, product_norm_squared};
use crate::layout::AdapterLayout;

/// The measured error computed from all factors at once, for tests and small runs.
///
/// `updates` are differences to `global` with their weights; the result is what
/// [`FedAvg::inexactness`](crate::strategy::fedavg::FedAvg::inexactness) estimates. Costs
/// `O(n^2 rank^2 (in + out))` a module and keeps all updates in memory.
///
/// # Panics
/// If layouts differ or the weights sum to zero.
pub fn exact(global: &Adapter, updates: &[(&Adapter, u64)]) -> f64 {
    let layout = global.layout();
    let total: f64 = updates.iter().map(|&(_, weight)| weight as f64).sum();
    assert!(total > 0.0, "the weights sum to zero");
    assert!(
        updates.iter().all(|(update, _)| update.same_layout(global)),
        "layouts differ"
    );
    let weights: Vec<f64> = updates
        .iter()
        .map(|&(_, weight)| weight as f64 / total)
        .collect();
    let mean = |values: &dyn Fn(&Adapter) -> Vec<f64>| -> Vec<f64> {
        let mut sum = vec![0.0; values(global).len()];
        for ((update, _), weight) in updates.iter().zip(&weights) {
            let values = values(update);
            sum.iter_mut()
                .zip(values)
                .for_each(|(sum, value)| *sum += weight * value);
        }
        sum
    };
    let widen = |values: &[f32]| -> Vec<f64> { values.iter().copied().map(f64::from).collect() };
    let (mut error, mut ideal) = (0.0, 0.0);
    for module in 0..layout.modules().len() {
        let factors: Vec<_> = updates
            .iter()
            .map(|(update, _)| (widen(update.a(module)), widen(update.b(module))))
            .collect();
        let mean_a = mean(&|update| widen(update.a(module)));
        let mean_b = mean(&|update| widen(update.b(module)));
        let (full_a, full_b) = (
            add(&widen(global.a(module)), &mean_a),
            add(&widen(global.b(module)), &mean_b),
        );
        let mut terms: Vec<_> = factors
            .iter()
            .zip(&weights)
            .map(|((a, b), &weight)| Term {
                weight,
                a: a.as_slice(),
                b: b.as_slice(),
            })
            .collect();
        terms.push(Term {
            weight: -1.0,
            a: &mean_a,
            b: &mean_b,
        });
        error += product_norm_squared(&terms, layout.rank());
        terms.push(Term {
            weight: 1.0,
            a: &full_a,
            b: &full_b,
        });
        ideal += product_norm_squared(&terms, layout.rank());
    }
    ratio(error, ideal)
}

/// `Y (sum_i w_i dB_i dA_i) X` for the random buckets `X`, `Y` of every module.
#[derive(Debug, Clone)]
pub(crate) struct ProductSketch {
    layout: Arc<AdapterLayout>,
    buckets: Arc<Buckets>,
    /// One matrix a module, in units of `1 / scale`.
    sums: Vec<Sums>,
    scale: f64,
}

/// A sketch as it is summed.
type Sums = [[i128; BUCKETS]; BUCKETS];

impl ProductSketch {
    pub(crate) fn new(layout: Arc<AdapterLayout>, norm_max: f64) -> Self {
        let buckets = Arc::new(Buckets::new(&layout));
        let sums = vec![[[0; BUCKETS]; BUCKETS]; layout.modules().len()];
        let widths = layout
            .modules()
            .iter()
            .map(|m| m.in_features * m.out_features);
        // |y dB dA x| <= |y| |dB| |dA| |x| <= norm^2 / 2 * sqrt(in * out); the factor two is left as
        // slack for rounding. Entries then stay below 2^62, their weighted sum below 2^(62 + 53).
        let bound = norm_max * norm_max * (widths.max().unwrap_or(1) as f64).sqrt();
        let scale = (62.0 - bound.log2().ceil()).exp2();
        Self {
            layout,
            buckets,
            sums,
            scale,
        }
    }

    /// The sketch of each module in order, to be added to by different threads.
    pub(crate) fn modules(&mut self) -> impl IndexedParallelIterator<Item = ModuleSketch<'_>> {
        let (layout, buckets, scale) = (&self.layout, &self.buckets, self.scale);
        let sums = self.sums.par_iter_mut().enumerate();
        sums.map(move |(module, sums)| ModuleSketch {
            buckets,
            module,
            split: layout.a_range(module).len(),
            sums,
            scale,
        })
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let pairs = self
            .sums
            .as_flattened_mut()
            .iter_mut()
            .zip(other.sums.as_flattened());
        for (sums, other) in pairs {
            sums.iter_mut()
                .zip(other)
                .for_each(|(sum, other)| *sum += other);
        }
    }

    /// The estimate, given the adapter before the round and the mean update.
    pub(crate) fn relative_error(&self, global: &Adapter, mean: &Adapter, total: u64) -> f64 {
        assert_eq!(
            &self.layout,
            global.layout(),
            "the global adapter has another layout"
        );
        let mut sketch = self.clone();
        let modules = sketch.modules().enumerate().map(|(module, sketch)| {
            let range = self.layout.module_range(module);
            let mean = &mean.values()[range.clone()];
            let before = global.values()[range].iter();
            let next: Vec<f32> = before
                .zip(mean)
                .map(|(before, mean)| before + mean)
                .collect();
            sketch.parts(mean, &next, total)
        });
        // Summed in order: the estimate does not depend on the number of cores.
        let modules: Vec<(f64, f64)> = modules.collect();
        relative(modules)
    }
}

/// The relative error of all modules together, from the parts of each in order.
pub(crate) fn relative(modules: impl IntoIterator<Item = (f64, f64)>) -> f64 {
    let sum = |sum: (f64, f64), module: (f64, f64)| (sum.0 + module.0, sum.1 + module.1);
    let (error, ideal) = modules.into_iter().fold((0.0, 0.0), sum);
    ratio(error, ideal)
}

/// The sketch of one module's sum.
pub(crate) struct ModuleSketch<'a> {
    buckets: &'a Buckets,
    module: usize,
    /// Where the module's `B` begins, behind its `A`.
    split: usize,
    sums: &'a mut Sums,
    scale: f64,
}

impl ModuleSketch<'_> {
    /// Adds `weight` times the product of one update's factors.
    pub(crate) fn add(&mut self, values: &[f32], weight: u64) {
        let sketch = self.of(values);
        let sums = self.sums.as_flattened_mut().iter_mut();
        for (sum, value) in sums.zip(sketch.as_flattened()) {
            *sum += i128::from((value * self.scale) as i64) * i128::from(weight);
        }
    }

    /// The module's squared error and ideal, given its mean update and the adapter after the round.
    pub(crate) fn parts(&self, mean: &[f32], next: &[f32], total: u64) -> (f64, f64) {
        let (separate, full) = (self.of(mean), self.of(next));
        let (mut error, mut ideal) = (0.0, 0.0);
        let products = separate.as_flattened().iter().zip(full.as_flattened());
        for (&sum, (separate, full)) in self.sums.as_flattened().iter().zip(products) {
            let residual = sum as f64 / self.scale / total as f64 - separate;
            error += residual * residual;
            ideal += (full + residual).powi(2);
        }
        (error, ideal)
    }

    /// `Y B A X` of values of this module.
    fn of(&self, values: &[f32]) -> [[f64; BUCKETS]; BUCKETS] {
        let (a, b) = values.split_at(self.split);
        self.buckets.sketch(self.module, a, b)
    }
}

fn add(x: &[f64], y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x + y).collect()
}

/// The square root of a ratio of squares; zero where there is no error to speak of.
fn ratio(error: f64, ideal: f64) -> f64 {
    if error == 0.0 {
        0.0
    } else {
        (error / ideal).sqrt()
    }
}

#[cfg(test)]
mod tests;
