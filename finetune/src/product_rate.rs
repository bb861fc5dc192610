//! How fast a device multiplies square matrices: what the speed of a training step is a share of.

use std::time::Instant;

use burn::tensor::{DType, Device, Tensor};

use crate::{
    host::{self, Kernels},
    ops::product::{Side::Plain, product},
};

/// Products of one round.
const PRODUCTS: u32 = 8;

/// Measures products of two `size x size` matrices by the kernels of training, in f32 on the CPU and in bf16 elsewhere:
/// the best of five rounds.
///
/// # Units
/// Floating-point operations a second; a multiplication and an addition are two.
pub fn measure(device: &Device, size: usize) -> f64 {
    let kernels = Kernels::of(device);
    let matrix = |step: f32| {
        // Small enough that a chain of products neither overflows nor vanishes.
        let scale = 1.0 / (size as f32).sqrt();
        let values = (0..size * size).map(|place| (place as f32 * step).sin() * scale);
        let matrix = host::upload(values.collect(), [size, size], device);
        match kernels {
            Kernels::Host => matrix,
            Kernels::Portable => matrix.cast(DType::BF16),
        }
    };
    let (left, right): (Tensor<2>, Tensor<2>) = (matrix(0.37), matrix(0.73));
    let mut best = f64::INFINITY;
    // The first round compiles and tunes kernels.
    for _ in 0..6 {
        let begun = Instant::now();
        let mut chain = right.clone();
        for _ in 0..PRODUCTS {
            chain = product(kernels, Plain(&left), Plain(&chain), 1.0);
        }
        // Reading a value waits for all of them.
        host::download(chain.narrow(0, 0, 1).narrow(1, 0, 1));
        best = best.min(begun.elapsed().as_secs_f64());
    }
    f64::from(PRODUCTS) * 2.0 * (size as f64).powi(3) / best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_rate_is_measured() {
        let rate = measure(&Device::flex(), 64);
        assert!(rate.is_finite() && rate > 0.0, "{rate}");
    }
}
