//! One private step's gradient: a Poisson sample of units, each clipped, and noise on their sum.
//!
//! Micro-batches only bound memory: they accumulate clipped gradients, and the noise comes once, on the whole sum. No number of
//! this step that depends on the records leaves [`Slope`] without noise but the loss, which is the site's own. Nor does the step
//! end because of a record's numbers: that it ended would be an answer without noise.

use aggregation::Adapter;

use super::{TrainError, Trainer, slope::Slope};
use crate::{
    lora::LoraFactors,
    model::{Dropout, LossSum, MaskSeeds, PassOptions},
    privacy::{
        DpSgd,
        clipping::{ClippedSum, Norms},
    },
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
        let divisor = privacy.expected_units;
        let reads = sample(privacy);
        let factors = LoraFactors::upload(adapter, self.llama.device())?;
        let mut sum = ClippedSum::new(adapter.layout(), bound);
        let (mut loss, mut rows) = (LossSum::default(), 0);
        for reads in reads.chunks(self.recipe.batch_examples) {
            let (part, part_rows) = self.add_clipped(&factors, reads, &mut sum)?;
            loss.add(part);
            rows += part_rows;
        }
        let examples: Vec<usize> = reads.iter().map(|read| read.example).collect();
        let (mut gradient, norms) = sum.finish();
        log(step, norms);
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
        reads: &[Read],
        sum: &mut ClippedSum,
    ) -> Result<(LossSum, u64), TrainError> {
        let chosen: Vec<usize> = reads.iter().map(|read| read.example).collect();
        let batch = self.dataset.batch(&chosen);
        let seeds: Vec<u64> = reads.iter().map(|read| read.mask_seed).collect();
        let options = PassOptions {
            dropout: (self.recipe.dropout > 0.0).then_some(Dropout {
                rate: self.recipe.dropout,
                seeds: MaskSeeds::Examples(&seeds),
            }),
            checkpointing: self.recipe.checkpointing,
        };
        let found = self
            .llama
            .loss_and_example_gradients(&batch, factors, options)?;
        let mut loss = LossSum::default();
        for (read, (of_example, gradient)) in reads.iter().zip(found) {
            if of_example.nats.is_finite() {
                loss.add(of_example);
            }
            // The loss of an example is the mean over its own tokens: a mean over the batch's would couple examples.
            let tokens = of_example.tokens.max(1) as f64;
            sum.add(read.unit, gradient, read.share / tokens);
        }
        Ok((loss, batch.tokens.len() as u64))
    }
}

/// Draws the units of a step, and what becomes of each of their examples.
fn sample(privacy: &mut DpSgd) -> Vec<Read> {
    let rate = privacy.sampling_rate();
    let mut reads = Vec::new();
    for (unit, members) in privacy.units.sample(rate, &mut privacy.random) {
        let share = 1.0 / members.len() as f64;
        for example in members {
            reads.push(Read {
                unit,
                example,
                share,
                mask_seed: privacy.random.mask_seed(),
            });
        }
    }
    reads
}

/// For the site's own eyes.
fn log(step: u64, norms: Norms) {
    let Norms {
        units,
        clipped,
        not_finite,
        ..
    } = norms;
    tracing::debug!(step, units, clipped, not_finite, "private step");
    if not_finite > 0 {
        tracing::warn!(
            step,
            units,
            not_finite,
            "gradients that are not finite contributed nothing to a private step"
        );
    }
}

/// One example in a step, and its part in its unit's gradient.
#[derive(Clone, Copy, Debug)]
struct Read {
    unit: usize,
    example: usize,
    share: f64,
    /// What the example's dropout masks follow from.
    mask_seed: u64,
}
