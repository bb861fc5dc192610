//! Passing between the precision that values are kept in and the one that sums are made in.
//!
//! Kept in bf16, computed in f32: norms, rotations, softmax and the loss widen what they read and narrow what they give.
//! Values of f32 or f64 pass unchanged.

use burn::tensor::{DType, Tensor};

/// Two-byte values as f32, others as they are.
pub(crate) fn widened<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::BF16 | DType::F16 => x.clone().cast(DType::F32),
        _ => x.clone(),
    }
}

/// The values in this precision.
pub(crate) fn like<const D: usize>(x: Tensor<D>, precision: DType) -> Tensor<D> {
    if x.dtype() == precision {
        x
    } else {
        x.cast(precision)
    }
}
