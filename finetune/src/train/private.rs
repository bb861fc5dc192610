//! One private step's gradient: a Poisson sample of units, each clipped, and noise on their sum.
//!
//! Micro-batches only bound memory: they accumulate clipped gradients, and the noise comes once, on the whole sum. No number of
//! this step that depends on the records leaves [`Slope`] without noise but the loss, which is the site's own.

use aggregation::Adapter;

use super::{Slope, SourceLines, TrainError, Trainer};
use crate::{
    batch::Batch,
    lora::LoraFactors,
    model::{Dropout, LossSum, PassOptions},
    privacy::clipping::ClippedSum,
};

impl Trainer {
    /// Computes one private step's noisy sum, and names the examples that it read.
    ///
    /// # Panics
    /// If the trainer is not private.
    pub(super) fn private_slope(
        &mut self,
        adapter: &Adapter,
        step: u64,
    ) -> Result<(Vec<usize>, Slope), TrainError> {
        let privacy = self.privacy.as_mut().expect("the trainer is private");
        let (bound, noise) = (privacy.clip_norm, privacy.noise_multiplier);
        let (rate, divisor) = (privacy.sampling_rate(), privacy.expected_units);
        let reads: Vec<Read> = privacy
            .units
            .sample(rate, &mut privacy.random)
            .into_iter()
            .flat_map(|(unit, members)| {
                let share = 1.0 / members.len() as f64;
                members.into_iter().map(move |example| Read {
                    unit,
                    example,
                    share,
                })
            })
            .collect();
        let factors = LoraFactors::upload(adapter, self.llama.device())?;
        let mut sum = ClippedSum::new(adapter.layout(), bound);
        let (mut loss, mut rows) = (LossSum::default(), 0);
        for (micro, reads) in reads.chunks(self.recipe.batch_examples).enumerate() {
            let (part, part_rows) = self.add_clipped(&factors, step, micro, reads, &mut sum)?;
            loss.add(part);
            rows += part_rows;
        }
        let examples: Vec<usize> = reads.iter().map(|read| read.example).collect();
        let (mut gradient, norms) = sum.finish();
        if !norms.largest.is_finite() {
            return Err(self.diverged(
                step,
                "norm of an example's gradient",
                norms.largest,
                &examples,
            ));
        }
        tracing::debug!(
            step,
            units = norms.units,
            clipped = norms.clipped,
            "private step"
        );
        let privacy = self.privacy.as_mut().expect("the trainer is private");
        privacy
            .random
            .add_gaussian(gradient.values_mut(), noise * bound);
        let slope = Slope {
            loss,
            rows,
            gradient,
            divisor,
        };
        Ok((examples, slope))
    }

    /// Adds one micro-batch's gradients, example by example.
    fn add_clipped(
        &self,
        factors: &LoraFactors,
        step: u64,
        micro: usize,
        reads: &[Read],
        sum: &mut ClippedSum,
    ) -> Result<(LossSum, u64), TrainError> {
        let chosen: Vec<usize> = reads.iter().map(|read| read.example).collect();
        let batch = self.dataset.batch(&chosen);
        let options = PassOptions {
            dropout: (self.recipe.dropout > 0.0).then(|| Dropout {
                rate: self.recipe.dropout,
                seed: self.seeds.dropout(step, micro),
            }),
            checkpointing: self.recipe.checkpointing,
        };
        let (loss, gradients) = self
            .llama
            .loss_and_example_gradients(&batch, factors, options)?;
        if !loss.nats.is_finite() {
            return Err(self.diverged(step, "loss", loss.nats, &chosen));
        }
        // The loss of an example is the mean over its own tokens: a mean over the batch's would couple examples.
        for ((read, gradient), tokens) in reads.iter().zip(gradients).zip(targets(&batch)) {
            sum.add(read.unit, gradient, read.share / tokens.max(1) as f64);
        }
        Ok((loss, batch.tokens.len() as u64))
    }

    fn diverged(
        &self,
        step: u64,
        what: &'static str,
        found: f64,
        examples: &[usize],
    ) -> TrainError {
        let lines: SourceLines = self.lines(examples);
        TrainError::Diverged {
            step,
            what,
            found,
            lines,
        }
    }
}

/// One example in a step, and its part in its unit's gradient.
#[derive(Clone, Copy, Debug)]
struct Read {
    unit: usize,
    example: usize,
    share: f64,
}

/// Predicted tokens of each example of a batch.
fn targets(batch: &Batch) -> Vec<usize> {
    let of = |row: u32| {
        batch
            .segments
            .partition_point(|rows| rows.end <= row as usize)
    };
    let mut counts = vec![0; batch.segments.len()];
    batch
        .targets
        .iter()
        .for_each(|target| counts[of(target.row)] += 1);
    counts
}
