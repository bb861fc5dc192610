//! A frozen linear layer and the adapter beside it.
//!
//! `y = x W^T + bias + s (drop(x) A^T) B^T`. `W` stays `[out, in]` as in the file and is read through a transposed view;
//! `W + s B A` is never formed, and `W` gets no gradient. With `h = drop(x) A^T`:
//! `dB = s dy^T h`, `dh = s dy B`, `dA = dh^T drop(x)`, `dx = dy W + drop(dh A)`.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::dropout::{self, Mask};
use crate::{
    host::{self, Kernels, Values, lanes},
    lora::Factors,
};

/// Output rows of one parallel piece of a matrix-vector product.
const OUTPUTS_PER_PIECE: usize = 64;

/// A frozen layer.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// `[out, in]`.
    pub(crate) weight: Tensor<2>,
    /// `[1, out]`.
    pub(crate) bias: Option<Tensor<2>>,
}

impl Linear {
    /// `x W^T + bias`.
    ///
    /// # Shapes
    /// `x` is `[rows, in]`, the result `[rows, out]`.
    pub(crate) fn forward(&self, kernels: Kernels, x: &Tensor<2>) -> Tensor<2> {
        let y = if kernels == Kernels::Host && x.dims()[0] == 1 {
            matrix_vector(&self.weight, x)
        } else {
            x.clone().matmul(self.weight.clone().transpose())
        };
        match &self.bias {
            Some(bias) => y + bias.clone(),
            None => y,
        }
    }

    /// `dy W`.
    pub(crate) fn backward(&self, dy: &Tensor<2>) -> Tensor<2> {
        dy.clone().matmul(self.weight.clone())
    }
}

/// One row through a layer. A general product would use one thread; this is limited by memory and uses all.
fn matrix_vector(weight: &Tensor<2>, x: &Tensor<2>) -> Tensor<2> {
    let [outputs, inputs] = weight.dims();
    let (weight, x) = (Values::of(weight), Values::of(x));
    let mut y = vec![0.0; outputs];
    let rows = weight.slice().par_chunks(inputs * OUTPUTS_PER_PIECE);
    y.par_chunks_mut(OUTPUTS_PER_PIECE)
        .zip(rows)
        .for_each(|(y, rows)| {
            host::vectorised(
                #[inline(always)]
                || {
                    for (y, row) in y.iter_mut().zip(rows.chunks_exact(inputs)) {
                        *y = lanes::dot(row, x.slice());
                    }
                },
            );
        });
    host::tensor(y, [1, outputs])
}

/// How an adapter's branch is computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Branch<'a> {
    pub(crate) factors: &'a Factors,
    pub(crate) scale: f64,
    pub(crate) mask: Option<Mask>,
}

/// What backward gives for one adapted layer.
#[derive(Debug)]
pub(crate) struct BranchGradient {
    /// `[rank, in]`.
    pub(crate) a: Tensor<2>,
    /// `[out, rank]`.
    pub(crate) b: Tensor<2>,
    /// `[rows, rank]`: times `A` it is the branch's part of the input gradient.
    middle: Tensor<2>,
}

impl Branch<'_> {
    fn dropped(&self, kernels: Kernels, x: &Tensor<2>) -> Tensor<2> {
        match self.mask {
            Some(mask) => dropout::apply(kernels, x, mask),
            None => x.clone(),
        }
    }

    /// `s (drop(x) A^T) B^T`.
    pub(crate) fn forward(&self, kernels: Kernels, x: &Tensor<2>) -> Tensor<2> {
        let middle = self
            .dropped(kernels, x)
            .matmul(self.factors.a.clone().transpose());
        // The scale goes onto the narrow matrix: rank columns instead of `out`.
        (middle * self.scale).matmul(self.factors.b.clone().transpose())
    }

    /// The gradients of both factors, given the layer's input and the gradient of its output.
    pub(crate) fn backward(
        &self,
        kernels: Kernels,
        x: &Tensor<2>,
        dy: &Tensor<2>,
    ) -> BranchGradient {
        let x = self.dropped(kernels, x);
        let h = x.clone().matmul(self.factors.a.clone().transpose()) * self.scale;
        let b = dy.clone().transpose().matmul(h);
        let middle = dy.clone().matmul(self.factors.b.clone()) * self.scale;
        let a = middle.clone().transpose().matmul(x);
        BranchGradient { a, b, middle }
    }

    /// The branch's part of the input gradient.
    pub(crate) fn input_gradient(&self, kernels: Kernels, gradient: &BranchGradient) -> Tensor<2> {
        let dx = gradient.middle.clone().matmul(self.factors.a.clone());
        match self.mask {
            Some(mask) => dropout::apply(kernels, &dx, mask),
            None => dx,
        }
    }
}
