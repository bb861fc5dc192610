//! Attention in `burn` tensor operations: one span at a time, its scores as one tensor that lives for that span only.

use burn::tensor::{Bool, Tensor};

use super::{Attended, Heads, Inputs, Span};
use crate::ops::narrow::{like, widened};

/// `[rows, heads * width]` to `[query heads, rows, width]`, key heads repeated over their group.
fn split(x: &Tensor<2>, rows: std::ops::Range<usize>, width: usize, repeat: usize) -> Tensor<3> {
    let heads = x.dims()[1] / width;
    let length = rows.len();
    let x = x
        .clone()
        .narrow(0, rows.start, length)
        .reshape([length, heads, width])
        .swap_dims(0, 1);
    if repeat == 1 {
        return x;
    }
    x.reshape([heads, 1, length, width])
        .repeat_dim(1, repeat)
        .reshape([heads * repeat, length, width])
}

/// `[heads, rows, width]` back to `[rows, heads * width]`.
fn joined(x: Tensor<3>) -> Tensor<2> {
    let [heads, rows, width] = x.dims();
    x.swap_dims(0, 1).reshape([rows, heads * width])
}

/// Masked and scaled scores, `[query heads, queries, keys]`.
fn scores(q: Tensor<3>, k: Tensor<3>, before: usize, scale: f32) -> Tensor<3> {
    let [heads, queries, _] = q.dims();
    let keys = k.dims()[1];
    let device = q.device();
    let scores = widened(&q.matmul(k.swap_dims(1, 2))) * scale;
    let hidden = Tensor::<2, Bool>::tril_mask([queries, keys], before as i64, &device);
    scores.mask_fill(
        hidden.unsqueeze::<3>().repeat_dim(0, heads),
        f32::NEG_INFINITY,
    )
}

pub(super) fn forward(inputs: &Inputs, spans: &[Span], heads: Heads) -> Attended {
    let (mut outs, mut log_sums) = (Vec::new(), Vec::new());
    for span in spans {
        let q = split(&inputs.q, span.queries.clone(), heads.width, 1);
        let k = split(&inputs.k, span.keys.clone(), heads.width, heads.group());
        let v = split(&inputs.v, span.keys.clone(), heads.width, heads.group());
        let scores = scores(q, k, span.before(), heads.scale());
        let largest = scores.clone().max_dim(2);
        let powers = (scores - largest.clone()).exp();
        let sum = powers.clone().sum_dim(2);
        let p = like(powers / sum.clone(), v.dtype());
        outs.push(joined(p.matmul(v)));
        log_sums.push(joined(largest + sum.log()));
    }
    Attended {
        out: Tensor::cat(outs, 0),
        log_sum: Tensor::cat(log_sums, 0),
    }
}

pub(super) fn backward(
    d_out: &Tensor<2>,
    inputs: &Inputs,
    attended: &Attended,
    spans: &[Span],
    heads: Heads,
) -> Inputs {
    let (mut dq, mut dk, mut dv) = (Vec::new(), Vec::new(), Vec::new());
    let width = heads.width;
    for span in spans {
        let rows = span.queries.clone();
        let q = split(&inputs.q, rows.clone(), width, 1);
        let k = split(&inputs.k, rows.clone(), width, heads.group());
        let v = split(&inputs.v, rows.clone(), width, heads.group());
        let d_out = split(d_out, rows.clone(), width, 1);
        let out = split(&attended.out, rows.clone(), width, 1);
        let log_sum = split(&attended.log_sum, rows, 1, 1);
        let p = (scores(q.clone(), k.clone(), 0, heads.scale()) - log_sum).exp();
        let precision = q.dtype();
        let share = (widened(&d_out) * widened(&out)).sum_dim(2);
        let dp = widened(&d_out.clone().matmul(v.swap_dims(1, 2)));
        let ds = like(p.clone() * (dp - share) * heads.scale(), precision);
        let p = like(p, precision);
        dq.push(joined(ds.clone().matmul(k)));
        dk.push(joined(grouped(ds.swap_dims(1, 2).matmul(q), heads)));
        dv.push(joined(grouped(p.swap_dims(1, 2).matmul(d_out), heads)));
    }
    Inputs {
        q: Tensor::cat(dq, 0),
        k: Tensor::cat(dk, 0),
        v: Tensor::cat(dv, 0),
    }
}

/// Sums the gradient of repeated key heads over their group.
fn grouped(x: Tensor<3>, heads: Heads) -> Tensor<3> {
    let [_, rows, width] = x.dims();
    x.reshape([heads.keys, heads.group(), rows, width])
        .sum_dim(1)
        .reshape([heads.keys, rows, width])
}

/// Attention as one would write it, for tests.
#[cfg(test)]
pub(crate) fn plain(inputs: &Inputs, spans: &[Span], heads: Heads) -> Tensor<2> {
    let outs = spans.iter().map(|span| {
        let q = split(&inputs.q, span.queries.clone(), heads.width, 1);
        let k = split(&inputs.k, span.keys.clone(), heads.width, heads.group());
        let v = split(&inputs.v, span.keys.clone(), heads.width, heads.group());
        let scores = scores(q, k, span.before(), heads.scale());
        joined(burn::tensor::activation::softmax(scores, 2).matmul(v))
    });
    Tensor::cat(outs.collect(), 0)
}
