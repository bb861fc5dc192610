//! Products of some rows with a large matrix: the frozen weights' share of a training step.
//!
//! A task packs 48 columns of the right side, one `k` after the other, and multiplies all of its rows with that panel while it
//! lies in the second-level cache: eight rows at a time, whose 8 x 48 sums stay in registers. The left side is read as it
//! lies. Packing is one pass over the right side, by squares in registers where its rows are the panel's columns, and tasks
//! share nothing. A sum goes through `k` in one order whatever the cut, so results do not depend on the number of threads.
//! Small and transposed left sides are for `product`.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{
    compressed::Compressed,
    product::{Operand, Weights},
    square::{SIDE, Transposer},
    target::{Target, Tile},
};

/// Columns of a panel: three vectors of sixteen.
const COLUMNS: usize = 48;
/// Vectors that a kernel holds for each of its rows.
const VECTORS: usize = 3;
/// Rows of a group, whose sums are in registers.
const ROWS: usize = 8;
/// Most of `k` packed at a time: a panel stays in the second-level cache.
const DEPTH: usize = 2048;
/// Fewest rows of a task that are worth their packing.
const ROWS_PER_TASK: usize = 64;

/// Whether a product is of the kind that panels are good for.
pub(super) fn suits(left: Operand<'_>, right: Operand<'_>) -> bool {
    left.column_stride == 1
        && left.rows >= 2 * ROWS
        && left.columns >= SIDE
        && right.columns >= 2 * COLUMNS
}

/// Whether each value of the result is written once, so that it need not begin as zero.
pub(super) fn in_one_pass(left: Operand<'_>) -> bool {
    (1..=DEPTH).contains(&left.columns)
}

/// The right side: floats, or frozen weights that are decoded while they are packed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Right<'a> {
    Floats(Operand<'a>),
    Weights(Weights<'a>),
}

impl Right<'_> {
    fn rows(self) -> usize {
        match self {
            Self::Floats(operand) => operand.rows,
            Self::Weights(weights) => weights.rows(),
        }
    }

    pub(super) fn columns(self) -> usize {
        match self {
            Self::Floats(operand) => operand.columns,
            Self::Weights(weights) => weights.columns(),
        }
    }
}

/// Puts `scale * left * right` into `target`; a fresh one only if it is done [`in_one_pass`].
///
/// # Panics
/// If the inner widths differ or the left side is transposed.
pub(super) fn multiply(left: Operand<'_>, right: Right<'_>, scale: f32, target: Target<'_>) {
    assert_eq!(left.column_stride, 1, "the left side is as it is stored");
    assert_eq!(left.columns, right.rows(), "inner widths agree");
    if left.rows == 0 {
        return;
    }
    // Every thread has two tasks at least, if the rows allow it.
    let panels = right.columns().div_ceil(COLUMNS).max(1);
    let cuts = (2 * rayon::current_num_threads()).div_ceil(panels);
    let height = left.rows.div_ceil(cuts).max(ROWS_PER_TASK);
    let tiles = target.tiles([height.next_multiple_of(ROWS), COLUMNS]);
    let tasks = tiles.into_par_iter().with_max_len(1);
    tasks.for_each_init(Vec::new, |panel, tile| {
        Arch::new().dispatch(Task {
            left,
            right,
            scale,
            tile,
            panel,
        });
    });
}

/// Some rows of the result, over one panel.
struct Task<'a> {
    left: Operand<'a>,
    right: Right<'a>,
    scale: f32,
    tile: Tile<'a>,
    /// Room for the panel.
    panel: &'a mut Vec<[f32; COLUMNS]>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Eight rows of three vectors need 24 registers for their sums, four rows half of that.
        if S::REGISTER_COUNT >= 32 {
            self.run::<S, ROWS>(simd);
        } else {
            self.run::<S, { ROWS / 2 }>(simd);
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, const HEIGHT: usize>(mut self, simd: S) {
        for first_k in (0..self.left.columns).step_by(DEPTH) {
            let depth = DEPTH.min(self.left.columns - first_k);
            self.panel.resize(depth, [0.0; COLUMNS]);
            pack(
                self.right,
                (first_k, self.tile.column),
                self.tile.columns,
                self.panel,
            );
            for row in (0..self.tile.rows).step_by(HEIGHT) {
                let height = HEIGHT.min(self.tile.rows - row);
                // Rows beyond the tile are its last one again; their sums are dropped.
                let rows = std::array::from_fn(|place| {
                    let row = self.tile.row + row + place.min(height - 1);
                    &self.left.values[row * self.left.row_stride + first_k..][..depth]
                });
                self.group::<S, HEIGHT>(simd, rows, row, height);
            }
        }
    }

    /// One group of rows times the panel.
    #[inline(always)]
    fn group<S: Simd, const HEIGHT: usize>(
        &mut self,
        simd: S,
        rows: [&[f32]; HEIGHT],
        first: usize,
        height: usize,
    ) {
        let part = VECTORS * S::F32_LANES;
        for start in (0..self.tile.columns).step_by(part) {
            let sums = simd.vectorize(Sums {
                rows,
                panel: self.panel,
                start,
            });
            let width = part.min(self.tile.columns - start);
            for (place, mut values) in sums.into_iter().enumerate().take(height) {
                values.iter_mut().for_each(|value| *value *= self.scale);
                if width == COLUMNS {
                    self.tile.put(first + place, start, &values);
                } else {
                    self.tile.put(first + place, start, &values[..width]);
                }
            }
        }
    }
}

