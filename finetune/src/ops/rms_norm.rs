//! RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467): `y = w x / sqrt(mean(x^2) + eps)`.
//!
//! Forward keeps one number a row; backward computes `y` again from it where a weight gradient needs `y`.

use burn::tensor::Tensor;

use super::narrow::{like, widened};
use crate::host::{self, Kernels, Values, lanes};

/// `1 / sqrt(mean(x^2) + eps)` of every row.
///
/// # Shapes
/// `x` is `[rows, width]`, the result `[rows, 1]`.
pub(crate) fn inverse(kernels: Kernels, x: &Tensor<2>, eps: f64) -> Tensor<2> {
    let [rows, width] = x.dims();
    if kernels == Kernels::Portable {
        let x = widened(x);
        let mean = (x.clone() * x).sum_dim(1) / width as f64;
        return (mean + eps).sqrt().recip();
    }
    let x = Values::of(x);
    let mut inverse = vec![0.0; rows];
    host::for_rows(
        &mut inverse,
        1,
        #[inline(always)]
        |row, inverse| {
            let x = host::row(x.slice(), width, row);
            inverse[0] = (lanes::dot(x, x) / width as f32 + eps as f32)
                .sqrt()
                .recip();
        },
    );
    host::tensor(inverse, [rows, 1])
}

/// `y` from `x` and [`inverse`].
///
/// # Shapes
/// `x` and the result are `[rows, width]`, `weight` is `[1, width]`.
pub(crate) fn apply(
    kernels: Kernels,
    x: &Tensor<2>,
    inverse: &Tensor<2>,
    weight: &Tensor<2>,
) -> Tensor<2> {
    let [rows, width] = x.dims();
    if kernels == Kernels::Portable {
        let y = widened(x) * inverse.clone() * weight.clone();
        return like(y, x.dtype());
    }
    let (x, inverse, weight) = (Values::of(x), Values::of(inverse), Values::of(weight));
    let mut y = vec![0.0; rows * width];
    host::for_rows(
        &mut y,
        width,
        #[inline(always)]
        |row, y| {
            let inverse = inverse.slice()[row];
            let x = host::row(x.slice(), width, row);
            for ((y, x), w) in y.iter_mut().zip(x).zip(weight.slice()) {
                *y = x * inverse * w;
            }
        },
    );
    host::tensor(y, [rows, width])
}

/// The gradient with respect to `x`: `inv (w dy - x inv^2 mean(x w dy))`.
///
/// # Shapes
/// `dy`, `x` and the result are `[rows, width]`.
pub(crate) fn backward(
    kernels: Kernels,
    dy: &Tensor<2>,
    x: &Tensor<2>,
    inverse: &Tensor<2>,
    weight: &Tensor<2>,
) -> Tensor<2> {
    let [rows, width] = x.dims();
    if kernels == Kernels::Portable {
        let (precision, x) = (dy.dtype(), widened(x));
        let scaled = widened(dy) * weight.clone();
        let mean = (scaled.clone() * x.clone()).sum_dim(1) / width as f64;
        let cubed = inverse.clone() * inverse.clone() * inverse.clone();
        let dx = scaled * inverse.clone() - x * (mean * cubed);
        return like(dx, precision);
    }
    let (dy, x) = (Values::of(dy), Values::of(x));
    let (inverse, weight) = (Values::of(inverse), Values::of(weight));
    let mut dx = vec![0.0; rows * width];
    host::for_rows(
        &mut dx,
        width,
        #[inline(always)]
        |row, dx| {
            let inverse = inverse.slice()[row];
            let x = host::row(x.slice(), width, row);
            let dy = host::row(dy.slice(), width, row);
            for ((dx, dy), w) in dx.iter_mut().zip(dy).zip(weight.slice()) {
                *dx = dy * w;
            }
            let share = lanes::dot(dx, x) / width as f32 * inverse * inverse * inverse;
            for (dx, x) in dx.iter_mut().zip(x) {
                *dx = *dx * inverse - x * share;
            }
        },
    );
    host::tensor(dx, [rows, width])
}
