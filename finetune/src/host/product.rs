//! Matrix products on slices: large ones by panels, the others by the gemm crate in tiles at fixed places.
//!
//! What suits [`panel`] goes there. The rest (narrow, or with a transposed left side) is gemm's, the crate that `burn-flex`
//! uses, but cut by us: gemm divides one product among its threads and joins them after each panel, which leaves a third of
//! two cores idle at the shapes of an adapted decoder. Here every tile is a product of its own on one thread, and neither
//! way's results depend on the number of threads.
//!
//! One of the three modules with unsafe code: gemm takes pointers, tiles of one result interleave in memory,
//! and results are allocated without being written first.

use std::mem::MaybeUninit;

use gemm::Parallelism;
use rayon::prelude::*;

use super::{compressed::Compressed, panel};

/// Most rows and columns of a tile: its operands fit the second-level cache at the widths of small models.
const TILE_ROWS: usize = 256;
const TILE_COLUMNS: usize = 192;
/// Tiles begin at whole vectors.
const VECTOR: usize = 16;
/// Zeros that one thread writes at a time.
const ZEROS_PER_PIECE: usize = 1 << 16;
/// Products of fewer multiplications are not cut.
const CUT_FROM: usize = 1 << 18;

/// A matrix to be multiplied: row-major values, or their transpose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a> Operand<'a> {
    /// Row-major values of `[rows, columns]`.
    ///
    /// # Panics
    /// If there are not as many values as the shape says.
    pub(crate) fn new(values: &'a [f32], [rows, columns]: [usize; 2]) -> Self {
        assert_eq!(values.len(), rows * columns, "values fill their shape");
        Self {
            values,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// Rows, as it is read.
    pub(crate) fn rows(self) -> usize {
        self.rows
    }

    /// Columns, as it is read.
    pub(crate) fn columns(self) -> usize {
        self.columns
    }

    /// The same values, read with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Compressed weights as the right side of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weights<'a> {
    /// As they are stored.
    Plain(&'a Compressed),
    /// Rows and columns exchanged.
    Transposed(&'a Compressed),
}

impl Weights<'_> {
    pub(super) fn columns(self) -> usize {
        match self {
            Self::Plain(weights) => weights.dims()[1],
            Self::Transposed(weights) => weights.dims()[0],
        }
    }

    fn rows(self) -> usize {
        match self {
            Self::Plain(weights) => weights.dims()[0],
            Self::Transposed(weights) => weights.dims()[1],
        }
    }
}

/// `left * weights`, row-major.
pub(crate) fn multiply_weights(left: Operand<'_>, weights: Weights<'_>) -> Vec<f32> {
    let mut out = zeros(left.rows * weights.columns());
    add_weights(left, weights, &mut out);
    out
}

/// Adds `left * weights` to `out`.
///
/// # Panics
/// If the inner widths differ or `out` has not the result's size.
pub(crate) fn add_weights(left: Operand<'_>, weights: Weights<'_>, out: &mut [f32]) {
    assert_eq!(left.columns, weights.rows(), "inner widths agree");
    assert_eq!(
        out.len(),
        left.rows * weights.columns(),
        "the sum has the shape of the product"
    );
    panel::multiply_add(left, panel::Right::Weights(weights), 1.0, out);
}

/// Zeros, written by all threads: a large product begins with several megabytes of them.
fn zeros(count: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(count);
    let spare: &mut [MaybeUninit<f32>] = &mut out.spare_capacity_mut()[..count];
    spare
        .par_chunks_mut(ZEROS_PER_PIECE)
        .for_each(|piece| piece.fill(MaybeUninit::new(0.0)));
    #[expect(unsafe_code, reason = "all threads have written their piece")]
    // SAFETY: the capacity is at least `count`, and the loop above wrote the first `count` values.
    unsafe {
        out.set_len(count);
    }
    out
}

/// `scale * left * right`, row-major.
pub(crate) fn multiply(left: Operand<'_>, right: Operand<'_>, scale: f32) -> Vec<f32> {
    let count = left.rows * right.columns;
    if left.columns == 0 || panel::suits(left, right) {
        let mut out = zeros(count);
        multiply_add(left, right, scale, &mut out);
        return out;
    }
    let mut out = Vec::with_capacity(count);
    let target = Target {
        start: out.as_mut_ptr(),
        keep: false,
    };
    run(left, right, scale, &target);
    #[expect(unsafe_code, reason = "gemm has written every value")]
    // SAFETY: the capacity is `count`, and `run` wrote all of `left.rows * right.columns` values.
    unsafe {
        out.set_len(count);
    }
    out
}

/// Adds `scale * left * right` to `out`.
///
/// # Panics
/// If `out` has not the result's size.
pub(crate) fn multiply_add(left: Operand<'_>, right: Operand<'_>, scale: f32, out: &mut [f32]) {
    assert_eq!(
        out.len(),
        left.rows * right.columns,
        "the sum has the shape of the product"
    );
    if panel::suits(left, right) {
        assert_eq!(left.columns, right.rows, "inner widths agree");
        return panel::multiply_add(left, panel::Right::Floats(right), scale, out);
    }
    let target = Target {
        start: out.as_mut_ptr(),
        keep: true,
    };
    run(left, right, scale, &target);
}

/// Where a product goes: `rows * columns` values, row-major, exclusively borrowed by whoever made this.
struct Target {
    start: *mut f32,
    /// Whether to add to what is there.
    keep: bool,
}

// SAFETY: threads write disjoint tiles, and nobody reads before all are done.
#[expect(
    unsafe_code,
    reason = "tiles are written from several threads through one pointer"
)]
unsafe impl Sync for Target {}

