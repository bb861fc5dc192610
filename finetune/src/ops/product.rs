//! Products of two matrices, either of them transposed, scaled, and fresh or added to a sum.
//!
//! Transposing and scaling cost nothing here: the one is a way of reading, the other a factor inside the product.

use burn::tensor::Tensor;

use crate::host::{self, Kernels, Values, product};

/// One side of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side<'a> {
    /// The matrix as it is.
    Plain(&'a Tensor<2>),
    /// Its transpose.
    Transposed(&'a Tensor<2>),
}

impl Side<'_> {
    fn tensor(self) -> Tensor<2> {
        match self {
            Self::Plain(tensor) => tensor.clone(),
            Self::Transposed(tensor) => tensor.clone().transpose(),
        }
    }

    fn stored(self) -> (Values, [usize; 2]) {
        let (Self::Plain(tensor) | Self::Transposed(tensor)) = self;
        (Values::of(tensor), tensor.dims())
    }

    fn operand<'v>(self, stored: &'v (Values, [usize; 2])) -> product::Operand<'v> {
        let operand = product::Operand::new(stored.0.slice(), stored.1);
        match self {
            Self::Plain(_) => operand,
            Self::Transposed(_) => operand.transposed(),
        }
    }
}

/// `scale * left * right`.
pub(crate) fn product(kernels: Kernels, left: Side<'_>, right: Side<'_>, scale: f64) -> Tensor<2> {
    if kernels == Kernels::Portable {
        return scaled(left.tensor().matmul(right.tensor()), scale);
    }
    let (left_stored, right_stored) = (left.stored(), right.stored());
    let (left, right) = (left.operand(&left_stored), right.operand(&right_stored));
    let shape = [left.rows(), right.columns()];
    host::tensor(product::multiply(left, right, scale as f32), shape)
}

/// `sum + scale * left * right`.
pub(crate) fn add_product(
    kernels: Kernels,
    sum: Tensor<2>,
    left: Side<'_>,
    right: Side<'_>,
    scale: f64,
) -> Tensor<2> {
    if kernels == Kernels::Portable {
        return sum + scaled(left.tensor().matmul(right.tensor()), scale);
    }
    let (left_stored, right_stored) = (left.stored(), right.stored());
    let (left, right) = (left.operand(&left_stored), right.operand(&right_stored));
    host::update(sum, |sum| {
        product::multiply_add(left, right, scale as f32, sum);
    })
}

fn scaled(product: Tensor<2>, scale: f64) -> Tensor<2> {
    if scale == 1.0 {
        product
    } else {
        product * scale
    }
}
