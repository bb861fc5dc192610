//! Values as bytes with a scale for each block of 64: about a quarter of the room of f32.
//!
//! A block is its scale, a little-endian f32, and one signed byte a value, from -127 to 127; a value is scale times byte. The
//! scale is the block's largest magnitude over 127. Blocks run over the values as they lie, across modules; the last one has
//! the values that are left. So the length follows from the number of values, and any stretch can be read by itself.
//!
//! Rounded at random, up with the probability of the part that is cut off, a value is right on average whatever becomes of the
//! remainder; to nearest, a value below half a step would be nothing in every round. What is cut off is given back, so that
//! the sender can add it to what it sends next (error feedback; Seide et al. 2014, Karimireddy et al. 2019, arXiv 1901.09847).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::adapter::squared_norm;

/// Values of one scale.
pub const BLOCK: usize = 64;

/// Bytes of a scale.
const SCALE_BYTES: usize = size_of::<f32>();

/// Bytes of a whole block.
pub(crate) const BLOCK_BYTES: usize = SCALE_BYTES + BLOCK;

/// The largest byte.
const MOST: f64 = 127.0;

/// Values that are rounded by one task, each with a stream of random numbers of its own.
const STRETCH: usize = 1 << 16;

/// How a value between two steps is brought to one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearer one.
    Nearest,
    /// To the upper one with the probability of the part that is cut off otherwise, by numbers that follow from this seed.
    Random([u8; 32]),
}

/// Bytes of so many values.
pub(crate) fn size(values: usize) -> usize {
    values + values.div_ceil(BLOCK) * SCALE_BYTES
}

/// Values in so many bytes; of a block that is cut off within its scale there are none.
pub(crate) fn count(bytes: usize) -> usize {
    let (blocks, rest) = (bytes / BLOCK_BYTES, bytes % BLOCK_BYTES);
    blocks * BLOCK + rest.saturating_sub(SCALE_BYTES)
}

/// Where the block of a value begins.
pub(crate) fn block_start(value: usize) -> usize {
    value / BLOCK * BLOCK_BYTES
}

/// Encodes values and leaves in their place what was cut off: each value minus what it decodes to.
///
/// Every value must be finite. The same values and seed give the same bytes on any number of cores.
pub(crate) fn encode_in_place(values: &mut [f32], rounding: Rounding) -> Vec<u8> {
    let mut bytes = vec![0; size(values.len())];
    let stretches = bytes.par_chunks_mut(size(STRETCH));
    stretches
        .zip(values.par_chunks_mut(STRETCH))
        .enumerate()
        .for_each(|(stretch, (bytes, values))| {
            let mut chance = Chance::new(rounding, stretch as u64);
            let blocks = bytes.chunks_mut(BLOCK_BYTES);
            for (bytes, values) in blocks.zip(values.chunks_mut(BLOCK)) {
                encode_block(values, bytes, &mut chance);
            }
        });
    bytes
}

/// The squares of the norms of what encoding to nearest changes and of the values themselves.
pub(super) fn squared_change(values: &[f32]) -> (f64, f64) {
    let mut rest = values.to_vec();
    encode_in_place(&mut rest, Rounding::Nearest);
    (squared_norm(&rest), squared_norm(values))
}

/// Decodes the bytes of blocks, the first of them without its first `skip` values.
pub(crate) fn decode(bytes: &[u8], skip: usize, mut values: &mut [f32]) {
    let mut first = skip;
    for block in bytes.chunks(BLOCK_BYTES) {
        let Some((scale, steps)) = block.split_first_chunk() else {
            return;
        };
        let (scale, steps) = (
            f32::from_le_bytes(*scale),
            steps.get(first..).unwrap_or(&[]),
        );
        let (here, behind) = values.split_at_mut(steps.len().min(values.len()));
        for (value, &step) in here.iter_mut().zip(steps) {
            *value = decoded(scale, step);
        }
        (values, first) = (behind, 0);
    }
}

/// A scale that is not finite gives a value that is not, whatever the byte is.
fn decoded(scale: f32, step: u8) -> f32 {
    scale * f32::from(step.cast_signed())
}

fn encode_block(values: &mut [f32], bytes: &mut [u8], chance: &mut Chance) {
    let most = values
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    let scale = (f64::from(most) / MOST) as f32;
    let (head, steps) = bytes.split_at_mut(SCALE_BYTES);
    // A scale below the smallest normal number has no precision of its own: all of the block is left for later.
    if !scale.is_normal() {
        return;
    }
    head.copy_from_slice(&scale.to_le_bytes());
    let steps_a_unit = MOST / f64::from(most);
    for (value, byte) in values.iter_mut().zip(steps) {
        let exact = f64::from(*value) * steps_a_unit;
        // The bounds are met but for the last bit of the product.
        let step = (exact + chance.next()).floor().clamp(-MOST, MOST) as i8;
        *byte = step.cast_unsigned();
        *value -= decoded(scale, *byte);
    }
}

