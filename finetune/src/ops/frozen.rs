//! A matrix of frozen weights in whichever form it is kept, and the three things that are done with it.
//!
//! Compressed weights are decoded on the fly: on the CPU a few at a time inside the product, on another device one matrix
//! at a time, which is freed after its product. There is no gradient for any of them.

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};
use rayon::prelude::*;

use super::{
    device_blocks::DeviceBlocks,
    product::{
        Side::{Plain, Transposed},
        add_product, product,
    },
    rows,
};
use crate::{
    host::{
        self, Kernels, Values,
        compressed::Compressed,
        lanes,
        product::{self as host_product, Operand, Weights},
    },
    precision::BasePrecision,
};

/// Output rows of one parallel piece of a matrix-vector product.
const OUTPUTS_PER_PIECE: usize = 64;

/// Frozen weights, `[out, in]` as in the file.
#[derive(Clone, Debug)]
pub(crate) enum Frozen {
    /// Floats of any precision; f32 for host kernels.
    Whole(Box<Tensor<2>>),
    /// Compressed, for host kernels.
    Host(Arc<Compressed>),
    /// Compressed, on another device.
    Device(Arc<DeviceBlocks>),
}

impl From<Tensor<2>> for Frozen {
    fn from(weights: Tensor<2>) -> Self {
        Self::Whole(Box::new(weights))
    }
}

impl Frozen {
    /// Brings weights into the form they are kept in.
    pub(crate) fn new(
        values: Vec<f32>,
        shape: [usize; 2],
        precision: BasePrecision,
        kernels: Kernels,
        device: &Device,
    ) -> Self {
        if kernels == Kernels::Portable && precision == BasePrecision::Bf16 {
            let weights = host::upload(values, shape, device);
            return Self::from(weights.cast(DType::BF16));
        }
        match Compressed::new(&values, shape, precision) {
            None => Self::from(host::upload(values, shape, device)),
            Some(compressed) if kernels == Kernels::Host => Self::Host(Arc::new(compressed)),
            Some(compressed) => Self::Device(Arc::new(DeviceBlocks::upload(&compressed, device))),
        }
    }

    pub(crate) fn dims(&self) -> [usize; 2] {
        match self {
            Self::Whole(weights) => weights.dims(),
            Self::Host(weights) => weights.dims(),
            Self::Device(weights) => weights.dims(),
        }
    }

    /// `x W^T`.
    ///
    /// # Shapes
    /// `x` is `[rows, in]`, the result `[rows, out]`.
    pub(crate) fn forward(&self, kernels: Kernels, x: &Tensor<2>) -> Tensor<2> {
        if kernels == Kernels::Host && x.dims()[0] == 1 {
            return self.matrix_vector(x);
        }
        match self {
            Self::Whole(weights) => product(kernels, Plain(x), Transposed(weights), 1.0),
            Self::Device(weights) => product(kernels, Plain(x), Transposed(&weights.decode()), 1.0),
            Self::Host(weights) => {
                let shape = [x.dims()[0], self.dims()[0]];
                let x_values = Values::of(x);
                let left = Operand::new(x_values.slice(), x.dims());
                let y = host_product::multiply_weights(left, Weights::Transposed(weights));
                host::tensor(y, shape)
            }
        }
    }

    /// `dy W`, added to `sum` if there is one.
    pub(crate) fn backward(
        &self,
        kernels: Kernels,
        dy: &Tensor<2>,
        sum: Option<Tensor<2>>,
    ) -> Tensor<2> {
        let decoded;
        let weights = match self {
            Self::Whole(weights) => weights,
            Self::Device(weights) => {
                decoded = weights.decode();
                &decoded
            }
            Self::Host(weights) => return backward_on_host(weights, dy, sum),
        };
        match sum {
            Some(sum) => add_product(kernels, sum, Plain(dy), Plain(weights), 1.0),
            None => product(kernels, Plain(dy), Plain(weights), 1.0),
        }
    }

    /// The rows of these numbers, in this order.
    ///
    /// # Shapes
    /// The result is `[rows.len(), in]`.
    pub(crate) fn gather(&self, kernels: Kernels, rows: &[u32]) -> Tensor<2> {
        match self {
            Self::Whole(table) => rows::gather(kernels, table, rows),
            Self::Device(table) => rows::gather(kernels, &table.decode(), rows),
            Self::Host(table) => {
                let width = self.dims()[1];
                let mut out = vec![0.0; rows.len() * width];
                for (out, &row) in out.chunks_exact_mut(width).zip(rows) {
                    table.decode(row as usize, 0, out);
                }
                host::tensor(out, [rows.len(), width])
            }
        }
    }

    /// One row through a layer. A general product would use one thread; this is limited by memory and uses all.
    fn matrix_vector(&self, x: &Tensor<2>) -> Tensor<2> {
        let [outputs, inputs] = self.dims();
        let x = Values::of(x);
        let floats = match self {
            Self::Whole(weights) => Some(Values::of(weights)),
            Self::Host(_) | Self::Device(_) => None,
        };
        let mut y = vec![0.0; outputs];
        let pieces = y.par_chunks_mut(OUTPUTS_PER_PIECE).enumerate();
        pieces.for_each(|(piece, y)| {
            let mut scratch = vec![0.0; if floats.is_some() { 0 } else { inputs }];
            host::vectorised(
                #[inline(always)]
                || {
                    for (y, row) in y.iter_mut().zip(piece * OUTPUTS_PER_PIECE..) {
                        let weights = match (&floats, self) {
                            (Some(floats), _) => host::row(floats.slice(), inputs, row),
                            (None, Self::Host(weights)) => {
                                weights.decode(row, 0, &mut scratch);
                                &scratch[..]
                            }
                            (None, _) => unreachable!("host kernels have host weights"),
                        };
                        *y = lanes::dot(weights, x.slice());
                    }
                },
            );
        });
        host::tensor(y, [1, outputs])
    }
}

fn backward_on_host(weights: &Compressed, dy: &Tensor<2>, sum: Option<Tensor<2>>) -> Tensor<2> {
    let dy_values = Values::of(dy);
    let left = Operand::new(dy_values.slice(), dy.dims());
    let weights_as_they_are = Weights::Plain(weights);
    match sum {
        Some(sum) => host::update(sum, |sum| {
            host_product::add_weights(left, weights_as_they_are, sum);
        }),
        None => {
            let shape = [dy.dims()[0], weights.dims()[1]];
            host::tensor(
                host_product::multiply_weights(left, weights_as_they_are),
                shape,
            )
        }
    }
}
