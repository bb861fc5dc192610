//! The gated unit of the feed-forward block: `silu(gate) * up` (Shazeer 2020, arXiv 2002.05202).

use burn::tensor::{Tensor, activation};
use rayon::prelude::*;

use super::narrow::{like, widened};
use crate::host::{self, Kernels, Values, exp::sigmoid};

/// Values of one parallel piece.
const PIECE: usize = 1 << 13;

/// `silu(gate) * up`, elementwise.
pub(crate) fn forward(kernels: Kernels, gate: &Tensor<2>, up: &Tensor<2>) -> Tensor<2> {
    let shape = gate.dims();
    if kernels == Kernels::Portable {
        return like(activation::silu(widened(gate)) * widened(up), gate.dtype());
    }
    let (gate, up) = (Values::of(gate), Values::of(up));
    let mut out = vec![0.0; gate.slice().len()];
    let inputs = gate
        .slice()
        .par_chunks(PIECE)
        .zip(up.slice().par_chunks(PIECE));
    out.par_chunks_mut(PIECE)
        .zip(inputs)
        .for_each(|(out, (gate, up))| {
            host::vectorised(
                #[inline(always)]
                || {
                    for ((out, &g), u) in out.iter_mut().zip(gate).zip(up) {
                        *out = g * sigmoid(g) * u;
                    }
                },
            );
        });
    host::tensor(out, shape)
}

/// The gradients with respect to gate and up.
pub(crate) fn backward(
    kernels: Kernels,
    dy: Tensor<2>,
    gate: &Tensor<2>,
    up: &Tensor<2>,
) -> (Tensor<2>, Tensor<2>) {
    let shape = gate.dims();
    if kernels == Kernels::Portable {
        let (precision, dy) = (dy.dtype(), widened(&dy));
        let (gate, up) = (widened(gate), widened(up));
        let sigmoid = activation::sigmoid(gate.clone());
        let silu = gate * sigmoid.clone();
        let slope = sigmoid.clone() + silu.clone() * (sigmoid.neg() + 1.0);
        let d_gate = like(dy.clone() * up * slope, precision);
        return (d_gate, like(dy * silu, precision));
    }
    let (gate, up) = (Values::of(gate), Values::of(up));
    let mut d_gate = vec![0.0; gate.slice().len()];
    let d_up = host::update(dy, |dy| {
        let inputs = gate
            .slice()
            .par_chunks(PIECE)
            .zip(up.slice().par_chunks(PIECE));
        let outputs = d_gate.par_chunks_mut(PIECE).zip(dy.par_chunks_mut(PIECE));
        outputs.zip(inputs).for_each(|((d_gate, dy), (gate, up))| {
            host::vectorised(
                #[inline(always)]
                || {
                    let pairs = d_gate.iter_mut().zip(dy).zip(gate.iter().zip(up));
                    for ((d_gate, dy), (&g, u)) in pairs {
                        let s = sigmoid(g);
                        *d_gate = *dy * u * (s + g * s * (1.0 - s));
                        *dy *= g * s;
                    }
                },
            );
        });
    });
    (host::tensor(d_gate, shape), d_up)
}
