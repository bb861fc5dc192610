//! How the values of an adapter lie in bytes: exactly, in half of the room, or in a quarter of it ([`int8`]).
//!
//! The server keeps its global adapter in f32 whatever travels. bf16 is f32 without its lower sixteen bits, rounded to
//! nearest, ties to even: a value is off by at most 2^-8 of itself, and no value leaves f32's range but those within 2^-8
//! of its end, which become infinite and are refused as such.

mod bf16;
pub mod int8;

use std::borrow::Cow;

use rayon::prelude::*;

/// Values encoded by one task at a time.
const BLOCK: usize = 1 << 16;

/// The values as little-endian f32: their own memory where the machine is little-endian, a copy elsewhere.
pub fn le_bytes(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        Cow::Owned(
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        )
    }
}

/// The form of values in bytes, always little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// IEEE 754 binary32, four bytes: exact.
    F32,
    /// The upper half of it, two bytes.
    Bf16,
    /// One byte a value and a scale for 64 of them, for updates: see [`int8`]. What is encoded through this type is rounded to nearest; a
    /// participant rounds its updates by [`Adapter::compressed_update`](crate::Adapter::compressed_update).
    Int8,
}

impl Encoding {
    /// Bytes of so many values.
    pub fn size(self, values: usize) -> usize {
        match self {
            Self::F32 => values * 4,
            Self::Bf16 => values * 2,
            Self::Int8 => int8::size(values),
        }
    }

    /// The largest distance of a decoded value from the one encoded, relative to it; in [`Encoding::Int8`] relative to the largest
    /// of its block, and twice that to nearest.
    pub fn error_max(self) -> f64 {
        match self {
            Self::F32 => 0.0,
            Self::Bf16 => 1.0 / 256.0,
            Self::Int8 => 1.0 / 127.0,
        }
    }

    /// Encodes values.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => le_bytes(values).into_owned(),
            Self::Bf16 => {
                let mut bytes = vec![0; self.size(values.len())];
                let blocks = bytes.par_chunks_mut(self.size(BLOCK));
                let blocks = blocks.zip(values.par_chunks(BLOCK));
                blocks.for_each(|(bytes, values)| bf16::encode(values, bytes));
                bytes
            }
            Self::Int8 => int8::encode_in_place(&mut values.to_vec(), int8::Rounding::Nearest),
        }
    }

    /// Encodes values behind what is there; values of another call do not share their scale.
    pub(crate) fn append_encoded(self, values: &[f32], bytes: &mut Vec<u8>) {
        match self {
            Self::F32 => bytes.extend_from_slice(&le_bytes(values)),
            Self::Bf16 => {
                let from = bytes.len();
                bytes.resize(from + self.size(values.len()), 0);
                bf16::encode(values, &mut bytes[from..]);
            }
            Self::Int8 => bytes.extend(self.encode(values)),
        }
    }

    /// Decodes whole values behind those that are there.
    pub(crate) fn append(self, bytes: &[u8], values: &mut Vec<f32>) {
        match self {
            Self::F32 => {
                let chunks = bytes.as_chunks().0.iter();
                values.extend(chunks.map(|&bytes| f32::from_le_bytes(bytes)));
            }
            Self::Bf16 => {
                let from = values.len();
                values.resize(from + bytes.len() / 2, 0.0);
                bf16::decode(bytes, &mut values[from..]);
            }
            Self::Int8 => {
                let from = values.len();
                values.resize(from + int8::count(bytes.len()), 0.0);
                int8::decode(bytes, 0, &mut values[from..]);
            }
        }
    }

    /// Decodes as many values as there is room for.
    ///
    /// # Panics
    /// If `bytes` are not exactly those of that many values.
    pub fn decode(self, bytes: &[u8], values: &mut [f32]) {
        assert_eq!(
            bytes.len(),
            self.size(values.len()),
            "bytes and values differ in number"
        );
        match self {
            Self::F32 => {
                for (value, &bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                    *value = f32::from_le_bytes(bytes);
                }
            }
            Self::Bf16 => bf16::decode(bytes, values),
            Self::Int8 => int8::decode(bytes, 0, values),
        }
    }

    /// How far encoding moves these values: the norm of the change, relative to theirs.
    pub fn relative_error(self, values: &[f32]) -> f64 {
        let squared_change = match self {
            Self::F32 => return 0.0,
            Self::Bf16 => bf16::squared_change,
            Self::Int8 => int8::squared_change,
        };
        let blocks = values.par_chunks(BLOCK).map(squared_change);
        // In order, so that the same values give the same figure on any number of cores.
        let blocks: Vec<(f64, f64)> = blocks.collect();
        let (error, norm) = blocks
            .into_iter()
            .fold((0.0, 0.0), |sum, block| (sum.0 + block.0, sum.1 + block.1));
        if error == 0.0 {
            0.0
        } else {
            (error / norm).sqrt()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(encoding: Encoding, bytes: &[u8]) -> Vec<f32> {
        let mut values = Vec::new();
        encoding.append(bytes, &mut values);
        values
    }

    #[test]
    fn known_values_have_known_bytes() {
        assert_eq!(
            Encoding::F32.encode(&[1.0, -0.5]),
            [0, 0, 0x80, 0x3f, 0, 0, 0, 0xbf]
        );
        // 1 + 2^-8 lies between two values and goes to the even one; 1 + 3 * 2^-8 likewise, upwards.
        assert_eq!(
            Encoding::Bf16.encode(&[1.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0]),
            [0x80, 0x3f, 0x80, 0x3f, 0x82, 0x3f]
        );
    }

    #[test]
    fn an_infinite_or_missing_value_stays_one() {
        for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX] {
            let bytes = Encoding::Bf16.encode(&[value]);
            assert!(!decoded(Encoding::Bf16, &bytes)[0].is_finite());
        }
    }

    proptest! {
        #![proptest_config(crate::properties::fixed_seed())]

        #[test]
        fn decoding_is_exact_or_within_the_bound(values in prop::collection::vec(-1e30_f32..1e30, 1..200)) {
            for encoding in [Encoding::F32, Encoding::Bf16] {
                let bytes = encoding.encode(&values);
                prop_assert_eq!(bytes.len(), encoding.size(values.len()));
                for (&value, found) in values.iter().zip(decoded(encoding, &bytes)) {
                    let error = (f64::from(found) - f64::from(value)).abs();
                    // Below the smallest normal number the distance is absolute.
                    let bound = encoding.error_max() * f64::from(value).abs().max(1.2e-38);
                    prop_assert!(error <= bound, "{value} became {found}");
                }
                prop_assert!(encoding.relative_error(&values) <= encoding.error_max());
            }
        }
    }
}
