//! The block formats of ggml, widened to f32.
//!
//! A block is a fixed number of values that share scales. Source: ggml-common.h (structures) and the reference
//! functions `dequantize_row_*` of ggml-quants.c (arithmetic). All numbers are little-endian.

use half::{bf16, f16};
use rayon::prelude::*;

mod k_blocks;
#[cfg(test)]
mod tests;

/// Blocks that one thread widens at a time.
const BLOCKS_PER_TASK: usize = 1024;
/// Values of a block of the old formats.
const SMALL: usize = 32;
/// Values of a block of the K formats.
const LARGE: usize = 256;

/// How a tensor's values are stored. The names are ggml's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    non_camel_case_types,
    reason = "the names are ggml's, and their meaning is ggml's"
)]
pub enum BlockFormat {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_K,
}

impl BlockFormat {
    /// The format of a type number in a file.
    pub const fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            9 => Self::Q8_1,
            10 => Self::Q2_K,
            11 => Self::Q3_K,
            12 => Self::Q4_K,
            13 => Self::Q5_K,
            14 => Self::Q6_K,
            15 => Self::Q8_K,
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// Values and bytes of one block.
    pub const fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q4_0 => (SMALL, 18),
            Self::Q4_1 => (SMALL, 20),
            Self::Q5_0 => (SMALL, 22),
            Self::Q5_1 => (SMALL, 24),
            Self::Q8_0 => (SMALL, 34),
            Self::Q8_1 => (SMALL, 36),
            Self::Q2_K => (LARGE, 84),
            Self::Q3_K => (LARGE, 110),
            Self::Q4_K => (LARGE, 144),
            Self::Q5_K => (LARGE, 176),
            Self::Q6_K => (LARGE, 210),
            Self::Q8_K => (LARGE, 292),
        }
    }

    /// Widens whole blocks; `None` for formats that this reader only knows the size of.
    pub fn widen(self, bytes: &[u8]) -> Option<Vec<f32>> {
        match self {
            Self::F32 => {
                let values = bytes.as_chunks::<4>().0;
                Some(values.iter().map(|b| f32::from_le_bytes(*b)).collect())
            }
            Self::F16 => {
                let values = bytes.as_chunks::<2>().0;
                Some(
                    values
                        .iter()
                        .map(|b| f16::from_le_bytes(*b).to_f32())
                        .collect(),
                )
            }
            Self::BF16 => {
                let values = bytes.as_chunks::<2>().0;
                Some(
                    values
                        .iter()
                        .map(|b| bf16::from_le_bytes(*b).to_f32())
                        .collect(),
                )
            }
            Self::Q4_0 => Some(widen_blocks::<18, SMALL>(bytes, q4_0)),
            Self::Q4_1 => Some(widen_blocks::<20, SMALL>(bytes, q4_1)),
            Self::Q5_0 => Some(widen_blocks::<22, SMALL>(bytes, q5_0)),
            Self::Q5_1 => Some(widen_blocks::<24, SMALL>(bytes, q5_1)),
            Self::Q8_0 => Some(widen_blocks::<34, SMALL>(bytes, q8_0)),
            Self::Q4_K => Some(widen_blocks::<144, LARGE>(bytes, k_blocks::q4_k)),
            Self::Q5_K => Some(widen_blocks::<176, LARGE>(bytes, k_blocks::q5_k)),
            Self::Q6_K => Some(widen_blocks::<210, LARGE>(bytes, k_blocks::q6_k)),
            Self::Q8_1 | Self::Q2_K | Self::Q3_K | Self::Q8_K => None,
        }
    }
}

fn widen_blocks<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    block: fn(&[u8; BYTES], &mut [f32; VALUES]),
) -> Vec<f32> {
    let blocks = bytes.as_chunks::<BYTES>().0;
    let mut values = vec![0.0f32; blocks.len() * VALUES];
    values
        .as_chunks_mut::<VALUES>()
        .0
        .par_chunks_mut(BLOCKS_PER_TASK)
        .zip(blocks.par_chunks(BLOCKS_PER_TASK))
        .for_each(|(values, blocks)| {
            for (values, bytes) in values.iter_mut().zip(blocks) {
                block(bytes, values);
            }
        });
    values
}

/// The half-precision number at `at`.
fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

fn q4_0(bytes: &[u8; 18], values: &mut [f32; SMALL]) {
    let scale = f16_at(bytes, 0);
    for (i, byte) in bytes[2..].iter().enumerate() {
        values[i] = (f32::from(byte & 15) - 8.0) * scale;
        values[i + 16] = (f32::from(byte >> 4) - 8.0) * scale;
    }
}

fn q4_1(bytes: &[u8; 20], values: &mut [f32; SMALL]) {
    let (scale, minimum) = (f16_at(bytes, 0), f16_at(bytes, 2));
    for (i, byte) in bytes[4..].iter().enumerate() {
        values[i] = f32::from(byte & 15) * scale + minimum;
        values[i + 16] = f32::from(byte >> 4) * scale + minimum;
    }
}

/// The fifth bits are a little-endian u32, one bit a value.
fn fifth_bit(bytes: &[u8], at: usize, value: usize) -> u8 {
    ((bytes[at + value / 8] >> (value % 8)) & 1) << 4
}

fn q5_0(bytes: &[u8; 22], values: &mut [f32; SMALL]) {
    let scale = f16_at(bytes, 0);
    for i in 0..16 {
        let byte = bytes[6 + i];
        let low = (byte & 15) | fifth_bit(bytes, 2, i);
        let high = (byte >> 4) | fifth_bit(bytes, 2, i + 16);
        values[i] = (f32::from(low) - 16.0) * scale;
        values[i + 16] = (f32::from(high) - 16.0) * scale;
    }
}

fn q5_1(bytes: &[u8; 24], values: &mut [f32; SMALL]) {
    let (scale, minimum) = (f16_at(bytes, 0), f16_at(bytes, 2));
    for i in 0..16 {
        let byte = bytes[8 + i];
        let low = (byte & 15) | fifth_bit(bytes, 4, i);
        let high = (byte >> 4) | fifth_bit(bytes, 4, i + 16);
        values[i] = f32::from(low) * scale + minimum;
        values[i + 16] = f32::from(high) * scale + minimum;
    }
}

fn q8_0(bytes: &[u8; 34], values: &mut [f32; SMALL]) {
    let scale = f16_at(bytes, 0);
    for (value, byte) in values.iter_mut().zip(&bytes[2..]) {
        *value = f32::from(byte.cast_signed()) * scale;
    }
}
