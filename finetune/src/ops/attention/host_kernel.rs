//! Attention on slices: a task is one span and one head, and blocks of its scores are small matrix products.
//!
//! A task is computed by one thread in one order; its columns are then copied to their place in the whole matrix.

use super::{Attended, Heads, Inputs, Span};
use crate::host::tile::{self, Extent, Left, Right};

mod backward;
mod forward;

pub(super) use backward::backward;
pub(super) use forward::forward;

/// Queries and keys of one block; its scores fit the first-level cache beside the operands.
const QUERIES_PER_BLOCK: usize = 48;
const KEYS_PER_BLOCK: usize = 64;
/// Blocks are computed in whole vectors of this many floats.
const LANES: usize = 16;

/// One span and one query head (forward) or key head (backward).
struct Task<'a> {
    span: &'a Span,
    head: usize,
}

fn tasks(spans: &[Span], heads: usize) -> Vec<Task<'_>> {
    spans
        .iter()
        .flat_map(|span| (0..heads).map(move |head| Task { span, head }))
        .collect()
}

/// Copies a task's columns to their place in the whole matrix.
fn place(whole: &mut [f32], stride: usize, span: &Span, column: usize, part: &[f32], width: usize) {
    let rows = whole[span.queries.start * stride..].chunks_mut(stride);
    for (row, part) in rows.zip(part.chunks_exact(width)) {
        row[column..column + width].copy_from_slice(part);
    }
}

/// One head's columns of a matrix, from some row on.
#[derive(Clone, Copy)]
struct Columns<'a> {
    /// Begins at the head's first value.
    values: &'a [f32],
    stride: usize,
    width: usize,
}

impl<'a> Columns<'a> {
    #[inline(always)]
    fn new(values: &'a [f32], first_row: usize, stride: usize, head: usize, width: usize) -> Self {
        Self {
            values: &values[first_row * stride + head * width..],
            stride,
            width,
        }
    }

    #[inline(always)]
    fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..self.width]
    }

    /// The left operand of a product, from this row on.
    #[inline(always)]
    fn left(&self, row: usize) -> Left<'a> {
        let values = &self.values[row * self.stride..];
        Left {
            values,
            row_stride: self.stride,
            column_stride: 1,
        }
    }

    /// The right operand of a product, from this row on.
    #[inline(always)]
    fn right(&self, row: usize) -> Right<'a> {
        Right {
            values: &self.values[row * self.stride..],
            stride: self.stride,
        }
    }

    /// The first rows, transposed: `[width, rows]` and zeros up to whole vectors.
    #[inline(always)]
    fn transposed(&self, rows: usize) -> Transposed {
        let stride = rows.next_multiple_of(LANES);
        let mut values = vec![0.0; self.width * stride];
        for row in 0..rows {
            let places = values[row..].iter_mut().step_by(stride);
            places
                .zip(self.row(row))
                .for_each(|(place, value)| *place = *value);
        }
        Transposed { values, stride }
    }
}

/// One head's columns as rows.
struct Transposed {
    values: Vec<f32>,
    stride: usize,
}

impl Transposed {
    /// The right operand of a product, from this column on.
    #[inline(always)]
    fn right(&self, column: usize) -> Right<'_> {
        Right {
            values: &self.values[column..],
            stride: self.stride,
        }
    }
}

/// A block of scores.
struct Block {
    scores: Vec<f32>,
}

impl Block {
    fn new() -> Self {
        Self {
            scores: vec![0.0; QUERIES_PER_BLOCK * KEYS_PER_BLOCK],
        }
    }

    /// `left * right` over the width of a head, into `scores`, and columns without meaning up to whole vectors.
    #[inline(always)]
    fn product(&mut self, left: Left<'_>, right: Right<'_>, extent: Extent) {
        self.scores[..extent.rows * KEYS_PER_BLOCK].fill(0.0);
        let extent = Extent {
            columns: extent.columns.next_multiple_of(LANES),
            ..extent
        };
        let out = (&mut self.scores[..], KEYS_PER_BLOCK);
        tile::multiply_add(left, right, out, extent);
    }

    #[inline(always)]
    fn row(&mut self, row: usize, columns: usize) -> &mut [f32] {
        &mut self.scores[row * KEYS_PER_BLOCK..][..columns]
    }

    /// `out += scores * right`.
    #[inline(always)]
    fn times(&mut self, right: Right<'_>, out: (&mut [f32], usize), extent: Extent) {
        let left = Left {
            values: &self.scores,
            row_stride: KEYS_PER_BLOCK,
            column_stride: 1,
        };
        tile::multiply_add(left, right, out, extent);
    }

    /// `out += scores^T * right`.
    #[inline(always)]
    fn transposed_times(&mut self, right: Right<'_>, out: (&mut [f32], usize), extent: Extent) {
        let left = Left {
            values: &self.scores,
            row_stride: 1,
            column_stride: KEYS_PER_BLOCK,
        };
        tile::multiply_add(left, right, out, extent);
    }
}
