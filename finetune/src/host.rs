//! Kernels on slices for the CPU, and the passage between them and `burn` tensors.
//!
//! `burn-flex` multiplies matrices well; everything between two products is a pass over memory, and there a hand-written
//! loop over slices that the compiler vectorises beats a chain of tensor operations. Work is cut by rows or by heads at
//! fixed places and each piece is computed by one thread in one order, so results do not depend on the thread count.

use burn::tensor::{Device, Tensor, TensorData, Transaction};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

use crate::device;

pub(crate) mod compressed;
pub(crate) mod exp;
pub(crate) mod lanes;
mod panel;
pub(crate) mod product;
mod square;
mod target;
pub(crate) mod tile;

/// Rows of one parallel piece.
const ROWS_PER_PIECE: usize = 16;

/// Which implementation of the operations runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernels {
    /// Loops over slices; the tensors are on Flex.
    Host,
    /// `burn` tensor operations, for any device.
    Portable,
}

impl Kernels {
    /// The implementation for a device.
    pub(crate) fn of(device: &Device) -> Self {
        match Tensor::<1>::zeros([1], device).try_into_primitive::<Flex>() {
            Ok(_) => Self::Host,
            Err(_) => Self::Portable,
        }
    }
}

/// A read-only view of a Flex tensor's values; shares them, row-major.
pub(crate) struct Values(FlexTensor);

impl Values {
    pub(crate) fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        let primitive = tensor
            .clone()
            .try_into_primitive::<Flex>()
            .expect("host kernels are chosen for Flex devices only");
        Self(primitive.to_contiguous())
    }

    pub(crate) fn slice(&self) -> &[f32] {
        self.0.as_slice().expect("a contiguous f32 tensor")
    }
}

/// Wraps values in a Flex tensor without copying them.
pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(FlexTensor::from_data(TensorData::new(values, shape)))
}

/// Changes a Flex tensor's values in place; copies them first only if they are shared.
pub(crate) fn update<const D: usize>(
    tensor: Tensor<D>,
    change: impl FnOnce(&mut [f32]),
) -> Tensor<D> {
    let mut primitive = tensor
        .try_into_primitive::<Flex>()
        .expect("host kernels are chosen for Flex devices only");
    let whole = primitive.bytes().len() == primitive.layout().num_elements() * size_of::<f32>();
    if !(primitive.is_contiguous() && primitive.layout().start_offset() == 0 && whole) {
        primitive = FlexTensor::from_data(primitive.into_data());
    }
    change(primitive.storage_mut());
    Tensor::from_primitive::<Flex>(primitive)
}

/// Copies values to a device as f32.
pub(crate) fn upload<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Copies a tensor's values from its device, row-major.
///
/// A failure of the device unwinds up to `device::guarded`.
pub(crate) fn download<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    match tensor.try_into_data() {
        Ok(data) => floats(&data),
        Err(failure) => device::fail(&failure),
    }
}

/// Copies the values of many tensors from their device in one transfer: a transfer each would let the device wait for us
/// between them.
pub(crate) fn download_all(tensors: Vec<Tensor<2>>) -> Vec<Vec<f32>> {
    let together = tensors
        .into_iter()
        .fold(Transaction::default(), Transaction::register);
    match together.try_execute() {
        Ok(all) => all.iter().map(floats).collect(),
        Err(failure) => device::fail(&failure),
    }
}

/// A tensor of another precision is converted on the way; f32 is copied whole.
fn floats(data: &TensorData) -> Vec<f32> {
    match data.as_slice::<f32>() {
        Ok(values) => values.to_vec(),
        Err(_) => data.iter::<f32>().collect(),
    }
}

/// Adds `addition` to `sum`.
pub(crate) fn add(kernels: Kernels, sum: Tensor<2>, addition: Tensor<2>) -> Tensor<2> {
    match kernels {
        Kernels::Portable => sum + addition,
        Kernels::Host => {
            let addition = Values::of(&addition);
            update(sum, |sum| {
                let pieces = sum
                    .par_chunks_mut(1 << 14)
                    .zip(addition.slice().par_chunks(1 << 14));
                pieces.for_each(|(sum, addition)| {
                    vectorised(
                        #[inline(always)]
                        || sum.iter_mut().zip(addition).for_each(|(s, a)| *s += a),
                    );
                });
            })
        }
    }
}

/// Runs a loop with the widest vector instructions of this machine.
#[inline(always)]
pub(crate) fn vectorised<R>(run: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(run)
}

/// Calls `each(row, values)` for all rows of `width` values, some rows at a time in parallel.
pub(crate) fn for_rows(
    values: &mut [f32],
    width: usize,
    each: impl Fn(usize, &mut [f32]) + Send + Sync,
) {
    values
        .par_chunks_mut(width * ROWS_PER_PIECE)
        .enumerate()
        .for_each(|(piece, rows)| {
            vectorised(
                #[inline(always)]
                || {
                    for (offset, row) in rows.chunks_exact_mut(width).enumerate() {
                        each(piece * ROWS_PER_PIECE + offset, row);
                    }
                },
            );
        });
}

/// The row of this number.
#[inline(always)]
pub(crate) fn row(values: &[f32], width: usize, row: usize) -> &[f32] {
    &values[row * width..][..width]
}
