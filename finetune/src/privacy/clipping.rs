//! The sum of clipped gradients: every unit contributes a vector of bounded norm.
//!
//! A gradient that is not finite has no norm to be cut to, and contributes zero: were the step given up instead, whoever made the
//! adapter overflow on one chosen token would learn without any noise whether a record has it.

use std::sync::Arc;

use aggregation::{Adapter, AdapterLayout};

use crate::adamw;

/// Clipped gradients of the units so far.
///
/// A unit's gradients come one after another, unit by unit; micro-batches may end in the midst of a unit.
#[derive(Debug)]
pub struct ClippedSum {
    bound: f64,
    sum: Adapter,
    open: Option<OpenUnit>,
    norms: Norms,
}

/// A unit whose gradients are not all there.
#[derive(Debug)]
struct OpenUnit {
    unit: usize,
    /// Times `scale` it is the unit's gradient so far.
    gradient: Adapter,
    scale: f64,
}

/// What clipping did, for the site's own eyes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Norms {
    /// Units summed.
    pub units: u64,
    /// Of these, how many were cut.
    pub clipped: u64,
    /// Of these, how many contributed nothing because their gradient is not finite.
    pub not_finite: u64,
    /// The largest finite norm before clipping.
    pub largest: f64,
}

impl ClippedSum {
    /// Makes the sum of nothing; no unit will contribute more than `bound` in norm.
    pub fn new(layout: &Arc<AdapterLayout>, bound: f64) -> Self {
        Self {
            bound,
            sum: Adapter::zeros(Arc::clone(layout)),
            open: None,
            norms: Norms::default(),
        }
    }

    /// Adds `scale` times a gradient to a unit's.
    ///
    /// # Panics
    /// If the gradient has another layout: a caller's mistake.
    pub fn add(&mut self, unit: usize, gradient: Adapter, scale: f64) {
        match &mut self.open {
            Some(open) if open.unit == unit => {
                for (sum, &part) in open.gradient.values_mut().iter_mut().zip(gradient.values()) {
                    *sum = (f64::from(*sum) * open.scale + f64::from(part) * scale) as f32;
                }
                open.scale = 1.0;
            }
            _ => {
                self.close();
                assert_eq!(
                    gradient.values().len(),
                    self.sum.values().len(),
                    "gradients have the adapter's layout"
                );
                self.open = Some(OpenUnit {
                    unit,
                    gradient,
                    scale,
                });
            }
        }
    }

    /// Ends the last unit, and gives the sum.
    pub fn finish(mut self) -> (Adapter, Norms) {
        self.close();
        (self.sum, self.norms)
    }

    fn close(&mut self) {
        let Some(OpenUnit {
            gradient, scale, ..
        }) = self.open.take()
        else {
            return;
        };
        let norm = adamw::norm(gradient.values()) * scale.abs();
        self.norms.units += 1;
        if !norm.is_finite() {
            self.norms.not_finite += 1;
            return;
        }
        let factor = scale * clip_factor(norm, self.bound);
        for (sum, &part) in self.sum.values_mut().iter_mut().zip(gradient.values()) {
            *sum += (f64::from(part) * factor) as f32;
        }
        self.norms.clipped += u64::from(norm > self.bound);
        self.norms.largest = self.norms.largest.max(norm);
    }
}

/// Gives what a gradient of this norm is multiplied by: one, or what brings its norm to the bound.
fn clip_factor(norm: f64, bound: f64) -> f64 {
    if norm > bound { bound / norm } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use aggregation::ModuleLayout;
    use proptest::prelude::*;

    use super::*;

    /// One module of a rank-1 adapter: two values, one in each factor.
    fn layout() -> Arc<AdapterLayout> {
        let module = ModuleLayout {
            name: "model.layers.0.self_attn.q_proj".to_owned(),
            in_features: 1,
            out_features: 1,
        };
        Arc::new(AdapterLayout::new(1, 1.0, false, vec![module]).unwrap())
    }

    fn gradient(a: f32, b: f32) -> Adapter {
        Adapter::from_values(layout(), vec![a, b]).unwrap()
    }

    #[test]
    fn long_gradient_is_cut_over_both_factors_together_and_a_short_one_is_left_alone() {
        let mut sum = ClippedSum::new(&layout(), 1.0);
        sum.add(0, gradient(3.0, 4.0), 1.0);
        sum.add(1, gradient(0.3, 0.4), 1.0);
        let (sum, norms) = sum.finish();
        let [a, b] = sum.values() else {
            panic!("two values")
        };
        assert!((a - 0.9).abs() < 1e-6 && (b - 1.2).abs() < 1e-6, "{a} {b}");
        assert_eq!((norms.units, norms.clipped, norms.largest), (2, 1, 5.0));
    }

    #[test]
    fn gradients_of_one_unit_are_clipped_as_one() {
        let mut sum = ClippedSum::new(&layout(), 1.0);
        // The mean of (6, 0) and (0, 8) is (3, 4).
        sum.add(4, gradient(6.0, 0.0), 0.5);
        sum.add(4, gradient(0.0, 8.0), 0.5);
        sum.add(9, gradient(0.0, 0.5), 1.0);
        let (sum, norms) = sum.finish();
        let [a, b] = sum.values() else {
            panic!("two values")
        };
        assert!((a - 0.6).abs() < 1e-6 && (b - 1.3).abs() < 1e-6, "{a} {b}");
        assert_eq!(norms.units, 2);
    }

    #[test]
    fn gradient_that_is_not_finite_is_counted_and_contributes_nothing() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut sum = ClippedSum::new(&layout(), 1.0);
            sum.add(0, gradient(1.0, 0.0), 1.0);
            let mut broken = gradient(0.0, 0.0);
            broken.values_mut()[0] = value;
            sum.add(1, broken.clone(), 1.0);
            // The whole unit, whichever of its records it is.
            sum.add(2, gradient(0.0, 1.0), 0.5);
            sum.add(2, broken, 0.5);
            sum.add(3, gradient(1.0, 0.0), 1.0);
            let (sum, norms) = sum.finish();
            assert_eq!(sum.values(), [2.0, 0.0]);
            assert_eq!((norms.units, norms.not_finite), (4, 2));
            assert_eq!((norms.clipped, norms.largest), (0, 1.0));
        }
    }

    proptest! {
        #[test]
        fn no_unit_moves_the_sum_by_more_than_the_bound(
            others in proptest::collection::vec((-1e3f32..1e3, -1e3f32..1e3), 0..5),
            a in -1e6f32..1e6, b in -1e6f32..1e6, bound in 0.01..10.0_f64, scale in 0.001..10.0_f64,
        ) {
            let summed = |with: bool| {
                let mut sum = ClippedSum::new(&layout(), bound);
                for (unit, &(a, b)) in others.iter().enumerate() {
                    sum.add(unit, gradient(a, b), scale);
                }
                if with {
                    sum.add(99, gradient(a, b), scale);
                }
                sum.finish().0
            };
            let moved = summed(true).difference(&summed(false)).unwrap().norm();
            prop_assert!(moved <= bound * (1.0 + 1e-5), "{} > {}", moved, bound);
        }
    }
}
