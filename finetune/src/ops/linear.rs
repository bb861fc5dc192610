//! A frozen linear layer and the adapter beside it.
//!
//! `y = x W^T + bias + s (drop(x) A^T) B^T`. `W` stays `[out, in]` as in the file and is read through a transposed view;
//! `W + s B A` is never formed, and `W` gets no gradient. With `h = drop(x) A^T`:
//! `dB = s dy^T h`, `dh = s dy B`, `dA = dh^T drop(x)`, `dx = dy W + drop(dh A)`.

use std::ops::Range;

use burn::tensor::Tensor;

use super::{
    dropout::{self, Mask},
    frozen::Frozen,
    narrow::like,
    product::{
        Side::{Plain, Transposed},
        add_product, product,
    },
};
use crate::{host::Kernels, lora::Factors};

/// A frozen layer.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// `[out, in]`.
    pub(crate) weight: Frozen,
    /// `[1, out]`.
    pub(crate) bias: Option<Tensor<2>>,
}

impl Linear {
    /// `x W^T + bias`.
    ///
    /// # Shapes
    /// `x` is `[rows, in]`, the result `[rows, out]`.
    pub(crate) fn forward(&self, kernels: Kernels, x: &Tensor<2>) -> Tensor<2> {
        let y = self.weight.forward(kernels, x);
        match &self.bias {
            Some(bias) => {
                let bias = like(bias.clone(), y.dtype());
                y + bias
            }
            None => y,
        }
    }
}

/// How an adapter's branch is computed.
#[derive(Clone, Debug)]
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
}

/// What the gradients of one adapted layer are made of, row by row: `dB = dy^T h` and `dA = middle^T x`.
#[derive(Debug)]
pub(crate) struct BranchWay {
    /// The input under dropout, `[rows, in]`.
    x: Tensor<2>,
    /// `[rows, rank]`.
    h: Tensor<2>,
    /// `[rows, out]`.
    dy: Tensor<2>,
    /// `[rows, rank]`: times `A` it is the branch's part of the input gradient.
    middle: Tensor<2>,
}

impl Branch<'_> {
    fn dropped(&self, kernels: Kernels, x: &Tensor<2>) -> Tensor<2> {
        match &self.mask {
            Some(mask) => dropout::apply(kernels, x, mask),
            None => x.clone(),
        }
    }

    /// `y + s (drop(x) A^T) B^T`.
    pub(crate) fn add_forward(&self, kernels: Kernels, y: Tensor<2>, x: &Tensor<2>) -> Tensor<2> {
        let middle = self.narrowed(kernels, &self.dropped(kernels, x));
        let b = self.b(x);
        add_product(kernels, y, Plain(&middle), Transposed(&b), 1.0)
    }

    /// `s x A^T`: the scale goes onto the narrow matrix.
    fn narrowed(&self, kernels: Kernels, x: &Tensor<2>) -> Tensor<2> {
        product(kernels, Plain(x), Transposed(&self.a(x)), self.scale)
    }

    /// `A` in the precision of these activations.
    fn a(&self, activations: &Tensor<2>) -> Tensor<2> {
        like(self.factors.a.clone(), activations.dtype())
    }

    fn b(&self, activations: &Tensor<2>) -> Tensor<2> {
        like(self.factors.b.clone(), activations.dtype())
    }

    /// What the gradients of both factors are made of, given the layer's input and the gradient of its output.
    pub(crate) fn way_back(&self, kernels: Kernels, x: &Tensor<2>, dy: &Tensor<2>) -> BranchWay {
        let x = self.dropped(kernels, x);
        let h = self.narrowed(kernels, &x);
        let middle = product(kernels, Plain(dy), Plain(&self.b(dy)), self.scale);
        BranchWay {
            x,
            h,
            dy: dy.clone(),
            middle,
        }
    }

    /// The branch's part of the input gradient.
    pub(crate) fn input_gradient(&self, kernels: Kernels, way: &BranchWay) -> Tensor<2> {
        let a = self.a(&way.middle);
        let dx = product(kernels, Plain(&way.middle), Plain(&a), 1.0);
        match &self.mask {
            Some(mask) => dropout::apply(kernels, &dx, mask),
            None => dx,
        }
    }
}

impl BranchWay {
    /// The gradients of both factors, summed over these rows.
    pub(crate) fn gradient(&self, kernels: Kernels, rows: &Range<usize>) -> BranchGradient {
        let part = |whole: &Tensor<2>| whole.clone().narrow(0, rows.start, rows.len());
        let (dy, h) = (part(&self.dy), part(&self.h));
        let (middle, x) = (part(&self.middle), part(&self.x));
        let b = product(kernels, Transposed(&dy), Plain(&h), 1.0);
        let a = product(kernels, Transposed(&middle), Plain(&x), 1.0);
        BranchGradient { a, b }
    }
}
