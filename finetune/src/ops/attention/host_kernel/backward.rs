//! Backward: a task is one key head with its group of query heads, so that no two tasks add to the same gradient.

use std::ops::Range;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::{
    Attended, Block, Columns, Heads, Inputs, KEYS_PER_BLOCK, QUERIES_PER_BLOCK, Task, Transposed,
};
use crate::{
    host::{self, Values, exp::exp, lanes, tile::Extent},
    ops::attention::Span,
};

pub(in crate::ops::attention) fn backward(
    d_out: &Tensor<2>,
    inputs: &Inputs,
    attended: &Attended,
    spans: &[Span],
    heads: Heads,
) -> Inputs {
    let [rows, q_width] = inputs.q.dims();
    let k_width = heads.keys * heads.width;
    let (q, k, v) = (
        Values::of(&inputs.q),
        Values::of(&inputs.k),
        Values::of(&inputs.v),
    );
    let (d_out, out) = (Values::of(d_out), Values::of(&attended.out));
    let log_sum = Values::of(&attended.log_sum);
    let slices = Slices {
        q: q.slice(),
        k: k.slice(),
        v: v.slice(),
        d_out: d_out.slice(),
        out: out.slice(),
        log_sum: log_sum.slice(),
    };
    let tasks = super::tasks(spans, heads.keys);
    let parts: Vec<Gradients> = tasks
        .par_iter()
        .map(|task| {
            host::vectorised(
                #[inline(always)]
                || attend_back(task, &slices, heads),
            )
        })
        .collect();
    let mut whole = Gradients::zeros(rows, q_width, k_width);
    for (task, part) in tasks.iter().zip(parts) {
        let column = task.head * heads.width;
        let group = heads.group() * heads.width;
        super::place(
            &mut whole.q,
            q_width,
            task.span,
            task.head * group,
            &part.q,
            group,
        );
        super::place(
            &mut whole.k,
            k_width,
            task.span,
            column,
            &part.k,
            heads.width,
        );
        super::place(
            &mut whole.v,
            k_width,
            task.span,
            column,
            &part.v,
            heads.width,
        );
    }
    Inputs {
        q: host::tensor(whole.q, [rows, q_width]),
        k: host::tensor(whole.k, [rows, k_width]),
        v: host::tensor(whole.v, [rows, k_width]),
    }
}

struct Slices<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    d_out: &'a [f32],
    out: &'a [f32],
    log_sum: &'a [f32],
}

/// `[rows, q_width]`, and `[rows, k_width]` twice.
struct Gradients {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Gradients {
    fn zeros(rows: usize, q_width: usize, k_width: usize) -> Self {
        let zeros = |width| vec![0.0; rows * width];
        Self {
            q: zeros(q_width),
            k: zeros(k_width),
            v: zeros(k_width),
        }
    }
}

#[inline(always)]
fn attend_back(task: &Task<'_>, from: &Slices<'_>, heads: Heads) -> Gradients {
    let (width, group, span) = (heads.width, heads.group(), task.span);
    let (q_stride, k_stride) = (heads.queries * width, heads.keys * width);
    let rows = span.queries.len();
    let mut gradients = Gradients::zeros(rows, group * width, width);
    let k = Columns::new(from.k, span.keys.start, k_stride, task.head, width);
    let vt = Columns::new(from.v, span.keys.start, k_stride, task.head, width).transposed(rows);
    let kt = k.transposed(rows);
    let mut blocks = [Block::new(), Block::new()];
    for member in 0..group {
        let head = task.head * group + member;
        let columns = |values| Columns::new(values, span.queries.start, q_stride, head, width);
        let way = Way {
            q: columns(from.q),
            d_out: columns(from.d_out),
            out: columns(from.out),
            log_sum: Columns::new(from.log_sum, span.queries.start, heads.queries, head, 1),
            k,
            kt: &kt,
            vt: &vt,
            scale: heads.scale(),
            member,
        };
        for first in (0..rows).step_by(QUERIES_PER_BLOCK) {
            let queries = first..rows.min(first + QUERIES_PER_BLOCK);
            way.queries(queries, &mut gradients, group * width, &mut blocks);
        }
    }
    gradients
}

/// The way back through one query head.
struct Way<'a> {
    q: Columns<'a>,
    d_out: Columns<'a>,
    out: Columns<'a>,
    log_sum: Columns<'a>,
    k: Columns<'a>,
    kt: &'a Transposed,
    vt: &'a Transposed,
    scale: f32,
    /// Its place in the group.
    member: usize,
}

impl Way<'_> {
    /// One block of queries, over all keys that it sees.
    #[inline(always)]
    fn queries(
        &self,
        rows: Range<usize>,
        gradients: &mut Gradients,
        q_width: usize,
        [scores, slopes]: &mut [Block; 2],
    ) {
        let width = self.q.width;
        let mut shares = [0.0; QUERIES_PER_BLOCK];
        for (share, row) in shares.iter_mut().zip(rows.clone()) {
            *share = lanes::dot(self.d_out.row(row), self.out.row(row));
        }
        for key in (0..rows.end).step_by(KEYS_PER_BLOCK) {
            let columns = KEYS_PER_BLOCK.min(rows.end - key);
            let extent = Extent {
                rows: rows.len(),
                columns,
                inner: width,
            };
            scores.product(self.q.left(rows.start), self.kt.right(key), extent);
            slopes.product(self.d_out.left(rows.start), self.vt.right(key), extent);
            for (place, row) in rows.clone().enumerate() {
                let visible = (row + 1).saturating_sub(key).min(columns);
                let slopes = slopes.row(place, columns);
                self.slope(
                    row,
                    shares[place],
                    scores.row(place, columns),
                    slopes,
                    visible,
                );
            }
            let dq = &mut gradients.q[rows.start * q_width + self.member * width..];
            let extent = Extent {
                rows: rows.len(),
                columns: width,
                inner: columns,
            };
            slopes.times(self.k.right(key), (dq, q_width), extent);
            let across = Extent {
                rows: columns,
                columns: width,
                inner: rows.len(),
            };
            let dk = &mut gradients.k[key * width..];
            slopes.transposed_times(self.q.right(rows.start), (dk, width), across);
            let dv = &mut gradients.v[key * width..];
            scores.transposed_times(self.d_out.right(rows.start), (dv, width), across);
        }
    }

    /// Turns a row's scores into probabilities and `dp` into the gradient of the scores; what is hidden becomes zero.
    #[inline(always)]
    fn slope(
        &self,
        row: usize,
        share: f32,
        scores: &mut [f32],
        slopes: &mut [f32],
        visible: usize,
    ) {
        let log_sum = self.log_sum.row(row)[0];
        scores[visible..].fill(0.0);
        slopes[visible..].fill(0.0);
        for (score, slope) in scores[..visible].iter_mut().zip(&mut slopes[..visible]) {
            let p = exp(score.mul_add(self.scale, -log_sum));
            *score = p;
            *slope = p * (*slope - share) * self.scale;
        }
    }
}