/// The sums over `k` of some rows with three vectors of the panel's columns; a function of its own, so that whatever is
/// around it takes no registers from the sums.
struct Sums<'a, const HEIGHT: usize> {
    rows: [&'a [f32]; HEIGHT],
    panel: &'a [[f32; COLUMNS]],
    start: usize,
}

impl<const HEIGHT: usize> WithSimd for Sums<'_, HEIGHT> {
    type Output = [[f32; COLUMNS]; HEIGHT];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [[f32; COLUMNS]; HEIGHT] {
        let part = VECTORS * S::F32_LANES;
        // As long as the panel, so that the loop checks no bounds.
        let rows = self.rows.map(|row| &row[..self.panel.len()]);
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; HEIGHT];
        // Indices of constant range, so that the loops are unrolled and the sums stay in registers.
        for (k, line) in self.panel.iter().enumerate() {
            let (vectors, _) = S::as_simd_f32s(&line[self.start..self.start + part]);
            let vectors: [S::f32s; VECTORS] = [vectors[0], vectors[1], vectors[2]];
            for row in 0..HEIGHT {
                let value = simd.splat_f32s(rows[row][k]);
                for place in 0..VECTORS {
                    sums[row][place] = simd.mul_add_e_f32s(value, vectors[place], sums[row][place]);
                }
            }
        }
        let mut values = [[0.0; COLUMNS]; HEIGHT];
        for (values, sums) in values.iter_mut().zip(&sums) {
            let (vectors, _) = S::as_mut_simd_f32s(&mut values[..part]);
            vectors.copy_from_slice(sums);
        }
        values
    }
}

/// Packs `width` columns from `(k, column)` on, as many lines as there is room for; columns beyond the matrix are zero.
#[inline(always)]
fn pack(right: Right<'_>, (k, column): (usize, usize), width: usize, lines: &mut [[f32; COLUMNS]]) {
    match right {
        Right::Floats(right) if right.column_stride == 1 => {
            let values = &right.values[k * right.row_stride + column..];
            copy(values, right.row_stride, width, lines);
        }
        Right::Floats(right) => {
            let values = &right.values[column * right.column_stride + k * right.row_stride..];
            across(width, lines, |place, first, out| {
                let values = &values[place * right.column_stride + first..];
                match (out.first_chunk_mut::<SIDE>(), values.first_chunk()) {
                    // A copy of known length; a short one would be a call.
                    (Some(whole), Some(values)) => *whole = *values,
                    _ => out.copy_from_slice(&values[..out.len()]),
                }
            });
        }
        Right::Weights(Weights::Plain(weights)) => decode(weights, (k, column), width, lines),
        Right::Weights(Weights::Transposed(weights)) => {
            across(width, lines, |place, first, out| {
                weights.decode(column + place, k + first, out);
            });
        }
    }
}

/// Lines that lie in the matrix as they are.
#[inline(always)]
fn copy(values: &[f32], stride: usize, width: usize, lines: &mut [[f32; COLUMNS]]) {
    for (line, values) in lines.iter_mut().zip(values.chunks(stride)) {
        match values.first_chunk() {
            // A copy of known length; a short one would be a call.
            Some(whole) if width == COLUMNS => *line = *whole,
            _ => {
                line[..width].copy_from_slice(&values[..width]);
                line[width..].fill(0.0);
            }
        }
    }
}

/// Lines that are pieces of the weights' rows.
#[inline(always)]
fn decode(
    weights: &Compressed,
    (k, column): (usize, usize),
    width: usize,
    lines: &mut [[f32; COLUMNS]],
) {
    for (line, row) in lines.iter_mut().zip(k..) {
        weights.decode(row, column, &mut line[..width]);
        line[width..].fill(0.0);
    }
}

/// Lines across the matrix: `read(column, first, out)` gives what a column has in lines `first..`, sixteen at most.
#[inline(always)]
fn across(width: usize, lines: &mut [[f32; COLUMNS]], read: impl Fn(usize, usize, &mut [f32])) {
    let transposer = Transposer::new();
    for (lines, first) in lines.chunks_mut(SIDE).zip((0..).step_by(SIDE)) {
        for column in (0..COLUMNS).step_by(SIDE) {
            let mut values = [[0.0; SIDE]; SIDE];
            for (place, values) in values
                .iter_mut()
                .enumerate()
                .take(width.saturating_sub(column))
            {
                read(column + place, first, &mut values[..lines.len()]);
            }
            transposer.transpose(&mut values);
            for (line, values) in lines.iter_mut().zip(&values) {
                line[column..column + SIDE].copy_from_slice(values);
            }
        }
    }
}
