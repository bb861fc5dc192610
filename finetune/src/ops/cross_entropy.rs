//! The output head and the loss, a chunk of rows at a time.
//!
//! `loss = sum over rows of -log softmax(x W^T)[target]`, in nats. The logits of all rows at once would be the largest
//! tensor of the model many times over, so a chunk's logits are made, turned into the loss and, in the same place, into
//! their own gradient `softmax - onehot`, multiplied back into `dx`, and dropped. Rows without a target never get here.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData, activation};
use rayon::prelude::*;

use super::{
    frozen::Frozen,
    narrow::{like, widened},
};
use crate::host::{self, Kernels, exp::exp, lanes};

/// Rows whose logits exist at the same time: each chunk packs the whole head twice, and holds four bytes a row and word.
const ROWS_PER_CHUNK: usize = 256;

/// Whether the gradient with respect to `x` is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Loss,
    LossAndGradient,
}

/// The loss of each row in nats and, if wanted, the gradient of their sum with respect to `x`.
///
/// # Shapes
/// `x` and the gradient are `[targets.len(), hidden]`, `head` is `[vocabulary, hidden]`.
pub(crate) fn loss(
    kernels: Kernels,
    x: &Tensor<2>,
    head: &Frozen,
    targets: &[u32],
    want: Want,
) -> (Vec<f64>, Option<Tensor<2>>) {
    let mut nats = Vec::with_capacity(targets.len());
    let mut gradients = Vec::new();
    for (chunk, targets) in targets.chunks(ROWS_PER_CHUNK).enumerate() {
        let rows = x.clone().narrow(0, chunk * ROWS_PER_CHUNK, targets.len());
        let logits = head.forward(kernels, &rows);
        let (chunk_nats, d_logits) = match kernels {
            Kernels::Host => chunk_on_host(logits, targets),
            Kernels::Portable => chunk_portable(logits, targets),
        };
        nats.extend(chunk_nats);
        if want == Want::LossAndGradient {
            let d_logits = like(d_logits, x.dtype());
            gradients.push(head.backward(kernels, &d_logits, None));
        }
    }
    let gradient = (!gradients.is_empty()).then(|| Tensor::cat(gradients, 0));
    (nats, gradient)
}

/// Turns logits into `softmax - onehot` in place.
fn chunk_on_host(logits: Tensor<2>, targets: &[u32]) -> (Vec<f64>, Tensor<2>) {
    let vocabulary = logits.dims()[1];
    let mut nats = vec![0.0_f64; targets.len()];
    let gradient = host::update(logits, |logits| {
        let rows = logits
            .par_chunks_exact_mut(vocabulary)
            .zip(targets)
            .zip(&mut nats);
        rows.for_each(|((row, &target), nats)| {
            host::vectorised(
                #[inline(always)]
                || *nats = row_to_gradient(row, target as usize),
            );
        });
    });
    (nats, gradient)
}

#[inline(always)]
fn row_to_gradient(row: &mut [f32], target: usize) -> f64 {
    let largest = lanes::largest(row);
    let asked = row[target] - largest;
    let sum = lanes::replace_and_sum(row, |x| exp(x - largest));
    let inverse = 1.0 / sum;
    row.iter_mut().for_each(|p| *p *= inverse);
    row[target] -= 1.0;
    f64::from(sum).ln() - f64::from(asked)
}

fn chunk_portable(logits: Tensor<2>, targets: &[u32]) -> (Vec<f64>, Tensor<2>) {
    let rows = targets.len();
    let device = logits.device();
    let values: Vec<i64> = targets.iter().map(|&token| i64::from(token)).collect();
    let index: Tensor<2, Int> = Tensor::from_data(TensorData::new(values, [rows, 1]), &device);
    let log_softmax = activation::log_softmax(widened(&logits), 1);
    let asked = host::download(log_softmax.clone().gather(1, index.clone()));
    let minus_one = Tensor::full([rows, 1], -1.0, &device);
    let gradient = log_softmax
        .exp()
        .scatter(1, index, minus_one, IndexingUpdateOp::Add);
    (asked.iter().map(|&x| -f64::from(x)).collect(), gradient)
}
