//! The sum of vectors in the ring: streaming, without seeing a single one, and read only when all masks are off.

use std::io;

use rayon::prelude::*;

use super::mask::MaskSet;
use super::ring::{FixedRing, Ring};
use super::vector::EXTRA;
use crate::encoded::ReadAt;

/// Elements read and added by one task at a time.
const BLOCK: usize = 1 << 14;

/// A sum that grows as vectors arrive. Any order gives the same.
#[derive(Clone, Debug, PartialEq)]
pub struct RingSum {
    fixed: FixedRing,
    elements: Vec<u32>,
    contributors: u32,
}

/// What a sum came to.
#[derive(Clone, Debug, PartialEq)]
pub struct RingMean {
    /// The mean update, weighted.
    pub values: Vec<f32>,
    /// The sum of the weights, each between 0 and 1: a participant at the plan's limit counts 1.
    pub weight: f64,
    /// Values that participants cut off, as far as their counts fit the ring.
    pub cut_off: u64,
}

/// A vector that is not added, or a sum that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RingSumError {
    /// Another length than the run's vectors have.
    #[error("the vector has {found} bytes, those of the run have {expected}")]
    Size {
        /// Its length.
        found: u64,
        /// The length it must have.
        expected: u64,
    },
    /// One more than the fixed point was made for: the sum could overflow.
    #[error("more than {limit} vectors in one sum")]
    TooMany {
        /// Vectors that there may be.
        limit: u32,
    },
    /// The bytes cannot be read. That is not their sender's fault.
    #[error("the vector cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Nothing was added.
    #[error("nothing was added, so there is no mean")]
    Empty,
    /// A coordinate is what no sum of well-formed vectors can be: a mask is still on it, or a participant sent something else.
    #[error(
        "the sum is none of well-formed vectors: coordinate {index} is {found}, and the weights add up to {weight}"
    )]
    Malformed {
        /// Which coordinate.
        index: usize,
        /// What it is.
        found: i32,
        /// The weights' sum.
        weight: i32,
    },
}

impl RingSum {
    /// An empty sum of vectors of so many values.
    pub fn new(fixed: FixedRing, parameters: usize) -> Self {
        Self {
            fixed,
            elements: vec![0; fixed.elements(parameters)],
            contributors: 0,
        }
    }

    /// Adds a vector that lies in bytes, block by block on all cores.
    ///
    /// # Errors
    /// [`RingSumError`]. After [`RingSumError::Read`] the sum must not be used any more; after others it is unchanged.
    pub fn add<R: ReadAt + ?Sized>(&mut self, vector: &R) -> Result<(), RingSumError> {
        let width = self.fixed.ring().width();
        let (found, expected) = (vector.size()?, (self.elements.len() * width) as u64);
        if found != expected {
            return Err(RingSumError::Size { found, expected });
        }
        let limit = self.fixed.participants_max();
        if limit <= self.contributors {
            return Err(RingSumError::TooMany { limit });
        }
        let ring = self.fixed.ring();
        let blocks = self.elements.par_chunks_mut(BLOCK).enumerate();
        blocks.try_for_each_init(
            || vec![0; BLOCK * width],
            |bytes, (block, elements)| {
                let bytes = &mut bytes[..elements.len() * width];
                vector.read_exact_at(bytes, (block * BLOCK * width) as u64)?;
                add_block(ring, elements, bytes);
                Ok::<_, io::Error>(())
            },
        )?;
        self.contributors += 1;
        Ok(())
    }

    /// How many vectors were added.
    pub fn contributors(&self) -> u32 {
        self.contributors
    }

    /// Takes masks off the sum.
    pub fn unmask(&mut self, masks: &MaskSet) {
        masks.take_from(self.fixed.ring(), &mut self.elements);
    }

    /// Looks whether it can be the sum of well-formed vectors.
    ///
    /// # Errors
    /// [`RingSumError::Empty`], or [`RingSumError::Malformed`] if a coordinate is larger than the weights allow.
    pub fn check(&self) -> Result<(), RingSumError> {
        self.checked().map(drop)
    }

