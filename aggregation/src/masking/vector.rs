//! From an update to a vector of ring elements, and to the bytes in which it travels.
//!
//! The vector has the update's values times its weight, then the weight, then how many values were cut off. The weight is in the
//! vector so that the server learns no institution's number of examples either.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::ring::{FixedRing, Ring};
use crate::adapter::squared_norm;

/// Coordinates after the values: the weight and the count of values that were cut off.
pub(super) const EXTRA: usize = 2;
/// Values encoded by one task at a time: with what they become they stay in a core's first cache, or nearly.
pub(super) const BLOCK: usize = 1 << 13;
/// `1.5 * 2^52`: adding it to an f64 rounds that to an integer, ties to even, which then stands in the low bits.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// An update in the ring.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// The elements.
    pub elements: Vec<u32>,
    /// Values that were cut off at the largest magnitude.
    pub cut_off: u64,
    /// By what the update was multiplied to keep its norm within the bound; 1 if it was within.
    pub shrunk_by: f64,
}

/// An update that cannot be encoded. Its maker's fault.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// A value is NaN or infinite.
    #[error("the update has a value that is not finite at index {index}")]
    NotFinite {
        /// Its place among all values.
        index: usize,
    },
    /// No examples, or no limit to them.
    #[error("the update has weight {found}; it must be at least 1, and its limit too")]
    Weight {
        /// The weight.
        found: u64,
    },
}

impl FixedRing {
    /// How many elements the vector of so many values has.
    pub fn elements(&self, parameters: usize) -> usize {
        parameters + EXTRA
    }

    /// How many bytes the vector of so many values has.
    pub fn vector_bytes(&self, parameters: usize) -> usize {
        self.elements(parameters) * self.ring().width()
    }

    /// Puts an update into the ring.
    ///
    /// A norm over `norm_max` is shrunk to it, and a value over the largest magnitude is cut off there: the server cannot refuse what it
    /// does not see. A weight over `weight_max` counts as that.
    ///
    /// # Units
    /// Weights count training examples.
    ///
    /// # Errors
    /// [`EncodeError`]; nothing of such an update may travel.
    pub fn encode(
        &self,
        values: &[f32],
        (weight, weight_max): (u64, u64),
        norm_max: f64,
    ) -> Result<Encoded, EncodeError> {
        if weight == 0 || weight_max == 0 {
            return Err(EncodeError::Weight { found: weight });
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(EncodeError::NotFinite { index });
        }
        let scaling = self.scaling(norm(values), (weight, weight_max), norm_max);
        let mut elements = vec![0; self.elements(values.len())];
        let (of_values, extra) = elements.split_at_mut(values.len());
        let ring = self.ring();
        let cut_off = of_values
            .par_chunks_mut(BLOCK)
            .zip(values.par_chunks(BLOCK))
            .map(|(elements, values)| encode_block(ring, elements, values, &scaling))
            .sum::<u64>();
        extra.copy_from_slice(&scaling.extra(self, cut_off));
        Ok(Encoded {
            elements,
            cut_off,
            shrunk_by: scaling.shrunk_by,
        })
    }

    /// How an update of this norm and weight is put into the ring.
    pub(super) fn scaling(
        &self,
        norm: f64,
        (weight, weight_max): (u64, u64),
        norm_max: f64,
    ) -> Scaling {
        let shrunk_by = if norm_max < norm {
            norm_max / norm
        } else {
            1.0
        };
        let share = weight.min(weight_max) as f64 / weight_max as f64;
        // At least one step: an institution with few examples still counts.
        let weight = (share * f64::from(self.one())).round_ties_even().max(1.0);
        Scaling {
            shrunk_by,
            weight,
            scale: shrunk_by * weight / self.value_max(),
        }
    }

    /// The vector that lies in these bytes; what is left over at the end is no element.
    pub fn from_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        let (ring, width) = (self.ring(), self.ring().width());
        bytes
            .par_chunks_exact(width)
            .with_min_len(BLOCK)
            .map(|word| ring.read(word))
            .collect()
    }

    /// The bytes in which a vector travels: little-endian words of the ring's width.
    pub fn to_bytes(&self, elements: &[u32]) -> Vec<u8> {
        let width = self.ring().width();
        let mut bytes = vec![0; elements.len() * width];
        let blocks = bytes.par_chunks_mut(BLOCK * width);
        blocks
            .zip(elements.par_chunks(BLOCK))
            .for_each(|(bytes, elements)| write_block(self.ring(), bytes, elements));
        bytes
    }
}

/// What the values of an update are multiplied by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scaling {
    /// The share that keeps the norm within its bound.
    pub(super) shrunk_by: f64,
    /// The weight in steps, which is also the largest magnitude.
    weight: f64,
    /// All factors together.
    scale: f64,
}

