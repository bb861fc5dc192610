//! Causal attention over spans of rows, with grouped key and value heads, by blocks and with an online softmax.
//!
//! `o = softmax(q k^T / sqrt(d) + causal) v` per head. No matrix of probabilities is stored: forward keeps the logarithm
//! of each row's normaliser and backward computes a block's probabilities again from it (Dao et al. 2022, arXiv 2205.14135,
//! algorithms 1 and 4). A span names its queries and its keys; there may be more keys than queries, which come last (a
//! cache of earlier tokens).

use std::ops::Range;

use burn::tensor::Tensor;

use crate::host::Kernels;

mod host_kernel;
mod portable;

#[cfg(test)]
pub(crate) use portable::plain;

/// The heads of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) queries: usize,
    /// Key and value heads; divides the query heads.
    pub(crate) keys: usize,
    /// Width of one head.
    pub(crate) width: usize,
}

impl Heads {
    /// Query heads of one key head.
    pub(crate) fn group(self) -> usize {
        self.queries / self.keys
    }

    /// The factor of the scores.
    pub(crate) fn scale(self) -> f32 {
        (1.0 / (self.width as f64).sqrt()) as f32
    }
}

/// Rows that attend to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Rows of `q`.
    pub(crate) queries: Range<usize>,
    /// Rows of `k` and `v`; the last query sees all of them.
    pub(crate) keys: Range<usize>,
}

impl Span {
    /// The keys that the first query sees, itself not counted.
    pub(crate) fn before(&self) -> usize {
        self.keys.len() - self.queries.len()
    }
}

/// What attention reads.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    /// `[rows, query heads * width]`, rotated.
    pub(crate) q: Tensor<2>,
    /// `[rows, key heads * width]`, rotated.
    pub(crate) k: Tensor<2>,
    /// `[rows, key heads * width]`.
    pub(crate) v: Tensor<2>,
}

/// What attention gives, and keeps for backward.
#[derive(Clone, Debug)]
pub(crate) struct Attended {
    /// `[rows, query heads * width]`.
    pub(crate) out: Tensor<2>,
    /// Logarithm of the softmax normaliser, `[rows, query heads]`.
    pub(crate) log_sum: Tensor<2>,
}

/// Attends within every span.
pub(crate) fn forward(kernels: Kernels, inputs: &Inputs, spans: &[Span], heads: Heads) -> Attended {
    match kernels {
        Kernels::Host => host_kernel::forward(inputs, spans, heads),
        Kernels::Portable => portable::forward(inputs, spans, heads),
    }
}

/// The gradients with respect to `q`, `k` and `v`, given that of the output.
///
/// Every span must have as many keys as queries: there is no training through a cache.
pub(crate) fn backward(
    kernels: Kernels,
    d_out: &Tensor<2>,
    inputs: &Inputs,
    attended: &Attended,
    spans: &[Span],
    heads: Heads,
) -> Inputs {
    debug_assert!(spans.iter().all(|span| span.queries == span.keys));
    match kernels {
        Kernels::Host => host_kernel::backward(d_out, inputs, attended, spans, heads),
        Kernels::Portable => portable::backward(d_out, inputs, attended, spans, heads),
    }
}
