//! Small matrix products on slices, for the blocks of attention.
//!
//! Not for large matrices: those go to `burn`. A block of attention is too small for a general product's packing and
//! threads; six rows by sixteen columns in registers over operands in cache is enough. Each element is summed over
//! `k` in order by fused multiply-adds.

const ROWS: usize = 6;
const COLUMNS: usize = 16;

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

/// Adds `left * right` to `out`, whose rows are `stride` apart; `panel` is scratch space.
#[inline(always)]
pub(crate) fn multiply_add(
    left: Left<'_>,
    right: Right<'_>,
    (out, stride): (&mut [f32], usize),
    extent: Extent,
    panel: &mut Vec<f32>,
) {
    let Extent {
        rows,
        columns,
        inner,
    } = extent;
    for (group, out) in out
        .chunks_mut(stride * ROWS)
        .take(rows.div_ceil(ROWS))
        .enumerate()
    {
        let first = group * ROWS;
        let height = ROWS.min(rows - first);
        pack(left, first, height, inner, panel);
        let mut start = 0;
        while start < columns {
            let width = COLUMNS.min(columns - start);
            let sums = if width == COLUMNS {
                full_tile(panel, &right.values[start..], right.stride)
            } else {
                edge_tile(panel, &right.values[start..], right.stride, width)
            };
            for (row, sums) in out.chunks_mut(stride).zip(&sums).take(height) {
                for (out, sum) in row[start..start + width].iter_mut().zip(sums) {
                    *out += sum;
                }
            }
            start += COLUMNS;
        }
    }
}

/// Lays six rows of the left operand side by side, one `k` after the other; missing rows are zero.
#[inline(always)]
fn pack(left: Left<'_>, first: usize, height: usize, inner: usize, panel: &mut Vec<f32>) {
    panel.clear();
    panel.resize(inner * ROWS, 0.0);
    for lane in 0..height {
        let row = left.values[(first + lane) * left.row_stride..]
            .iter()
            .step_by(left.column_stride);
        for (place, value) in panel.chunks_exact_mut(ROWS).zip(row) {
            place[lane] = *value;
        }
    }
}

#[inline(always)]
fn full_tile(panel: &[f32], right: &[f32], stride: usize) -> [[f32; COLUMNS]; ROWS] {
    let mut sums = [[0.0_f32; COLUMNS]; ROWS];
    for (left, right) in panel.chunks_exact(ROWS).zip(right.chunks(stride)) {
        let right: &[f32; COLUMNS] = right[..COLUMNS].try_into().expect("sixteen columns");
        for lane in 0..ROWS {
            for column in 0..COLUMNS {
                sums[lane][column] = left[lane].mul_add(right[column], sums[lane][column]);
            }
        }
    }
    sums
}

#[inline(always)]
fn edge_tile(panel: &[f32], right: &[f32], stride: usize, width: usize) -> [[f32; COLUMNS]; ROWS] {
    let mut sums = [[0.0_f32; COLUMNS]; ROWS];
    for (left, right) in panel.chunks_exact(ROWS).zip(right.chunks(stride)) {
        for lane in 0..ROWS {
            for (sum, right) in sums[lane].iter_mut().zip(&right[..width]) {
                *sum = left[lane].mul_add(*right, *sum);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_odd_shapes_equal_the_plain_sum() {
        for (rows, columns, inner) in [(1, 1, 1), (4, 16, 8), (7, 21, 5), (9, 40, 33)] {
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
                multiply_add(left, right, (&mut out, columns), extent, &mut Vec::new());
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
