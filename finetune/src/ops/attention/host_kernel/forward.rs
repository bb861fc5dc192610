//! Forward: for a block of queries, the blocks of keys that it sees, with a running maximum and sum.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    Attended, Block, Columns, Heads, Inputs, KEYS_PER_BLOCK, QUERIES_PER_BLOCK, Task, Transposed,
};
use crate::{
    host::{self, Values, exp::exp, lanes, tile::Extent},
    ops::attention::Span,
};

pub(in crate::ops::attention) fn forward(
    inputs: &Inputs,
    spans: &[Span],
    heads: Heads,
) -> Attended {
    let [rows, out_width] = inputs.q.dims();
    let (q, k, v) = (
        Values::of(&inputs.q),
        Values::of(&inputs.k),
        Values::of(&inputs.v),
    );
    let tasks = super::tasks(spans, heads.queries);
    let parts: Vec<(Vec<f32>, Vec<f32>)> = tasks
        .par_iter()
        .map(|task| {
            host::vectorised(
                #[inline(always)]
                || Head::new(task, q.slice(), k.slice(), v.slice(), heads).attend(),
            )
        })
        .collect();
    let mut out = vec![0.0; rows * out_width];
    let mut log_sum = vec![0.0; rows * heads.queries];
    for (task, (part, sums)) in tasks.iter().zip(parts) {
        super::place(
            &mut out,
            out_width,
            task.span,
            task.head * heads.width,
            &part,
            heads.width,
        );
        super::place(&mut log_sum, heads.queries, task.span, task.head, &sums, 1);
    }
    Attended {
        out: host::tensor(out, [rows, out_width]),
        log_sum: host::tensor(log_sum, [rows, heads.queries]),
    }
}

/// One query head of one span.
struct Head<'a> {
    q: Columns<'a>,
    v: Columns<'a>,
    kt: Transposed,
    span: &'a Span,
    scale: f32,
}

/// The softmax of a block of queries so far.
struct Running {
    largest: [f32; QUERIES_PER_BLOCK],
    sums: [f32; QUERIES_PER_BLOCK],
}

impl<'a> Head<'a> {
    #[inline(always)]
    fn new(task: &Task<'a>, q: &'a [f32], k: &'a [f32], v: &'a [f32], heads: Heads) -> Self {
        let (width, span) = (heads.width, task.span);
        let (q_stride, k_stride) = (heads.queries * width, heads.keys * width);
        let key_head = task.head / heads.group();
        let k = Columns::new(k, span.keys.start, k_stride, key_head, width);
        Self {
            q: Columns::new(q, span.queries.start, q_stride, task.head, width),
            v: Columns::new(v, span.keys.start, k_stride, key_head, width),
            kt: k.transposed(span.keys.len()),
            span,
            scale: heads.scale(),
        }
    }

    /// The output `[queries, width]` and the logarithms of the normalisers.
    #[inline(always)]
    fn attend(&self) -> (Vec<f32>, Vec<f32>) {
        let (queries, width) = (self.span.queries.len(), self.q.width);
        let mut out = vec![0.0; queries * width];
        let mut log_sum = vec![0.0; queries];
        let mut block = Block::new();
        for first in (0..queries).step_by(QUERIES_PER_BLOCK) {
            let rows = first..queries.min(first + QUERIES_PER_BLOCK);
            let out = &mut out[first * width..rows.end * width];
            let mut running = Running {
                largest: [f32::NEG_INFINITY; QUERIES_PER_BLOCK],
                sums: [0.0; QUERIES_PER_BLOCK],
            };
            // The last query of the block sees this many keys.
            let seen = self.span.before() + rows.end;
            for key in (0..seen).step_by(KEYS_PER_BLOCK) {
                let keys = key..seen.min(key + KEYS_PER_BLOCK);
                self.add_keys(rows.clone(), keys, out, &mut running, &mut block);
            }
            for (row, out) in out.chunks_exact_mut(width).enumerate() {
                let inverse = 1.0 / running.sums[row];
                out.iter_mut().for_each(|o| *o *= inverse);
                log_sum[first + row] = running.largest[row] + running.sums[row].ln();
            }
        }
        (out, log_sum)
    }

    /// Adds one block of keys to a block of queries.
    #[inline(always)]
    fn add_keys(
        &self,
        rows: Range<usize>,
        keys: Range<usize>,
        out: &mut [f32],
        running: &mut Running,
        block: &mut Block,
    ) {
        let (width, columns) = (self.q.width, keys.len());
        let extent = Extent {
            rows: rows.len(),
            columns,
            inner: width,
        };
        block.product(self.q.left(rows.start), self.kt.right(keys.start), extent);
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            let seen = self.span.before() + rows.start + row + 1;
            let visible = seen.saturating_sub(keys.start).min(columns);
            let keep = running.soften(row, block.row(row, columns), visible, self.scale);
            out.iter_mut().for_each(|o| *o *= keep);
        }
        let extent = Extent {
            rows: rows.len(),
            columns: width,
            inner: columns,
        };
        block.times(self.v.right(keys.start), (out, width), extent);
    }
}

impl Running {
    /// Turns a row's scores into powers relative to the running maximum, and gives the factor that the earlier blocks'
    /// result must be scaled by.
    #[inline(always)]
    fn soften(&mut self, row: usize, scores: &mut [f32], visible: usize, scale: f32) -> f32 {
        let (scores, hidden) = scores.split_at_mut(visible);
        hidden.fill(0.0);
        if visible == 0 {
            return 1.0;
        }
        let before = self.largest[row];
        let found = lanes::largest(scores) * scale;
        let now = if found > before { found } else { before };
        let keep = if before == f32::NEG_INFINITY {
            0.0
        } else {
            exp(before - now)
        };
        let added = lanes::replace_and_sum(scores, |s| exp(s.mul_add(scale, -now)));
        self.largest[row] = now;
        self.sums[row] = self.sums[row] * keep + added;
        keep
    }
}
