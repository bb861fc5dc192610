//! How fast a device multiplies square matrices: what the speed of a training step is a share of.

use std::time::Instant;

use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::{host, host::Kernels, precision::BasePrecision};

/// Products of one measurement.
const PRODUCTS: u32 = 8;

/// Measures products of two `size x size` matrices: the best of five rounds, in floating-point operations a second.
///
/// # Units
/// A multiplication and an addition count as two operations.
pub fn measure(device: &Device, size: usize, precision: BasePrecision) -> f64 {
    let kernels = Kernels::of(device);
    let narrow = precision.for_kernels(kernels) == BasePrecision::Bf16;
    let matrix = |step: f32| {
        // Small enough that a chain of products neither overflows nor vanishes.
        let scale = 1.0 / (size as f32).sqrt();
        let values = (0..size * size).map(|place| (place as f32 * step).sin() * scale);
        let data = TensorData::new(values.collect::<Vec<f32>>(), [size, size]);
        let matrix = Tensor::<2>::from_data(data, device);
        if narrow && kernels == Kernels::Portable {
            matrix.cast(DType::BF16)
        } else {
            matrix
        }
    };
    let (left, right) = (matrix(0.37), matrix(0.73));
    let mut best = f64::INFINITY;
    // The first round compiles and tunes kernels.
    for _ in 0..6 {
        let begun = Instant::now();
        let mut product = right.clone();
        for _ in 0..PRODUCTS {
            product = left.clone().matmul(product);
        }
        // Reading a value waits for all of them.
        host::download(product.narrow(0, 0, 1).narrow(1, 0, 1));
        best = best.min(begun.elapsed().as_secs_f64());
    }
    f64::from(PRODUCTS) * 2.0 * (size as f64).powi(3) / best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_rate_is_measured() {
        let rate = measure(&Device::flex(), 64, BasePrecision::Auto);
        assert!(rate.is_finite() && rate > 0.0, "{rate}");
    }
}