/// What is added to a value before it is cut off: half a step, or any part of one.
enum Chance {
    Half,
    Drawn(Box<ChaCha8Rng>),
}

impl Chance {
    fn new(rounding: Rounding, stretch: u64) -> Self {
        match rounding {
            Rounding::Nearest => Self::Half,
            Rounding::Random(seed) => {
                let mut rng = ChaCha8Rng::from_seed(seed);
                rng.set_stream(stretch);
                Self::Drawn(Box::new(rng))
            }
        }
    }

    fn next(&mut self) -> f64 {
        match self {
            Self::Half => 0.5,
            Self::Drawn(rng) => f64::from(rng.next_u32()) / 4_294_967_296.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps(values: &[f32], rounding: Rounding) -> (f32, Vec<i8>) {
        let bytes = encode_in_place(&mut values.to_vec(), rounding);
        let (scale, steps) = bytes.split_first_chunk().unwrap();
        let steps = steps.iter().map(|step| step.cast_signed());
        (f32::from_le_bytes(*scale), steps.collect())
    }

    fn round_trip(values: &[f32], rounding: Rounding) -> Vec<f32> {
        let bytes = encode_in_place(&mut values.to_vec(), rounding);
        let mut found = vec![0.0; values.len()];
        decode(&bytes, 0, &mut found);
        found
    }

    fn scale_of(values: &[f32], index: usize) -> f64 {
        let block = values.chunks(BLOCK).nth(index / BLOCK).unwrap();
        let most = block
            .iter()
            .fold(0.0_f32, |most, value| most.max(value.abs()));
        f64::from(most) / MOST
    }

    #[test]
    fn known_values_have_a_known_scale_and_known_steps() {
        let values = [0.1, -1.0, 0.5, 0.25];
        let (scale, nearest) = steps(&values, Rounding::Nearest);
        assert_eq!((f64::from(scale) * 1e6).round(), 7874.0);
        assert_eq!(nearest, [13, -127, 64, 32]);
        // By chance 12.7, 63.5 and 31.75 go to either side, and each side is taken.
        let mut seen = [[false; 2]; 3];
        for seed in 0..64 {
            let (_, steps) = steps(&values, Rounding::Random([seed; 32]));
            assert_eq!(steps[1], -127);
            for (index, (step, lower)) in [(steps[0], 12), (steps[2], 63), (steps[3], 31)]
                .into_iter()
                .enumerate()
            {
                assert!(step == lower || step == lower + 1, "{steps:?}");
                seen[index][usize::from(step != lower)] = true;
            }
        }
        assert_eq!(seen, [[true; 2]; 3]);
    }

    #[test]
    fn a_block_has_its_scale_before_its_values_and_the_last_one_is_shorter() {
        let mut values = [0.0; 66];
        values[0] = 127.0;
        values[65] = -254.0;
        let bytes = encode_in_place(&mut values.to_vec(), Rounding::Nearest);
        assert_eq!(bytes.len(), size(66));
        assert_eq!(bytes.len(), 4 + 64 + 4 + 2);
        assert_eq!(bytes[..5], [0, 0, 0x80, 0x3f, 127]);
        assert_eq!(bytes[68..], [0, 0, 0, 0x40, 0, (-127_i8).cast_unsigned()]);
        assert_eq!((block_start(63), block_start(64)), (0, 68));
    }

    #[test]
    fn zeros_and_numbers_too_small_for_a_scale_are_sent_as_zeros_and_left_over() {
        for small in [0.0, f32::MIN_POSITIVE, -1e-40] {
            let mut values = [small; 3];
            assert_eq!(encode_in_place(&mut values, Rounding::Nearest), [0; 7]);
            assert_eq!(values, [small; 3]);
        }
    }

    #[test]
    fn the_mean_error_of_rounding_at_random_is_within_five_deviations() {
        let count = 200_000_u32;
        // Every part of a step, of both signs, and one value that fixes the scale in each block.
        let mut values: Vec<f32> = (0..count)
            .map(|index| (index as f32 * 0.618_034).fract() * 20.0 - 10.0)
            .collect();
        values
            .iter_mut()
            .step_by(BLOCK)
            .for_each(|value| *value = 127.0);
        let found = round_trip(&values, Rounding::Random([9; 32]));
        let errors = values
            .iter()
            .zip(&found)
            .map(|(value, found)| f64::from(found - value));
        let (sum, squares) = errors.fold((0.0, 0.0), |(sum, squares), error| {
            (sum + error, squares + error * error)
        });
        let mean = sum / f64::from(count);
        let deviation = (squares / f64::from(count)).sqrt();
        assert!(
            mean.abs() < 5.0 * deviation / f64::from(count).sqrt(),
            "{mean}"
        );
        // The spread is that of a uniform part of a step: variance 1/6.
        assert!((deviation.powi(2) * 6.0 - 1.0).abs() < 0.05, "{deviation}");
    }

    #[test]
    fn what_was_sent_and_what_is_left_over_is_all_there_was() {
        // Powers of two over 127 and steps of 2^-10: every number here is exact in f32.
        let scale = 1.0 / 128.0;
        let update: Vec<f32> = (0..200_u16)
            .map(|index| match index % 64 {
                0 => 127.0 * scale,
                index => f32::from(index) * 7.0 / 1024.0,
            })
            .collect();
        let (mut left, mut sent) = (vec![0.0_f32; update.len()], vec![0.0_f64; update.len()]);
        let rounds = 300;
        for round in 0..rounds {
            left.iter_mut()
                .zip(&update)
                .for_each(|(left, update)| *left += update);
            let offered = left.clone();
            let bytes = encode_in_place(&mut left, Rounding::Random([round as u8; 32]));
            let mut decoded = vec![0.0; left.len()];
            decode(&bytes, 0, &mut decoded);
            for index in 0..left.len() {
                sent[index] += f64::from(decoded[index]);
                assert!(f64::from(left[index]).abs() <= scale_of(&offered, index) * 1.000_001);
            }
        }
        for index in 0..update.len() {
            let all = f64::from(rounds) * f64::from(update[index]);
            let found = sent[index] + f64::from(left[index]);
            assert!(
                (found - all).abs() < 1e-4 * all.abs().max(1e-3),
                "{index}: {found} of {all}"
            );
        }
    }

    #[test]
    fn a_scale_that_is_no_number_makes_every_value_of_its_block_none() {
        for scale in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut bytes = scale.to_le_bytes().to_vec();
            bytes.extend([0, 1, 0x80]);
            let mut values = [0.0; 3];
            decode(&bytes, 0, &mut values);
            assert!(values.iter().all(|value| !value.is_finite()), "{values:?}");
        }
        let mut values = [0.0];
        decode(&[0xff, 0xff, 0x7f, 0x7f, 127], 0, &mut values);
        assert!(!values[0].is_finite(), "beyond f32's range");
    }

    proptest! {
        #![proptest_config(crate::properties::fixed_seed())]

        #[test]
        fn decoding_is_within_a_step_and_what_is_left_over_is_the_difference(
            values in prop::collection::vec(-1e30_f32..1e30, 1..300),
            seed in any::<[u8; 32]>(),
        ) {
            for (rounding, part) in [(Rounding::Nearest, 0.5), (Rounding::Random(seed), 1.0)] {
                let found = round_trip(&values, rounding);
                let mut left = values.clone();
                encode_in_place(&mut left, rounding);
                for (index, (&value, found)) in values.iter().zip(found).enumerate() {
                    let step = scale_of(&values, index);
                    let error = (f64::from(found) - f64::from(value)).abs();
                    prop_assert!(error <= part * step * 1.0001, "{value} became {found}");
                    prop_assert_eq!(left[index], value - found);
                }
            }
        }

        #[test]
        fn any_bytes_decode_to_scale_times_byte(bytes in prop::collection::vec(any::<u8>(), 5..300)) {
            let bytes = if bytes.len() % BLOCK_BYTES < 5 { &bytes[..bytes.len() - bytes.len() % BLOCK_BYTES] } else { &bytes[..] };
            let count = bytes.len() - bytes.len().div_ceil(BLOCK_BYTES) * SCALE_BYTES;
            let mut values = vec![0.0; count];
            decode(bytes, 0, &mut values);
            for (index, value) in values.iter().enumerate() {
                let block = &bytes[block_start(index)..];
                let scale = f32::from_le_bytes(block[..4].try_into().unwrap());
                let expected = scale * f32::from(block[4 + index % BLOCK].cast_signed());
                prop_assert!(*value == expected || (value.is_nan() && expected.is_nan()));
            }
        }
    }
}
