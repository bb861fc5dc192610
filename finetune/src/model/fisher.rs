//! The factored Fisher information of one example, for EWC anchors.
//!
//! The true Fisher at the base model: one label a row is sampled from the model's own prediction, `G` is the gradient of
//! the summed log-likelihood of this one example with respect to a frozen weight, and what is kept of `G` are the row and
//! column sums of its squares and their total. `G = D^T X` (`D` output gradients, `X` inputs) is never formed:
//! `row_i = sum_t D_ti (X X^T D)_ti`, `col_j = sum_t X_tj (D D^T X)_tj`, `total = <X X^T, D D^T>`.

use aggregation::{AdapterLayout, ewc::FisherAccumulator};
use burn::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Branches, Checkpointing, Llama, ModelError,
    block::{Pass, Visitor},
};
use crate::{
    batch::{Batch, Target},
    device, host,
    lora::{LoraConfig, Site},
    ops::narrow::widened,
};

/// Rows whose logits are on the host at the same time.
const ROWS_PER_CHUNK: usize = 128;

impl Llama {
    /// Adds one text to the importances of the projections that `lora` targets.
    ///
    /// Labels are sampled on the host from `seed`, so that the result does not depend on the device's generator. A text of
    /// fewer than two tokens adds nothing.
    ///
    /// # Errors
    /// [`ModelError`] if the text or the LoRA configuration does not fit the model.
    pub fn fisher_example(
        &self,
        tokens: &[u32],
        seed: u64,
        lora: &LoraConfig,
        accumulator: &mut FisherAccumulator,
    ) -> Result<(), ModelError> {
        let layout = lora.layout(&self.config)?;
        let mut batch = Batch::of_texts(&[tokens]);
        self.check(&batch)?;
        if batch.targets.is_empty() {
            return Ok(());
        }
        let pass = self.pass(&batch, Branches::default());
        let nats = device::guarded(|| {
            batch.targets = self.sample_targets(&batch, &pass, seed);
            let mut probe = FisherProbe::new(&layout, accumulator);
            self.forward_backward(&batch, &pass, Checkpointing::None, &mut probe)
        })?;
        accumulator.finish_example(nats.len() as u64);
        Ok(())
    }

    /// One label for each row but the last, drawn from the model's prediction there.
    fn sample_targets(&self, batch: &Batch, pass: &Pass<'_>, seed: u64) -> Vec<Target> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let hidden = self.hidden(batch, pass);
        let rows = batch.tokens.len() - 1;
        let mut targets = Vec::with_capacity(rows);
        for start in (0..rows).step_by(ROWS_PER_CHUNK) {
            let count = ROWS_PER_CHUNK.min(rows - start);
            let logits = self.head_logits(&hidden.clone().narrow(0, start, count));
            for (row, logits) in host::download(logits)
                .chunks_exact(self.config.vocab_size)
                .enumerate()
            {
                let token = sample(logits, random.random::<f64>());
                targets.push(Target {
                    row: (start + row) as u32,
                    token,
                });
            }
        }
        targets
    }
}

/// The token at which the cumulative probability passes `point`, in f64 and in the order of the vocabulary.
fn sample(logits: &[f32], point: f64) -> u32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let power = |&logit: &f32| f64::from(logit - largest).exp();
    let total: f64 = logits.iter().map(power).sum();
    let mut left = point * total;
    for (token, logit) in logits.iter().enumerate() {
        left -= power(logit);
        if left < 0.0 {
            return token as u32;
        }
    }
    // Rounding may leave a grain over; it belongs to the last token.
    (logits.len() - 1) as u32
}

/// The visitor that measures.
struct FisherProbe<'a> {
    sites: Vec<Site>,
    accumulator: &'a mut FisherAccumulator,
}

impl<'a> FisherProbe<'a> {
    fn new(layout: &AdapterLayout, accumulator: &'a mut FisherAccumulator) -> Self {
        let sites = layout.modules().iter();
        let sites = sites
            .map(|module| Site::parse(&module.name).expect("the layout was made from projections"));
        Self {
            sites: sites.collect(),
            accumulator,
        }
    }
}

impl Visitor for FisherProbe<'_> {
    fn sites(&self) -> &[Site] {
        &self.sites
    }

    fn visit(
        &mut self,
        site: Site,
        x: &Tensor<2>,
        dy: &Tensor<2>,
        _pass_on: bool,
    ) -> Option<Tensor<2>> {
        let module = self.sites.iter().position(|&known| known == site)?;
        let marginals = Marginals::of(&widened(x), &widened(dy));
        self.accumulator
            .add(module, &marginals.row, &marginals.col, marginals.total);
        None
    }
}

/// Sums of squares of `G = D^T X`.
#[derive(Debug)]
pub(super) struct Marginals {
    /// `[out]`.
    pub(super) row: Vec<f64>,
    /// `[in]`.
    pub(super) col: Vec<f64>,
    pub(super) total: f64,
}

impl Marginals {
    pub(super) fn of(x: &Tensor<2>, d: &Tensor<2>) -> Self {
        let inputs_gram = x.clone().matmul(x.clone().transpose());
        let outputs_gram = d.clone().matmul(d.clone().transpose());
        let row = column_dots(d, inputs_gram.clone().matmul(d.clone()));
        let col = column_dots(x, outputs_gram.clone().matmul(x.clone()));
        let (one, other) = (host::download(inputs_gram), host::download(outputs_gram));
        let total = one
            .iter()
            .zip(&other)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum();
        Self { row, col, total }
    }
}

/// `sum_t a_tj b_tj` for every column `j`, in f64.
fn column_dots(a: &Tensor<2>, b: Tensor<2>) -> Vec<f64> {
    let width = a.dims()[1];
    let mut sums = vec![0.0; width];
    let (a, b) = (host::download(a.clone()), host::download(b));
    for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(width)) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(a) * f64::from(b);
        }
    }
    // A sum of squares computed as a product can come out as a tiny negative number.
    sums.iter_mut().for_each(|sum| *sum = sum.max(0.0));
    sums
}
