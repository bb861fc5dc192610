//! Matrix products on slices: large ones by panels, the others by the gemm crate in tiles at fixed places.
//!
//! What suits [`panel`] goes there. The rest (narrow, or with a transposed left side) is gemm's, the crate that `burn-flex`
//! uses, but cut by us: gemm divides one product among its threads and joins them after each panel, which leaves a third of
//! two cores idle at the shapes of an adapted decoder. Here every tile is a product of its own on one thread, and neither
//! way's results depend on the number of threads.
//!
//! One of the modules with unsafe code: gemm takes pointers, and results are allocated without being written first.

use gemm::Parallelism;
use rayon::prelude::*;

use super::{
    compressed::Compressed,
    panel::{self, Right},
    target::{Target, Tile},
};

/// Most rows and columns of a tile: its operands fit the second-level cache at the widths of small models.
const TILE_ROWS: usize = 256;
const TILE_COLUMNS: usize = 192;
/// Tiles begin at whole vectors.
const VECTOR: usize = 16;
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

    pub(super) fn rows(self) -> usize {
        match self {
            Self::Plain(weights) => weights.dims()[0],
            Self::Transposed(weights) => weights.dims()[1],
        }
    }
}

/// `left * weights`, row-major.
pub(crate) fn multiply_weights(left: Operand<'_>, weights: Weights<'_>) -> Vec<f32> {
    by_panels(left, Right::Weights(weights), 1.0)
}

/// Adds `left * weights` to `out`.
///
/// # Panics
/// If the inner widths differ or `out` has not the result's size.
pub(crate) fn add_weights(left: Operand<'_>, weights: Weights<'_>, out: &mut [f32]) {
    let columns = weights.columns();
    assert_size(left.rows * columns, out);
    panel::multiply(
        left,
        Right::Weights(weights),
        1.0,
        Target::sum(out, columns),
    );
}

/// `scale * left * right`, row-major.
pub(crate) fn multiply(left: Operand<'_>, right: Operand<'_>, scale: f32) -> Vec<f32> {
    if panel::suits(left, right) {
        return by_panels(left, Right::Floats(right), scale);
    }
    let fresh = |target: Target<'_>| by_tiles(left, right, scale, target);
    allocated(left, right.columns, left.columns > 0, fresh)
}

/// Adds `scale * left * right` to `out`.
///
/// # Panics
/// If `out` has not the result's size.
pub(crate) fn multiply_add(left: Operand<'_>, right: Operand<'_>, scale: f32, out: &mut [f32]) {
    assert_size(left.rows * right.columns, out);
    let target = Target::sum(out, right.columns);
    if panel::suits(left, right) {
        return panel::multiply(left, Right::Floats(right), scale, target);
    }
    by_tiles(left, right, scale, target);
}

fn assert_size(count: usize, out: &[f32]) {
    assert_eq!(out.len(), count, "the sum has the shape of the product");
}

fn by_panels(left: Operand<'_>, right: Right<'_>, scale: f32) -> Vec<f32> {
    let whole = panel::in_one_pass(left);
    let fresh = |target: Target<'_>| panel::multiply(left, right, scale, target);
    allocated(left, right.columns(), whole, fresh)
}

/// The result of `write`, which gets a fresh target if it fills one, else a sum that begins with zeros.
fn allocated(
    left: Operand<'_>,
    columns: usize,
    fills: bool,
    write: impl FnOnce(Target<'_>),
) -> Vec<f32> {
    let count = left.rows * columns;
    if !fills {
        let mut out = vec![0.0; count];
        write(Target::sum(&mut out, columns));
        return out;
    }
    let mut out = Vec::with_capacity(count);
    write(Target::fresh(
        &mut out.spare_capacity_mut()[..count],
        columns,
    ));
    #[expect(unsafe_code, reason = "the product has written every value")]
    // SAFETY: the capacity is `count`, and both ways of multiplying write all tiles of a fresh target.
    unsafe {
        out.set_len(count);
    }
    out
}

fn by_tiles(left: Operand<'_>, right: Operand<'_>, scale: f32, target: Target<'_>) {
    assert_eq!(left.columns, right.rows, "inner widths agree");
    let (rows, columns) = (left.rows, right.columns);
    if rows == 0 || columns == 0 || left.columns == 0 {
        return;
    }
    if rows * columns * left.columns < CUT_FROM {
        let whole = target.tiles([rows, columns]);
        return whole
            .into_iter()
            .for_each(|tile| compute(left, right, scale, tile));
    }
    let size = [
        even(rows, TILE_ROWS, 1),
        even(columns, TILE_COLUMNS, VECTOR),
    ];
    target
        .tiles(size)
        .into_par_iter()
        .with_max_len(1)
        .for_each(|tile| compute(left, right, scale, tile));
}

/// The length of the fewest pieces of at most `most`, all about the same and a multiple of `align`.
fn even(length: usize, most: usize, align: usize) -> usize {
    let each = length.div_ceil(length.div_ceil(most));
    each.next_multiple_of(align)
}

fn compute(left: Operand<'_>, right: Operand<'_>, scale: f32, mut tile: Tile<'_>) {
    assert!(tile.row + tile.rows <= left.rows && tile.column + tile.columns <= right.columns);
    let left_values = &left.values[tile.row * left.row_stride..];
    let right_values = &right.values[tile.column * right.column_stride..];
    let (start, stride) = tile.raw();
    #[expect(unsafe_code, reason = "gemm takes pointers")]
    // SAFETY: `Operand::new` checked that the values fill the shape, the assertion above that the tile lies within both
    // operands, `by_tiles` that the inner widths agree; the tile lies within its result, overlaps no other, and is read
    // only where it is part of a sum.
    unsafe {
        gemm::gemm(
            tile.rows,
            tile.columns,
            left.columns,
            start,
            1,
            stride as isize,
            tile.keep,
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
            (45, 4200, 100),
            (1000, 32, 97),
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
    #[should_panic(expected = "inner widths agree")]
    fn operands_that_do_not_fit_are_refused() {
        let a = [0.0; 6];
        multiply(Operand::new(&a, [2, 3]), Operand::new(&a, [2, 3]), 1.0);
    }
}
