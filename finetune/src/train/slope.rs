//! One step's gradient: a sum over micro-batches, which only bound memory.
//!
//! The step of a private training is in `private`.

use aggregation::Adapter;

use super::{TrainError, Trainer};
use crate::{
    adamw,
    lora::LoraFactors,
    model::{Dropout, LossSum, MaskSeeds, PassOptions},
};

/// Loss and gradient, summed over the micro-batches of a step so far.
#[derive(Debug)]
pub(super) struct Slope {
    pub(super) loss: LossSum,
    pub(super) rows: u64,
    /// Of the sum of nats, not of their mean: the division by all tokens of the step comes once, at its end, so that a
    /// token weighs the same whichever micro-batch it fell into.
    pub(super) gradient: Adapter,
    /// What makes the sum a mean: the step's tokens, or the units that a private step expects.
    pub(super) divisor: f64,
}

impl Slope {
    fn add(&mut self, loss: LossSum, rows: u64, gradient: &Adapter) {
        self.loss.nats += loss.nats;
        self.loss.tokens += loss.tokens;
        self.rows += rows;
        for (sum, &part) in self.gradient.values_mut().iter_mut().zip(gradient.values()) {
            *sum += part;
        }
    }
}

impl Trainer {
    /// Computes one step's summed gradient over its micro-batches, and names the examples that it read.
    pub(super) fn slope(
        &mut self,
        adapter: &Adapter,
        step: u64,
    ) -> Result<(Vec<usize>, Slope), TrainError> {
        let count = self.recipe.step_examples();
        let examples = self.order.take(step * count as u64, count);
        let factors = LoraFactors::upload(adapter, self.llama.device())?;
        let mut slope: Option<Slope> = None;
        for (micro, chosen) in examples.chunks(self.recipe.batch_examples).enumerate() {
            let batch = self.dataset.batch(chosen);
            let options = PassOptions {
                dropout: (self.recipe.dropout > 0.0).then(|| Dropout {
                    rate: self.recipe.dropout,
                    seeds: MaskSeeds::Batch(self.seeds.dropout(step, micro)),
                }),
                checkpointing: self.recipe.checkpointing,
            };
            let (loss, gradient) = self.llama.loss_and_gradient(&batch, &factors, options)?;
            if !loss.nats.is_finite() {
                let lines = self.lines(chosen);
                return Err(TrainError::Diverged {
                    step,
                    what: "loss",
                    found: loss.nats,
                    lines,
                });
            }
            let rows = batch.tokens.len() as u64;
            match &mut slope {
                None => {
                    slope = Some(Slope {
                        loss,
                        rows,
                        gradient,
                        divisor: 1.0,
                    })
                }
                Some(slope) => slope.add(loss, rows, &gradient),
            }
        }
        let mut slope = slope.expect("a checked recipe has at least one micro-batch");
        if slope.loss.tokens == 0 {
            return Err(TrainError::NoTargets {
                step,
                lines: self.lines(&examples),
            });
        }
        let norm = adamw::norm(slope.gradient.values());
        if !norm.is_finite() {
            let lines = self.lines(&examples);
            return Err(TrainError::Diverged {
                step,
                what: "gradient norm",
                found: norm,
                lines,
            });
        }
        slope.divisor = slope.loss.tokens as f64;
        Ok((examples, slope))
    }
}
