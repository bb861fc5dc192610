//! Products of some rows with a large matrix: the frozen weights' share of a training step.
//!
//! The right side is packed once for all rows, into panels of 48 columns with one `k` after the other; then each thread takes
//! some rows, packs them by eights, and runs over the panels with a kernel that holds 8 x 48 sums in registers. A general
//! product packs the right side again for every block of rows. A sum goes through `k` in one order whatever the cut, so
//! results do not depend on the number of threads. Small and transposed left sides are for `product`.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{
    compressed::Compressed,
    product::{Operand, Weights},
};

/// Columns of a panel: three vectors of sixteen.
const COLUMNS: usize = 48;
/// Vectors that a kernel holds for each of its rows.
const VECTORS: usize = 3;
/// Rows packed side by side.
const ROWS: usize = 8;
/// Most of `k` packed at a time.
const DEPTH: usize = 1536;
/// Stretch of `k` between two additions to the result; a panel of it stays in the first-level cache.
const STRETCH: usize = 192;
/// Most columns packed at a time: it bounds the memory of a product with the vocabulary.
const COLUMNS_PER_BLOCK: usize = 32 * COLUMNS;
/// Most rows of one task.
const ROWS_PER_TASK: usize = 128;
/// Side of the squares that a transposing copy goes by.
const SQUARE: usize = 16;

/// Whether a product is of the kind that panels are good for.
pub(super) fn suits(left: Operand<'_>, right: Operand<'_>) -> bool {
    left.column_stride == 1
        && left.rows >= 2 * ROWS
        && left.columns >= SQUARE
        && right.columns >= 2 * COLUMNS
}

/// The right side: floats, or frozen weights that are decoded while they are packed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Right<'a> {
    Floats(Operand<'a>),
    Weights(Weights<'a>),
}

impl Right<'_> {
    fn columns(self) -> usize {
        match self {
            Self::Floats(operand) => operand.columns,
            Self::Weights(weights) => weights.columns(),
        }
    }
}

/// Adds `scale * left * right` to `out`, row-major.
///
/// # Panics
/// If the left side is transposed.
pub(super) fn multiply_add(left: Operand<'_>, right: Right<'_>, scale: f32, out: &mut [f32]) {
    assert_eq!(left.column_stride, 1, "the left side is as it is stored");
    let (inner, stride) = (left.columns, right.columns());
    let tasks = 2 * rayon::current_num_threads();
    let rows_per_task = left.rows.div_ceil(tasks).next_multiple_of(ROWS);
    let rows_per_task = rows_per_task.min(ROWS_PER_TASK);
    let mut packed = Vec::new();
    for first_k in (0..inner).step_by(DEPTH) {
        let depth = DEPTH.min(inner - first_k);
        for first_column in (0..stride).step_by(COLUMNS_PER_BLOCK) {
            let columns = COLUMNS_PER_BLOCK.min(stride - first_column);
            let block = Block {
                first_k,
                depth,
                first_column,
                columns,
            };
            block.pack(right, &mut packed);
            out.par_chunks_mut(rows_per_task * stride)
                .enumerate()
                .for_each(|(task, out)| {
                    Arch::new().dispatch(Task {
                        block,
                        packed: &packed,
                        left,
                        first_row: task * rows_per_task,
                        scale,
                        out,
                        stride,
                    });
                });
        }
    }
}

/// A part of the right side.
#[derive(Clone, Copy)]
struct Block {
    first_k: usize,
    depth: usize,
    first_column: usize,
    columns: usize,
}

impl Block {
    /// Packs the panels of the block; columns beyond the matrix are zero.
    fn pack(self, right: Right<'_>, packed: &mut Vec<f32>) {
        let size = COLUMNS * self.depth;
        packed.resize(self.columns.div_ceil(COLUMNS) * size, 0.0);
        packed
            .par_chunks_mut(size)
            .enumerate()
            .for_each(|(number, panel)| {
                let column = number * COLUMNS;
                let width = COLUMNS.min(self.columns - column);
                let first = (self.first_k, self.first_column + column);
                let (lines, _) = panel.as_chunks_mut::<COLUMNS>();
                super::vectorised(
                    #[inline(always)]
                    || match right {
                        Right::Floats(right) => fill(right, first, width, lines),
                        Right::Weights(Weights::Plain(weights)) => {
                            decode(weights, first, width, lines);
                        }
                        Right::Weights(Weights::Transposed(weights)) => {
                            decode_transposed(weights, first, width, lines);
                        }
                    },
                );
            });
    }
}

