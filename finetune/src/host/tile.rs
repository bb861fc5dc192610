//! Small matrix products on slices, for the blocks of attention.
//!
//! Not for large matrices: those go to `product`. Operands and result of a block are in the first-level cache, so nothing is
//! packed: a kernel holds the sums of six rows with four vectors of columns in registers and reads both sides as they lie.
//! Each element is summed over `k` in order by fused multiply-adds.

use pulp::{Arch, Simd, WithSimd};

/// Rows whose sums are in registers.
const ROWS: usize = 6;
/// Vectors of columns beside them: four with 32 registers, two with 16.
const VECTORS: usize = 4;
/// Floats in the widest vector.
const LANES_MAX: usize = 16;

/// The left operand: element `(i, k)` is `values[i * row_stride + k * column_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

/// The right operand: row `k` begins at `values[k * stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
}

/// `(rows, columns, inner)` of a product.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) inner: usize,
}

/// Adds `left * right` to `out`, whose rows are `stride` apart.
pub(crate) fn multiply_add(
    left: Left<'_>,
    right: Right<'_>,
    (out, stride): (&mut [f32], usize),
    extent: Extent,
) {
    Arch::new().dispatch(Product {
        left,
        right,
        out,
        stride,
        extent,
    });
}

struct Product<'a> {
    left: Left<'a>,
    right: Right<'a>,
    out: &'a mut [f32],
    stride: usize,
    extent: Extent,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut column = 0;
        if S::REGISTER_COUNT >= 32 {
            column = self.columns::<S, VECTORS>(simd, column);
        }
        column = self.columns::<S, { VECTORS / 2 }>(simd, column);
        column = self.columns::<S, 1>(simd, column);
        self.edge(column);
    }
}

impl Product<'_> {
    /// Columns from this one on, as many whole strips of some vectors as there are; gives the first column left.
    #[inline(always)]
    fn columns<S: Simd, const WIDTH: usize>(&mut self, simd: S, first: usize) -> usize {
        let strip = WIDTH * S::F32_LANES;
        let mut column = first;
        while column + strip <= self.extent.columns {
            for row in (0..self.extent.rows).step_by(ROWS) {
                self.group::<S, WIDTH>(simd, row, column);
            }
            column += strip;
        }
        column
    }

    /// Six rows of a strip; rows beyond the block are its last one again, and their sums are dropped.
    #[inline(always)]
    fn group<S: Simd, const WIDTH: usize>(&mut self, simd: S, first: usize, column: usize) {
        let height = ROWS.min(self.extent.rows - first);
        let Extent { inner, .. } = self.extent;
        let rows: [&[f32]; ROWS] = std::array::from_fn(|place| {
            let row = first + place.min(height - 1);
            &self.left.values[row * self.left.row_stride..]
        });
        let strip = WIDTH * S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); WIDTH]; ROWS];
        for k in 0..inner {
            let line = &self.right.values[k * self.right.stride + column..][..strip];
            let (line, _) = S::as_simd_f32s(line);
            // Indices of constant range, so that the loops are unrolled and the sums stay in registers.
            for row in 0..ROWS {
                let value = simd.splat_f32s(rows[row][k * self.left.column_stride]);
                for place in 0..WIDTH {
                    sums[row][place] = simd.mul_add_e_f32s(value, line[place], sums[row][place]);
                }
            }
        }
        for (place, sums) in sums.iter().enumerate().take(height) {
            let out = &mut self.out[(first + place) * self.stride + column..][..strip];
            let (out, _) = S::as_mut_simd_f32s(out);
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = simd.add_f32s(*out, *sum);
            }
        }
    }

    /// The last columns, fewer than a vector.
    #[inline(always)]
    fn edge(&mut self, column: usize) {
        let Extent {
            rows,
            columns,
            inner,
        } = self.extent;
        let width = columns - column;
        if width == 0 {
            return;
        }
        for row in 0..rows {
            let mut sums = [0.0_f32; LANES_MAX];
            for k in 0..inner {
                let value =
                    self.left.values[row * self.left.row_stride + k * self.left.column_stride];
                let line = &self.right.values[k * self.right.stride + column..][..width];
                for (sum, right) in sums.iter_mut().zip(line) {
                    *sum = value.mul_add(*right, *sum);
                }
            }
            let out = &mut self.out[row * self.stride + column..][..width];
            out.iter_mut().zip(&sums).for_each(|(out, sum)| *out += sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_odd_shapes_equal_the_plain_sum() {
        for (rows, columns, inner) in [
            (1, 1, 1),
            (4, 16, 8),
            (7, 21, 5),
            (9, 40, 33),
            (14, 125, 20),
        ] {
            let a: Vec<f32> = (0..rows * inner).map(|i| (i as f32 * 0.37).sin()).collect();
            let b: Vec<f32> = (0..inner * columns)
                .map(|i| (i as f32 * 0.73).cos())
                .collect();
            for transposed in [false, true] {
                let (row_stride, column_stride) = if transposed { (1, rows) } else { (inner, 1) };
                let left = Left {
                    values: &a,
                    row_stride,
                    column_stride,
                };
                let right = Right {
                    values: &b,
                    stride: columns,
                };
                let mut out = vec![1.0; rows * columns];
                let extent = Extent {
                    rows,
                    columns,
                    inner,
                };
                multiply_add(left, right, (&mut out, columns), extent);
                for i in 0..rows {
                    for j in 0..columns {
                        let sum: f32 = (0..inner)
                            .map(|k| a[i * row_stride + k * column_stride] * b[k * columns + j])
                            .sum();
                        assert!((out[i * columns + j] - sum - 1.0).abs() < 1e-4);
                    }
                }
            }
        }
    }
}
