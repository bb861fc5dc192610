//! bf16 in loops that are compiled for the processor at hand. What a single value becomes is what the crate `half` says.

use pulp::{Arch, Simd, WithSimd};

/// Sums kept apart, so that no addition waits for the one before; in a fixed pattern, so that the result is the same everywhere.
const LANES: usize = 16;

/// Encodes as many values as there is room for.
pub(super) fn encode(values: &[f32], bytes: &mut [u8]) {
    struct Encode<'a>(&'a [f32], &'a mut [[u8; 2]]);
    impl WithSimd for Encode<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for (bytes, &value) in self.1.iter_mut().zip(self.0) {
                *bytes = upper_half(value).to_le_bytes();
            }
        }
    }
    Arch::new().dispatch(Encode(values, bytes.as_chunks_mut().0));
}

/// Decodes as many values as there is room for.
pub(super) fn decode(bytes: &[u8], values: &mut [f32]) {
    struct Decode<'a>(&'a [[u8; 2]], &'a mut [f32]);
    impl WithSimd for Decode<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for (value, &bytes) in self.1.iter_mut().zip(self.0) {
                *value = whole(u16::from_le_bytes(bytes));
            }
        }
    }
    Arch::new().dispatch(Decode(bytes.as_chunks().0, values));
}

/// The squares of the norms of what encoding changes and of the values themselves.
pub(super) fn squared_change(values: &[f32]) -> (f64, f64) {
    struct Change<'a>(&'a [f32]);
    impl WithSimd for Change<'_> {
        type Output = (f64, f64);

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> (f64, f64) {
            let (mut change, mut norm) = ([0.0; LANES], [0.0; LANES]);
            let (blocks, rest) = self.0.as_chunks::<LANES>();
            for values in blocks.iter().map(<[f32; LANES]>::as_slice).chain([rest]) {
                for ((change, norm), &value) in change.iter_mut().zip(&mut norm).zip(values) {
                    // The difference of two values so close is exact.
                    let moved = f64::from(whole(upper_half(value)) - value);
                    *change += moved * moved;
                    *norm += f64::from(value) * f64::from(value);
                }
            }
            (change.iter().sum(), norm.iter().sum())
        }
    }
    Arch::new().dispatch(Change(values))
}

/// The upper half of a value, rounded to nearest, ties to even; what is not a number stays so.
#[inline(always)]
fn upper_half(value: f32) -> u16 {
    let bits = value.to_bits();
    let upper = bits >> 16;
    let rounded = bits.wrapping_add(0x7fff + (upper & 1)) >> 16;
    let is_nan = 0x7f80_0000 < bits & 0x7fff_ffff;
    // A quiet one, whatever its lower bits were.
    (if is_nan { upper | 0x40 } else { rounded }) as u16
}

#[inline(always)]
fn whole(upper: u16) -> f32 {
    f32::from_bits(u32::from(upper) << 16)
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn every_upper_half_is_rounded_as_half_rounds_it() {
        // Below, at and above the middle between two values, and the ends.
        for lower in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
            let values: Vec<f32> = (0..=u16::MAX)
                .map(|upper| f32::from_bits(u32::from(upper) << 16 | lower))
                .collect();
            let mut bytes = vec![0; values.len() * 2];
            encode(&values, &mut bytes);
            let mut decoded = vec![0.0; values.len()];
            decode(&bytes, &mut decoded);
            for ((&value, bytes), decoded) in values.iter().zip(bytes.as_chunks().0).zip(decoded) {
                let expected = bf16::from_f32(value);
                assert_eq!(u16::from_le_bytes(*bytes), expected.to_bits(), "{value}");
                assert_eq!(decoded.to_bits(), u32::from(expected.to_bits()) << 16);
            }
        }
    }

    #[test]
    fn the_change_is_that_of_each_value() {
        // Steps of 1/128 above one, and a value that is exact.
        let values = [1.0 + 1.0 / 512.0, 1.0, 3.0];
        let (change, norm) = squared_change(&values);
        assert_eq!(change, (1.0_f64 / 512.0).powi(2));
        assert_eq!(norm, (1.0_f64 + 1.0 / 512.0).powi(2) + 10.0);
        let many = vec![1.0 + 1.0 / 512.0; 100];
        assert_eq!(squared_change(&many).0, 100.0 * change);
    }
}
