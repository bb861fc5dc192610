//! A difference of two adapters as it travels in the ring: measured in one pass, made and hashed in another.

use rayon::prelude::*;

use super::hashed::{Hashed, hashed};
use super::ring::{FixedRing, Ring};
use super::vector::{BLOCK, Scaling, encode_block, write_block};
use crate::Adapter;
use crate::adapter::squared_norm;
use crate::error::AdapterError;

/// An update in the ring, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct RingUpdate {
    /// As it travels, if it is not masked, and its digest.
    pub hashed: Hashed,
    /// The Euclidean norm of the values before they were encoded.
    pub norm: f64,
    /// Values that were cut off at the largest magnitude.
    pub cut_off: u64,
    /// By what the update was multiplied to keep its norm within the bound; 1 if it was within.
    pub shrunk_by: f64,
}

impl FixedRing {
    /// An adapter minus `base`, in the ring.
    ///
    /// The bytes of [`Self::encode`] and [`Self::to_bytes`] on [`Adapter::difference`], without a pass over memory for each. A weight of 0
    /// counts as 1, and so does a limit of 0.
    ///
    /// # Units
    /// Weights count training examples.
    ///
    /// # Errors
    /// As [`Adapter::difference`].
    pub fn encode_difference(
        &self,
        (adapter, base): (&Adapter, &Adapter),
        (weight, weight_max): (u64, u64),
        norm_max: f64,
    ) -> Result<RingUpdate, AdapterError> {
        let norm = norm(adapter, base)?;
        let scaling = self.scaling(norm, (weight.max(1), weight_max.max(1)), norm_max);
        let (values, base, width) = (adapter.values(), base.values(), self.ring().width());
        let mut cut_off = 0;
        let hashed = hashed(self.vector_bytes(values.len()), |from, stretch| {
            let first = from / width;
            let here = first.min(values.len())..(first + stretch.len() / width).min(values.len());
            let (of_values, extra) = stretch.split_at_mut(here.len() * width);
            let pairs = values[here.clone()]
                .par_chunks(BLOCK)
                .zip(base[here].par_chunks(BLOCK));
            cut_off += of_values
                .par_chunks_mut(BLOCK * width)
                .zip(pairs)
                .map_init(Scratch::default, |scratch, (bytes, (values, base))| {
                    let (cut, elements) = scratch.encode(self.ring(), (values, base), &scaling);
                    write_block(self.ring(), bytes, elements);
                    cut
                })
                .sum::<u64>();
            // The last stretch ends with the count, when all values have been looked at.
            let behind = scaling.extra(self, cut_off);
            let written = first.saturating_sub(values.len());
            write_block(self.ring(), extra, &behind[written..]);
        });
        Ok(RingUpdate {
            hashed,
            norm,
            cut_off,
            shrunk_by: scaling.shrunk_by,
        })
    }
}

/// A block's values and elements, while they are in a core's cache.
#[derive(Default)]
struct Scratch {
    difference: Vec<f32>,
    elements: Vec<u32>,
}

impl Scratch {
    /// The elements of a block, and how many of its values were cut off.
    fn encode(
        &mut self,
        ring: Ring,
        (values, base): (&[f32], &[f32]),
        scaling: &Scaling,
    ) -> (u64, &[u32]) {
        subtract(&mut self.difference, values, base);
        self.elements.resize(values.len(), 0);
        let cut_off = encode_block(ring, &mut self.elements, &self.difference, scaling);
        (cut_off, &self.elements)
    }
}

fn subtract(difference: &mut Vec<f32>, values: &[f32], base: &[f32]) {
    difference.clear();
    difference.extend(values.iter().zip(base).map(|(value, base)| value - base));
}

/// The norm of the difference, in a fixed order of additions.
fn norm(adapter: &Adapter, base: &Adapter) -> Result<f64, AdapterError> {
    if !adapter.same_layout(base) {
        return Err(AdapterError::LayoutMismatch);
    }
    let blocks = adapter.values().par_chunks(BLOCK);
    let squares: Vec<f64> = blocks
        .zip(base.values().par_chunks(BLOCK))
        .map_init(Vec::new, |difference, (values, base)| {
            subtract(difference, values, base);
            squared_norm(difference)
        })
        .collect();
    let square: f64 = squares.iter().sum();
    if !square.is_finite() {
        // Squares of f32 cannot overflow f64, so a value is not finite: this names the first.
        adapter.difference(base)?;
    }
    Ok(square.sqrt())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::hashed::STRETCH;
    use super::*;
    use crate::{AdapterLayout, ModuleLayout};

    /// Two adapters of so many values.
    fn pair(values: usize) -> (Adapter, Adapter) {
        let module = ModuleLayout {
            name: "model.layers.0.self_attn.q_proj".to_owned(),
            in_features: 1,
            out_features: values - 1,
        };
        let layout = Arc::new(AdapterLayout::new(1, 1.0, false, vec![module]).unwrap());
        let made = |seed: u64| {
            let value = |place: u64| ((place * 7 + seed) % 1009) as f32 / 1009.0 - 0.5;
            let values = (0..values as u64).map(value).collect();
            Adapter::from_values(Arc::clone(&layout), values).unwrap()
        };
        (made(1), made(500))
    }

    #[test]
    fn the_two_passes_give_what_the_single_steps_give_wherever_the_last_stretch_begins() {
        for ring in [Ring::Bits16, Ring::Bits24, Ring::Bits32] {
            let stretch = STRETCH / ring.width();
            let lengths = [
                2,
                BLOCK,
                stretch - 2,
                stretch - 1,
                stretch,
                stretch + 1,
                2 * stretch + 5,
            ];
            for values in lengths {
                let fixed = FixedRing::for_bounds(ring, 3, 0.25).unwrap();
                let (adapter, base) = pair(values);
                let difference = adapter.difference(&base).unwrap();
                for norm_max in [0.7 * difference.norm(), f64::MAX] {
                    let steps = fixed.encode(difference.values(), (5, 9), norm_max).unwrap();
                    let made = fixed
                        .encode_difference((&adapter, &base), (5, 9), norm_max)
                        .unwrap();
                    assert!(
                        made.hashed.bytes == fixed.to_bytes(&steps.elements),
                        "{ring:?} {values}"
                    );
                    assert_eq!(
                        (made.cut_off, made.shrunk_by),
                        (steps.cut_off, steps.shrunk_by)
                    );
                    assert!((made.norm / difference.norm() - 1.0).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn a_difference_that_is_not_finite_is_refused_and_its_place_named() {
        let (mut adapter, base) = pair(70_000);
        adapter.values_mut()[65_000] = f32::NAN;
        let fixed = FixedRing::for_bounds(Ring::Bits32, 3, 0.25).unwrap();
        let said = fixed
            .encode_difference((&adapter, &base), (1, 1), 1.0)
            .unwrap_err();
        assert_eq!(said, adapter.difference(&base).unwrap_err());
        let other = pair(3).1;
        let said = fixed.encode_difference((&adapter, &other), (1, 1), 1.0);
        assert_eq!(said, Err(AdapterError::LayoutMismatch));
    }
}
