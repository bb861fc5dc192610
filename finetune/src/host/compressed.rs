//! Frozen weights in two bytes, one, or half of one, and their way back to f32 a few at a time.
//!
//! Nothing is computed in these forms: a product decodes what it packs, so a whole matrix in f32 never exists. Blocks of
//! 64 weights of a row share a scale. The halves of a row share the bytes of nf4: byte `j` holds column `j` low and column
//! `j + stride / 2` high, so that sixteen neighbours are sixteen bytes.

use half::bf16;
use rayon::prelude::*;

use crate::precision::BasePrecision;

/// Weights that share a scale.
pub(crate) const BLOCK: usize = 64;

/// Weights decoded at a time; they begin at a multiple of it and so lie in one block, and in one half of a row.
const GROUP: usize = 16;

/// The codes of nf4 (`QLoRA`, appendix E).
pub(crate) const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A matrix of frozen weights, by rows.
#[derive(Clone, Debug)]
pub(crate) struct Compressed {
    rows: usize,
    columns: usize,
    /// Columns as stored: whole blocks.
    stride: usize,
    codes: Codes,
}

/// The stored numbers.
#[derive(Clone, Debug)]
pub(crate) enum Codes {
    Bf16(Vec<u16>),
    Int8 { codes: Vec<i8>, scales: Vec<f32> },
    Nf4 { codes: Vec<u8>, scales: Vec<f32> },
}

impl Compressed {
    /// Compresses row-major values; `None` for a precision that compresses nothing.
    pub(crate) fn new(
        values: &[f32],
        [rows, columns]: [usize; 2],
        precision: BasePrecision,
    ) -> Option<Self> {
        let blocks = columns.next_multiple_of(BLOCK);
        let (stride, codes) = match precision {
            BasePrecision::Auto | BasePrecision::F32 => return None,
            BasePrecision::Bf16 => {
                let code = |value: &f32| bf16::from_f32(*value).to_bits();
                (columns, Codes::Bf16(values.par_iter().map(code).collect()))
            }
            BasePrecision::Int8 => (blocks, int8(values, columns, blocks)),
            BasePrecision::Nf4 => (blocks, nf4(values, columns, blocks)),
        };
        Some(Self {
            rows,
            columns,
            stride,
            codes,
        })
    }

