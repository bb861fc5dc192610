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

    /// The first rows, transposed: `[width, rows]`.
    #[inline(always)]
    fn transposed(&self, rows: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.width * rows];
        for row in 0..rows {
            let places = out[row..].iter_mut().step_by(rows);
            places
                .zip(self.row(row))
                .for_each(|(place, value)| *place = *value);
        }
        out
    }
}

/// A block of scores and the scratch space of its products.
struct Block {
    scores: Vec<f32>,
    panel: Vec<f32>,
}

impl Block {
    fn new() -> Self {
        Self {
            scores: vec![0.0; QUERIES_PER_BLOCK * KEYS_PER_BLOCK],
            panel: Vec::new(),
        }
    }

    /// `left * right` over the width of a head, into `scores`.
    #[inline(always)]
    fn product(&mut self, left: Left<'_>, right: Right<'_>, extent: Extent) {
        self.scores[..extent.rows * KEYS_PER_BLOCK].fill(0.0);
        let out = (&mut self.scores[..], KEYS_PER_BLOCK);
        tile::multiply_add(left, right, out, extent, &mut self.panel);
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
        tile::multiply_add(left, right, out, extent, &mut self.panel);
    }

    /// `out += scores^T * right`.
    #[inline(always)]
    fn transposed_times(&mut self, right: Right<'_>, out: (&mut [f32], usize), extent: Extent) {
        let left = Left {
            values: &self.scores,
            row_stride: 1,
            column_stride: KEYS_PER_BLOCK,
        };
        tile::multiply_add(left, right, out, extent, &mut self.panel);
    }
}
