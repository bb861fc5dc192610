//! All updates of a round side by side, read a block of columns at a time.
//!
//! A row is an update, a column one value of the adapter. A block holds the same columns of every row, so memory is bounded
//! by the block and not by the adapter. What is summed over columns is summed stretch by stretch, and the stretches' sums are
//! added up in their order: the result depends neither on the size of a block nor on threads. What the columns of a stretch
//! come to is the rules' business.

use std::io;
use std::ops::Range;

use rayon::prelude::*;

use crate::adapter::all_finite;
use crate::encoded::{EncodedUpdate, ReadAt};

/// Columns whose sums are formed together.
pub(super) const STRETCH: usize = 256;

/// Stretches of a row that one task reads at a time.
const READ: usize = 256 * STRETCH;

/// Bytes of a value in a block.
const VALUE_BYTES: usize = size_of::<f32>();

/// What is wrong with an update that was admitted before.
#[derive(Debug)]
pub(super) enum Unusable {
    /// Its bytes cannot be read.
    Read { row: usize, source: io::Error },
    /// A value is not finite any more.
    NotFinite { row: usize, column: usize },
}

/// The updates of a round, in an order that does not depend on their arrival.
#[derive(Debug)]
pub(super) struct Columns<'a, R> {
    rows: Vec<&'a EncodedUpdate<R>>,
    columns: usize,
    /// Columns of a block: whole stretches.
    width: usize,
}

/// The same columns of every row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    columns: usize,
    /// Row after row.
    values: &'a [f32],
}

/// At most [`STRETCH`] columns of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch<'a> {
    block: Block<'a>,
    from: usize,
    to: usize,
}

impl<'a, R: ReadAt> Columns<'a, R> {
    /// Takes updates of `columns` values each, at least one. A block has at most `block_bytes` bytes, or one stretch.
    pub(super) fn new(rows: Vec<&'a EncodedUpdate<R>>, columns: usize, block_bytes: usize) -> Self {
        let stretch = rows.len() * STRETCH * VALUE_BYTES;
        let width = (block_bytes / stretch).max(1) * STRETCH;
        Self {
            rows,
            columns,
            width,
        }
    }

    /// How many updates there are.
    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// How many values an update has.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Some of the updates only, in the same blocks.
    pub(super) fn only(&self, rows: &[usize]) -> Self {
        let rows = rows.iter().map(|&row| self.rows[row]);
        Self {
            rows: rows.collect(),
            columns: self.columns,
            width: self.width,
        }
    }

    /// Has `work` look at one block after another.
    pub(super) fn blocks(
        &self,
        mut work: impl FnMut(Range<usize>, Block<'_>),
    ) -> Result<(), Unusable> {
        let mut buffer = Vec::new();
        for first in (0..self.columns).step_by(self.width) {
            let columns = self.width.min(self.columns - first);
            buffer.resize(self.rows.len() * columns, 0.0);
            self.read(first, columns, &mut buffer)?;
            let block = Block {
                columns,
                values: &buffer,
            };
            work(first..first + columns, block);
        }
        Ok(())
    }

    /// Has `work` make each stretch's part of `out`, and its sums for each row; gives the sums of all stretches.
    pub(super) fn pass<S: Send>(
        &self,
        out: &mut [f32],
        scratch: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, Stretch<'_>, &mut [f32], &mut [f64]) + Sync,
    ) -> Result<Vec<f64>, Unusable> {
        let rows = self.rows.len();
        let (mut totals, mut sums) = (vec![0.0; rows], Vec::new());
        self.blocks(|range, block| {
            let out = &mut out[range];
            sums.clear();
            sums.resize(out.len().div_ceil(STRETCH) * rows, 0.0);
            let stretches = out.par_chunks_mut(STRETCH).zip(sums.par_chunks_mut(rows));
            stretches
                .enumerate()
                .for_each_init(&scratch, |scratch, (index, (out, sums))| {
                    work(scratch, block.stretch(index), out, sums);
                });
            add_in_order(&mut totals, &sums);
        })?;
        Ok(totals)
    }

    fn read(&self, first: usize, columns: usize, buffer: &mut [f32]) -> Result<(), Unusable> {
        let rows = buffer.par_chunks_mut(columns).enumerate();
        let parts = rows.flat_map(|(row, values)| {
            let parts = values.par_chunks_mut(READ).enumerate();
            parts.map(move |(part, values)| (row, first + part * READ, values))
        });
        // The first in order: of several faults always the same is told.
        let faults = parts.map(|(row, first, values)| self.read_part(row, first, values).err());
        match faults.find_first(Option::is_some).flatten() {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    fn read_part(&self, row: usize, first: usize, values: &mut [f32]) -> Result<(), Unusable> {
        let read = self.rows[row].read(first, values);
        read.map_err(|source| Unusable::Read { row, source })?;
        if all_finite(values) {
            return Ok(());
        }
        let at = values.iter().position(|value| !value.is_finite());
        Err(Unusable::NotFinite {
            row,
            column: first + at.unwrap_or(0),
        })
    }
}

/// Adds the sums of stretch after stretch.
pub(super) fn add_in_order(totals: &mut [f64], sums: &[f64]) {
    for sums in sums.chunks_exact(totals.len()) {
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total += sum;
        }
    }
}

impl<'a> Block<'a> {
    /// How many stretches it has.
    pub(super) fn stretches(&self) -> usize {
        self.columns.div_ceil(STRETCH)
    }

    /// One of its stretches.
    pub(super) fn stretch(self, index: usize) -> Stretch<'a> {
        let from = index * STRETCH;
        Stretch {
            block: self,
            from,
            to: (from + STRETCH).min(self.columns),
        }
    }
}

impl<'a> Stretch<'a> {
    /// How many updates there are.
    pub(super) fn rows(self) -> usize {
        self.block.values.len() / self.block.columns
    }

    /// This stretch of one update.
    pub(super) fn row(self, row: usize) -> &'a [f32] {
        let start = row * self.block.columns;
        &self.block.values[start + self.from..start + self.to]
    }
}