impl Scaling {
    /// What stands behind the values.
    pub(super) fn extra(&self, fixed: &FixedRing, cut_off: u64) -> [u32; EXTRA] {
        let count = u32::try_from(cut_off).unwrap_or(u32::MAX);
        [self.weight as u32, count.min(fixed.count_max())]
    }
}

/// Writes elements as little-endian words of the ring's width.
pub(super) fn write_block(ring: Ring, bytes: &mut [u8], elements: &[u32]) {
    if ring == Ring::Bits32 {
        for (bytes, element) in bytes.as_chunks_mut().0.iter_mut().zip(elements) {
            *bytes = element.to_le_bytes();
        }
        return;
    }
    let width = ring.width();
    for (bytes, element) in bytes.chunks_exact_mut(width).zip(elements) {
        bytes.copy_from_slice(&element.to_le_bytes()[..width]);
    }
}

/// Encodes some values and tells how many were cut off.
pub(super) fn encode_block(
    ring: Ring,
    elements: &mut [u32],
    values: &[f32],
    scaling: &Scaling,
) -> u64 {
    struct Encode<'a>(Ring, &'a mut [u32], &'a [f32], f64, f64);
    impl WithSimd for Encode<'_> {
        type Output = u64;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> u64 {
            let Self(ring, elements, values, scale, most) = self;
            let mut cut_off = 0_u64;
            for (element, &value) in elements.iter_mut().zip(values) {
                let exact = f64::from(value) * scale;
                cut_off += u64::from(most < exact.abs());
                *element = ring.of_signed(nearest(exact.clamp(-most, most)));
            }
            cut_off
        }
    }
    let Scaling { scale, weight, .. } = *scaling;
    Arch::new().dispatch(Encode(ring, elements, values, scale, weight))
}

/// The nearest integer, ties to even, of a magnitude below `2^31`.
#[inline(always)]
fn nearest(value: f64) -> i32 {
    (value + ROUNDER).to_bits() as i32
}

/// The Euclidean norm, in a fixed order of additions.
fn norm(values: &[f32]) -> f64 {
    let squares: Vec<f64> = values.par_chunks(BLOCK).map(squared_norm).collect();
    squares.iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// c = 0.5 and m = 20.
    fn fixed() -> FixedRing {
        FixedRing::for_bounds(Ring::Bits32, 2000, 0.5).unwrap()
    }

    #[test]
    fn known_values_have_known_elements() {
        assert_eq!(fixed().fraction_bits(), 20);
        let encoded = fixed().encode(&[0.1, -0.25, 0.7], (7, 7), 10.0).unwrap();
        assert_eq!(
            encoded.elements,
            [209_715, 4_294_443_008, 1_048_576, 1_048_576, 1]
        );
        assert_eq!((encoded.cut_off, encoded.shrunk_by), (1, 1.0));
        let bytes = fixed().to_bytes(&encoded.elements);
        assert_eq!(bytes.len(), fixed().vector_bytes(3));
        assert_eq!(fixed().from_bytes(&bytes), encoded.elements);
        assert_eq!(bytes[..8], [0x33, 0x33, 3, 0, 0, 0, 0xf8, 0xff]);
    }

    #[test]
    fn a_lower_weight_scales_values_and_the_weight_alike() {
        let half = fixed().encode(&[0.5, -0.5], (50, 100), 10.0).unwrap();
        assert_eq!(half.elements, [524_288, 4_294_443_008, 524_288, 0]);
        let over = fixed().encode(&[0.5, -0.5], (1000, 100), 10.0).unwrap();
        assert_eq!(over.elements[2], 1_048_576);
        let least = fixed().encode(&[0.5], (1, u64::MAX), 10.0).unwrap();
        assert_eq!(least.elements, [1, 1, 0]);
    }

    #[test]
    fn a_norm_over_the_bound_is_shrunk_to_it() {
        let encoded = fixed().encode(&[0.375, 0.5], (1, 1), 0.3125).unwrap();
        assert_eq!(encoded.shrunk_by, 0.5);
        let exact = fixed().encode(&[0.1875, 0.25], (1, 1), 0.3125).unwrap();
        assert_eq!(encoded.elements, exact.elements);
    }

    #[test]
    fn what_is_not_finite_or_has_no_weight_is_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = fixed().encode(&[0.0, bad], (1, 1), 1.0).unwrap_err();
            assert_eq!(error, EncodeError::NotFinite { index: 1 });
        }
        let error = fixed().encode(&[0.0], (0, 1), 1.0).unwrap_err();
        assert_eq!(error, EncodeError::Weight { found: 0 });
    }

    #[test]
    fn integers_round_to_nearest_and_ties_to_even() {
        let found = [0.5, 1.5, -2.5, 2.4999, -1e9, 1_073_741_823.5].map(nearest);
        assert_eq!(found, [0, 2, -2, 2, -1_000_000_000, 1_073_741_824]);
    }
}