fn run(left: Operand<'_>, right: Operand<'_>, scale: f32, target: &Target) {
    assert_eq!(left.columns, right.rows, "inner widths agree");
    let (rows, columns) = (left.rows, right.columns);
    if rows == 0 || columns == 0 || left.columns == 0 {
        return;
    }
    let whole = Tile {
        row: 0,
        rows,
        column: 0,
        columns,
    };
    if rows * columns * left.columns < CUT_FROM {
        return whole.compute(left, right, scale, target);
    }
    whole
        .cut()
        .into_par_iter()
        .with_max_len(1)
        .for_each(|tile| tile.compute(left, right, scale, target));
}

/// A part of the result.
#[derive(Clone, Copy, Debug)]
struct Tile {
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
}

impl Tile {
    /// Cuts into tiles of about the same size that cover it once.
    fn cut(self) -> Vec<Self> {
        let (down, across) = (
            pieces(self.rows, TILE_ROWS, 1),
            pieces(self.columns, TILE_COLUMNS, VECTOR),
        );
        let tile = |(row, rows), (column, columns)| Self {
            row,
            rows,
            column,
            columns,
        };
        across
            .iter()
            .flat_map(|&column| down.iter().map(move |&row| tile(row, column)))
            .collect()
    }

    fn compute(self, left: Operand<'_>, right: Operand<'_>, scale: f32, target: &Target) {
        let stride = right.columns;
        assert!(self.row + self.rows <= left.rows && self.column + self.columns <= stride);
        let left_values = &left.values[self.row * left.row_stride..];
        let right_values = &right.values[self.column * right.column_stride..];
        #[expect(unsafe_code, reason = "gemm takes pointers")]
        // SAFETY: `Operand::new` checked that the values fill the shape, the assertion above that the tile lies within
        // both operands, `run` that the inner widths agree; the target has `left.rows * stride` values, tiles of one
        // product are disjoint, and values are only read where the maker of the target said that they exist.
        unsafe {
            gemm::gemm(
                self.rows,
                self.columns,
                left.columns,
                target.start.add(self.row * stride + self.column),
                1,
                stride as isize,
                target.keep,
                left_values.as_ptr(),
                left.column_stride as isize,
                left.row_stride as isize,
                right_values.as_ptr(),
                right.column_stride as isize,
                right.row_stride as isize,
                1.0,
                scale,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

/// `(start, length)` of the fewest pieces of at most `most`, of about the same length, each beginning at a multiple
/// of `align`.
fn pieces(length: usize, most: usize, align: usize) -> Vec<(usize, usize)> {
    let each = length
        .div_ceil(length.div_ceil(most))
        .next_multiple_of(align);
    (0..length)
        .step_by(each)
        .map(|start| (start, each.min(length - start)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    }

    fn plain(left: Operand<'_>, right: Operand<'_>, scale: f64) -> Vec<f64> {
        let at = |m: Operand<'_>, i: usize, j: usize| {
            f64::from(m.values[i * m.row_stride + j * m.column_stride])
        };
        (0..left.rows * right.columns)
            .map(|place| {
                let (i, j) = (place / right.columns, place % right.columns);
                scale
                    * (0..left.columns)
                        .map(|k| at(left, i, k) * at(right, k, j))
                        .sum::<f64>()
            })
            .collect()
    }

    #[test]
    fn products_of_any_shape_equal_the_plain_sum() {
        let shapes = [
            (1, 1, 1),
            (3, 0, 2),
            (0, 4, 5),
            (5, 7, 3),
            (257, 33, 193),
            (600, 16, 400),
            (16, 300, 577),
            (19, 800, 1700),
            (16, 16, 96),
        ];
        for (rows, inner, columns) in shapes {
            let (a, b) = (values(rows * inner, 0.37), values(inner * columns, 0.73));
            for (flip_left, flip_right) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                let left = if flip_left {
                    Operand::new(&a, [inner, rows]).transposed()
                } else {
                    Operand::new(&a, [rows, inner])
                };
                let right = if flip_right {
                    Operand::new(&b, [columns, inner]).transposed()
                } else {
                    Operand::new(&b, [inner, columns])
                };
                let expected = plain(left, right, 0.5);
                let found = multiply(left, right, 0.5);
                let mut sum = vec![2.0; rows * columns];
                multiply_add(left, right, 0.5, &mut sum);
                assert_eq!(found.len(), expected.len());
                for ((found, sum), expected) in found.iter().zip(&sum).zip(&expected) {
                    assert!((f64::from(*found) - expected).abs() < 1e-4);
                    assert!((f64::from(*sum) - expected - 2.0).abs() < 1e-4);
                }
            }
        }
    }

    #[test]
    fn tiles_cover_the_result_once() {
        for (rows, columns) in [(1, 1), (256, 192), (257, 193), (512, 576), (300, 1537)] {
            let mut covered = vec![0; rows * columns];
            let whole = Tile {
                row: 0,
                rows,
                column: 0,
                columns,
            };
            for tile in whole.cut() {
                assert!(tile.rows <= TILE_ROWS && tile.columns <= TILE_COLUMNS);
                for row in tile.row..tile.row + tile.rows {
                    for column in tile.column..tile.column + tile.columns {
                        covered[row * columns + column] += 1;
                    }
                }
            }
            assert!(covered.iter().all(|&times| times == 1));
        }
    }

    #[test]
    #[should_panic(expected = "inner widths agree")]
    fn operands_that_do_not_fit_are_refused() {
        let a = [0.0; 6];
        multiply(Operand::new(&a, [2, 3]), Operand::new(&a, [2, 3]), 1.0);
    }
}