    /// The weighted mean of what was added.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn mean(&self) -> Result<RingMean, RingSumError> {
        let (weight, cut_off) = self.checked()?;
        let ring = self.fixed.ring();
        let (values, _) = self.elements.split_at(self.elements.len() - EXTRA);
        let factor = self.fixed.value_max() / f64::from(weight);
        let values = values
            .par_iter()
            .with_min_len(BLOCK)
            .map(|&element| (f64::from(ring.to_signed(element)) * factor) as f32)
            .collect();
        Ok(RingMean {
            values,
            weight: f64::from(weight) / f64::from(self.fixed.one()),
            cut_off: u64::from(cut_off.unsigned_abs()),
        })
    }

    /// The sums of the weights and of the counts of values that were cut off, if all is well-formed.
    fn checked(&self) -> Result<(i32, i32), RingSumError> {
        if self.contributors == 0 {
            return Err(RingSumError::Empty);
        }
        let ring = self.fixed.ring();
        let (values, extra) = self.elements.split_at(self.elements.len() - EXTRA);
        let weight = ring.to_signed(extra[0]);
        let most = u64::from(self.contributors) * u64::from(self.fixed.one());
        let malformed = |index: usize, found: i32| RingSumError::Malformed {
            index,
            found,
            weight,
        };
        if weight < 1 || most < u64::from(weight.unsigned_abs()) {
            return Err(malformed(values.len(), weight));
        }
        let cut_off = ring.to_signed(extra[1]);
        if cut_off < 0 {
            return Err(malformed(values.len() + 1, cut_off));
        }
        // What one participant's rounding may add to a value of its full weight is nothing: both are rounded alike.
        let beyond = |element: u32| weight.unsigned_abs() < ring.to_signed(element).unsigned_abs();
        // Without a way out in between, which keeps the loop vectorised.
        let any = |values: &[u32]| values.iter().fold(false, |any, &one| any | beyond(one));
        if values.par_chunks(BLOCK).any(any)
            && let Some(index) = values.iter().position(|&element| beyond(element))
        {
            return Err(malformed(index, ring.to_signed(values[index])));
        }
        Ok((weight, cut_off))
    }
}

fn add_block(ring: Ring, elements: &mut [u32], bytes: &[u8]) {
    if ring == Ring::Bits32 {
        for (element, word) in elements.iter_mut().zip(bytes.as_chunks().0) {
            *element = element.wrapping_add(u32::from_le_bytes(*word));
        }
        return;
    }
    for (element, word) in elements.iter_mut().zip(bytes.chunks_exact(ring.width())) {
        *element = element.wrapping_add(ring.read(word)) & ring.mask();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sum_decodes_to_its_published_mean() {
        // c = 0.5, m = 20: 0.1 - 0.25 + 0.5 (cut off from 0.7), three participants of full weight.
        let fixed = FixedRing::for_bounds(Ring::Bits32, 2000, 0.5).unwrap();
        let mut sum = RingSum::new(fixed, 1);
        for value in [0.1, -0.25, 0.7] {
            let encoded = fixed.encode(&[value], (1, 1), 1.0).unwrap();
            sum.add(fixed.to_bytes(&encoded.elements).as_slice())
                .unwrap();
        }
        assert_eq!(sum.elements[0], 734_003);
        let mean = sum.mean().unwrap();
        assert_eq!(mean.values, [(0.349_999_904_6_f64 / 3.0) as f32]);
        assert_eq!((mean.weight, mean.cut_off), (3.0, 1));
    }

    #[test]
    fn the_largest_values_of_all_that_may_contribute_do_not_overflow_and_one_more_is_refused() {
        for ring in [Ring::Bits16, Ring::Bits24, Ring::Bits32] {
            for participants in [3, 10, 100] {
                let fixed = FixedRing::for_bounds(ring, participants, 0.25).unwrap();
                let encoded = fixed.encode(&[1e30, -1e30], (9, 9), f64::MAX).unwrap();
                let bytes = fixed.to_bytes(&encoded.elements);
                let mut sum = RingSum::new(fixed, 2);
                for _ in 0..participants {
                    sum.add(bytes.as_slice()).unwrap();
                }
                assert_eq!(sum.mean().unwrap().values, [0.25, -0.25]);
                let error = sum.add(bytes.as_slice()).unwrap_err();
                assert!(matches!(error, RingSumError::TooMany { limit } if limit == participants));
            }
        }
    }

    #[test]
    fn a_vector_of_another_length_and_a_sum_under_a_mask_are_refused() {
        let fixed = FixedRing::for_bounds(Ring::Bits24, 3, 0.25).unwrap();
        let mut sum = RingSum::new(fixed, 2);
        assert!(matches!(sum.mean(), Err(RingSumError::Empty)));
        let short = sum.add([0_u8; 11].as_slice()).unwrap_err();
        assert!(matches!(
            short,
            RingSumError::Size {
                found: 11,
                expected: 12
            }
        ));
        // A value larger than the weights allow.
        sum.add([0, 1, 0, 0, 0, 0, 255, 0, 0, 0, 0, 0].as_slice())
            .unwrap();
        let error = sum.mean().unwrap_err();
        assert!(matches!(
            error,
            RingSumError::Malformed {
                index: 0,
                found: 256,
                weight: 255
            }
        ));
    }
}
