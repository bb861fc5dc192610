//! Choosing rows of a matrix, and putting them back: the embedding, and the rows that have a target.

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

use super::narrow::like;
use crate::host::{self, Kernels, Values};

fn indices(rows: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = rows.iter().map(|&row| i64::from(row)).collect();
    Tensor::from_data(TensorData::new(values, [rows.len()]), device)
}

/// The rows of these numbers, in this order.
///
/// # Shapes
/// `table` is `[n, width]`, the result `[rows.len(), width]`.
pub(crate) fn gather(kernels: Kernels, table: &Tensor<2>, rows: &[u32]) -> Tensor<2> {
    if kernels == Kernels::Portable {
        return table.clone().select(0, indices(rows, &table.device()));
    }
    let width = table.dims()[1];
    let table = Values::of(table);
    let mut out = Vec::with_capacity(rows.len() * width);
    for &row in rows {
        out.extend_from_slice(host::row(table.slice(), width, row as usize));
    }
    host::tensor(out, [rows.len(), width])
}

/// A matrix of `count` rows that is zero but for these, which must differ from each other.
///
/// # Shapes
/// `values` is `[rows.len(), width]`, the result `[count, width]`.
pub(crate) fn scatter(
    kernels: Kernels,
    values: Tensor<2>,
    rows: &[u32],
    count: usize,
) -> Tensor<2> {
    let width = values.dims()[1];
    if kernels == Kernels::Portable {
        let device = values.device();
        let zeros = like(Tensor::zeros([count, width], &device), values.dtype());
        return zeros.select_assign(0, indices(rows, &device), values, IndexingUpdateOp::Add);
    }
    let values = Values::of(&values);
    let mut out = vec![0.0; count * width];
    for (&row, from) in rows.iter().zip(values.slice().chunks_exact(width)) {
        out[row as usize * width..][..width].copy_from_slice(from);
    }
    host::tensor(out, [count, width])
}
