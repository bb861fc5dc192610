//! A frozen linear layer and the adapter beside it.
//!
//! `y = x W^T + bias + s (drop(x) A^T) B^T`. `W` stays `[out, in]` as in the file and is read through a transposed view;
//! `W + s B A` is never formed, and `W` gets no gradient. With `h = drop(x) A^T`:
//! `dB = s dy^T h`, `dh = s dy B`, `dA = dh^T drop(x)`, `dx = dy W + drop(dh A)`.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::{
    dropout::{self, Mask},
    product::{
        Side::{Plain, Transposed},
        add_product, product,
    },
};
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
            product(kernels, Plain(x), Transposed(&self.weight), 1.0)
        };
        match &self.bias {
            Some(bias) => y + bias.clone(),
            None => y,
        }
    }

    /// `dy W`, added to `sum` if there is one.
    pub(crate) fn backward(
        &self,
        kernels: Kernels,
        dy: &Tensor<2>,
        sum: Option<Tensor<2>>,
    ) -> Tensor<2> {
        let (dy, weight) = (Plain(dy), Plain(&self.weight));
        match sum {
            Some(sum) => add_product(kernels, sum, dy, weight, 1.0),
            None => product(kernels, dy, weight, 1.0),
        }
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

    /// `y + s (drop(x) A^T) B^T`.
    pub(crate) fn add_forward(&self, kernels: Kernels, y: Tensor<2>, x: &Tensor<2>) -> Tensor<2> {
        let middle = self.narrowed(kernels, &self.dropped(kernels, x));
        let b = Transposed(&self.factors.b);
        add_product(kernels, y, Plain(&middle), b, 1.0)
    }

    /// `s x A^T`: the scale goes onto the narrow matrix.
    fn narrowed(&self, kernels: Kernels, x: &Tensor<2>) -> Tensor<2> {
        product(kernels, Plain(x), Transposed(&self.factors.a), self.scale)
    }

    /// The gradients of both factors, given the layer's input and the gradient of its output.
    pub(crate) fn backward(
        &self,
        kernels: Kernels,
        x: &Tensor<2>,
        dy: &Tensor<2>,
    ) -> BranchGradient {
        let x = self.dropped(kernels, x);
        let h = self.narrowed(kernels, &x);
        let b = product(kernels, Transposed(dy), Plain(&h), 1.0);
        let middle = product(kernels, Plain(dy), Plain(&self.factors.b), self.scale);
        let a = product(kernels, Transposed(&middle), Plain(&x), 1.0);
        BranchGradient { a, b, middle }
    }

    /// The branch's part of the input gradient.
    pub(crate) fn input_gradient(&self, kernels: Kernels, gradient: &BranchGradient) -> Tensor<2> {
        let (middle, a) = (Plain(&gradient.middle), Plain(&self.factors.a));
        let dx = product(kernels, middle, a, 1.0);
        match self.mask {
            Some(mask) => dropout::apply(kernels, &dx, mask),
            None => dx,
        }
    }
}