/// Floats, from `(k, column)` on.
#[inline(always)]
fn fill(
    right: Operand<'_>,
    (k, column): (usize, usize),
    width: usize,
    lines: &mut [[f32; COLUMNS]],
) {
    let values = &right.values[k * right.row_stride + column * right.column_stride..];
    if right.column_stride == 1 {
        copy(values, right.row_stride, width, lines);
    } else {
        transpose(values, right.column_stride, width, lines);
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

/// Columns of the panel that are pieces of the weights' rows.
#[inline(always)]
fn decode_transposed(
    weights: &Compressed,
    (k, column): (usize, usize),
    width: usize,
    lines: &mut [[f32; COLUMNS]],
) {
    let mut piece = [0.0; SQUARE];
    for (lines, k) in lines.chunks_mut(SQUARE).zip((k..).step_by(SQUARE)) {
        for place in 0..width {
            let piece = &mut piece[..lines.len()];
            weights.decode(column + place, k, piece);
            for (line, value) in lines.iter_mut().zip(piece) {
                line[place] = *value;
            }
        }
        for line in lines {
            line[width..].fill(0.0);
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

/// Columns of the panel that are rows of the matrix.
#[inline(always)]
fn transpose(values: &[f32], stride: usize, width: usize, lines: &mut [[f32; COLUMNS]]) {
    for (square, lines) in lines.chunks_mut(SQUARE).enumerate() {
        for column in 0..width {
            let from = &values[column * stride + square * SQUARE..][..lines.len()];
            for (line, value) in lines.iter_mut().zip(from) {
                line[column] = *value;
            }
        }
        for line in lines {
            line[width..].fill(0.0);
        }
    }
}

/// Some rows of the result, over one block.
struct Task<'a> {
    block: Block,
    packed: &'a [f32],
    left: Operand<'a>,
    first_row: usize,
    scale: f32,
    /// Whole rows.
    out: &'a mut [f32],
    stride: usize,
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
    fn run<S: Simd, const HEIGHT: usize>(self, simd: S) {
        let rows = self.out.len() / self.stride;
        let groups = self.pack_left::<HEIGHT>(rows);
        let Block {
            depth,
            first_column,
            columns,
            ..
        } = self.block;
        for (number, panel) in self.packed.chunks_exact(COLUMNS * depth).enumerate() {
            let column = number * COLUMNS;
            let width = COLUMNS.min(columns - column);
            let (panel, _) = panel.as_chunks::<COLUMNS>();
            for (panel, start) in panel.chunks(STRETCH).zip((0..).step_by(STRETCH)) {
                for (group, left) in groups.chunks_exact(depth).enumerate() {
                    let first = group * HEIGHT;
                    let height = HEIGHT.min(rows - first);
                    let target = Target {
                        out: &mut self.out[first * self.stride + first_column + column..],
                        stride: self.stride,
                        height,
                        width,
                        scale: self.scale,
                    };
                    multiply_group::<S, HEIGHT>(simd, &left[start..], panel, target);
                }
            }
        }
    }

    /// The task's rows side by side, one `k` after the other; rows beyond the task are zero.
    #[inline(always)]
    fn pack_left<const HEIGHT: usize>(&self, rows: usize) -> Vec<[f32; HEIGHT]> {
        let Block { first_k, depth, .. } = self.block;
        let mut packed = vec![[0.0; HEIGHT]; rows.div_ceil(HEIGHT) * depth];
        for row in 0..rows {
            let start = (self.first_row + row) * self.left.row_stride + first_k;
            let from = &self.left.values[start..][..depth];
            let to = &mut packed[row / HEIGHT * depth..][..depth];
            for (to, value) in to.iter_mut().zip(from) {
                to[row % HEIGHT] = *value;
            }
        }
        packed
    }
}

/// Where the sums of a group go.
struct Target<'a> {
    /// Begins at the group's first value.
    out: &'a mut [f32],
    stride: usize,
    height: usize,
    width: usize,
    scale: f32,
}

/// One group of rows times one panel.
#[inline(always)]
fn multiply_group<S: Simd, const HEIGHT: usize>(
    simd: S,
    left: &[[f32; HEIGHT]],
    panel: &[[f32; COLUMNS]],
    mut target: Target<'_>,
) {
    let part = VECTORS * S::F32_LANES;
    for start in (0..COLUMNS).step_by(part) {
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; HEIGHT];
        // Indices of constant range, so that the loops are unrolled and the sums stay in registers.
        for (left, line) in left.iter().zip(panel) {
            let (vectors, _) = S::as_simd_f32s(&line[start..start + part]);
            let vectors: [S::f32s; VECTORS] = [vectors[0], vectors[1], vectors[2]];
            for row in 0..HEIGHT {
                let value = simd.splat_f32s(left[row]);
                for place in 0..VECTORS {
                    sums[row][place] = simd.mul_add_e_f32s(value, vectors[place], sums[row][place]);
                }
            }
        }
        target.add(simd, start, &sums);
    }
}

impl Target<'_> {
    #[inline(always)]
    fn add<S: Simd>(&mut self, simd: S, start: usize, sums: &[[S::f32s; VECTORS]]) {
        let part = VECTORS * S::F32_LANES;
        let width = self.width.saturating_sub(start).min(part);
        let scale = simd.splat_f32s(self.scale);
        for (row, sums) in sums.iter().enumerate().take(self.height) {
            let out = &mut self.out[row * self.stride..];
            if width == part {
                let (out, _) = S::as_mut_simd_f32s(&mut out[start..start + part]);
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = simd.mul_add_e_f32s(scale, *sum, *out);
                }
                continue;
            }
            let mut edge = [0.0; COLUMNS];
            let (place, _) = S::as_mut_simd_f32s(&mut edge[..part]);
            for (place, sum) in place.iter_mut().zip(sums) {
                *place = simd.mul_f32s(scale, *sum);
            }
            for (out, value) in out.iter_mut().skip(start).zip(&edge[..width]) {
                *out += value;
            }
        }
    }
}