    pub(crate) fn dims(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    pub(crate) fn codes(&self) -> &Codes {
        &self.codes
    }

    /// Weights of a row from `first`, a multiple of sixteen, on.
    #[inline(always)]
    pub(crate) fn decode(&self, row: usize, first: usize, out: &mut [f32]) {
        for (out, first) in out.chunks_mut(GROUP).zip((first..).step_by(GROUP)) {
            self.decode_group(row, first, out);
        }
    }

    #[inline(always)]
    fn decode_group(&self, row: usize, first: usize, out: &mut [f32]) {
        let place = row * self.stride + first;
        match &self.codes {
            Codes::Bf16(codes) => {
                for (out, code) in out.iter_mut().zip(&codes[place..]) {
                    *out = f32::from_bits(u32::from(*code) << 16);
                }
            }
            Codes::Int8 { codes, scales } => {
                let scale = scales[place / BLOCK];
                for (out, code) in out.iter_mut().zip(&codes[place..]) {
                    *out = f32::from(*code) * scale;
                }
            }
            Codes::Nf4 { codes, scales } => {
                let (half, scale) = (self.stride / 2, scales[place / BLOCK]);
                let (column, shift) = if first < half {
                    (first, 0)
                } else {
                    (first - half, 4)
                };
                for (out, code) in out.iter_mut().zip(&codes[row * half + column..]) {
                    *out = NF4[usize::from(code >> shift & 15)] * scale;
                }
            }
        }
    }
}

/// The largest magnitude; NaN if any value is not finite, so that a broken weight stays one.
fn magnitude(values: &[f32]) -> f32 {
    if !values.iter().all(|value| value.is_finite()) {
        return f32::NAN;
    }
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

fn int8(values: &[f32], columns: usize, stride: usize) -> Codes {
    let rows = values.len() / columns;
    let mut codes = vec![0_i8; rows * stride];
    let mut scales = vec![0.0; rows * stride / BLOCK];
    codes
        .par_chunks_mut(stride)
        .zip(scales.par_chunks_mut(stride / BLOCK))
        .zip(values.par_chunks(columns))
        .for_each(|((codes, scales), row)| {
            let blocks = codes.chunks_mut(BLOCK).zip(scales).zip(row.chunks(BLOCK));
            for ((codes, scale), values) in blocks {
                *scale = magnitude(values) / 127.0;
                for (code, value) in codes.iter_mut().zip(values) {
                    // A block of zeros has no scale: 0 / 0 becomes code 0.
                    *code = (value / *scale).round_ties_even() as i8;
                }
            }
        });
    Codes::Int8 { codes, scales }
}

fn nf4(values: &[f32], columns: usize, stride: usize) -> Codes {
    let (rows, half) = (values.len() / columns, stride / 2);
    let mut codes = vec![0_u8; rows * half];
    let mut scales = vec![0.0; rows * stride / BLOCK];
    codes
        .par_chunks_mut(half)
        .zip(scales.par_chunks_mut(stride / BLOCK))
        .zip(values.par_chunks(columns))
        .for_each(|((codes, scales), row)| {
            for (scale, values) in scales.iter_mut().zip(row.chunks(BLOCK)) {
                *scale = magnitude(values);
            }
            for (column, value) in row.iter().enumerate() {
                let code = nearest(value / scales[column / BLOCK]);
                codes[column % half] |= if column < half { code } else { code << 4 };
            }
        });
    Codes::Nf4 { codes, scales }
}

/// The code whose value is nearest; of a block of zeros (0 / 0) it does not matter which.
fn nearest(share: f32) -> u8 {
    let middles = NF4.windows(2).map(|pair| f32::midpoint(pair[0], pair[1]));
    middles.filter(|middle| share > *middle).count() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(values: &[f32], shape: [usize; 2], precision: BasePrecision) -> Vec<f32> {
        let compressed = Compressed::new(values, shape, precision).unwrap();
        let mut out = vec![0.0; values.len()];
        for (row, out) in out.chunks_mut(shape[1]).enumerate() {
            compressed.decode(row, 0, out);
        }
        out
    }

    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.37).sin() * 0.1).collect()
    }

    #[test]
    fn errors_stay_within_half_a_step() {
        for columns in [16, 24, 64, 100, 576] {
            let values = values(5 * columns);
            let found = decoded(&values, [5, columns], BasePrecision::Bf16);
            for (found, value) in found.iter().zip(&values) {
                assert!((found - value).abs() <= value.abs() / 256.0);
            }
            for (precision, step) in [
                (BasePrecision::Int8, 0.5 / 127.0),
                // Half of the widest gap, between the two lowest codes.
                (BasePrecision::Nf4, 0.151_91),
            ] {
                let found = decoded(&values, [5, columns], precision);
                let rows = found.chunks(columns).zip(values.chunks(columns));
                for (found, values) in rows.flat_map(|(f, v)| f.chunks(64).zip(v.chunks(64))) {
                    let bound = magnitude(values) * step * 1.0001;
                    for (found, value) in found.iter().zip(values) {
                        assert!(
                            (found - value).abs() <= bound,
                            "{precision} {found} {value}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn codes_of_nf4_come_back_exactly_and_decode_from_any_group() {
        let values: Vec<f32> = (0..3 * 128).map(|i| 0.25 * NF4[i * 7 % 16]).collect();
        assert_eq!(decoded(&values, [3, 128], BasePrecision::Nf4), values);
        let compressed = Compressed::new(&values, [3, 128], BasePrecision::Nf4).unwrap();
        for first in (0..128).step_by(16) {
            let mut out = [0.0; 48];
            let count = out.len().min(128 - first);
            compressed.decode(1, first, &mut out[..count]);
            assert_eq!(out[..count], values[128 + first..][..count], "from {first}");
        }
    }

    #[test]
    fn zeros_stay_zero_and_broken_weights_stay_broken() {
        let mut values = vec![0.0; 128];
        values[70] = f32::NAN;
        for precision in [BasePrecision::Int8, BasePrecision::Nf4] {
            let found = decoded(&values, [1, 128], precision);
            assert!(found[..64].iter().all(|&value| value == 0.0));
            assert!(found[64..].iter().all(|value| value.is_nan()));
        }
    }
}
