//! Trains an adapter on one data set: steps of accumulated micro-batches, AdamW, and the pull of an anchor.
//!
//! A [`Trainer`] belongs to one participant for a whole run. It is asked for some steps each round, from whatever adapter
//! the round begins with, and keeps the optimizer's moments between rounds. It knows nothing of rounds, servers or
//! clocks: two rounds of K steps, the second from where the first ended, are byte for byte one training of 2 K steps.
//!
//! The anchor (elastic weight consolidation in the effective weights) acts after the optimizer's step and not through the
//! loss, so that its stiffness needs no smaller learning rate: `aggregation::ewc::proximal_step` with the strength
//! `lambda * clip * rate / (typical sqrt(v_hat) + epsilon)` of each factor, with the factor `clip` by which the step's gradient was
//! clipped: the proximal step in the metric that Adam walks in, which keeps lambda in units of KL per token. Private gradients are
//! clipped each by itself, and there is no such factor: under privacy lambda weighs more by about what clipping takes off.

mod checkpoint;
mod course;
mod descent;
mod early_stopping;
mod error;
mod order;
mod private;
mod report;
mod slope;
mod stretch;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::{ops::ControlFlow, sync::Arc};

use aggregation::{Adapter, AdapterLayout, ewc::BoundAnchor};

pub use self::{
    checkpoint::CheckpointError,
    course::Course,
    early_stopping::{Best, EarlyStopping, Patience, Validation, Verdict},
    error::{SourceLines, TrainError},
    report::{StepReport, Trained},
    stretch::Stretch,
};
use self::{
    checkpoint::{Checkpoint, Identity, NOISE_MULTIPLIER},
    order::{ExampleOrder, Seeds},
};
use crate::{
    adamw::{self, AdamW},
    data::Dataset,
    model::Llama,
    privacy::DpSgd,
    recipe::Recipe,
};

/// The pull toward an anchor during training.
#[derive(Clone, Debug)]
pub struct AnchorPull {
    /// The anchor's importances, checked against the adapter's layout.
    pub anchor: BoundAnchor,
    /// How strong it is: nats of domain loss given up per nat of KL divergence from the base, both per token. Zero is none.
    pub lambda: f64,
}

/// The training of one participant over a whole run.
#[derive(Debug)]
pub struct Trainer {
    llama: Arc<Llama>,
    dataset: Arc<Dataset>,
    recipe: Recipe,
    seeds: Seeds,
    order: ExampleOrder,
    pull: Option<AnchorPull>,
    privacy: Option<DpSgd>,
    /// Set by the first steps: the layout comes with the adapter.
    optimizer: Option<(Arc<AdapterLayout>, AdamW)>,
}

impl Trainer {
    /// Prepares a training.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] and [`TrainError::NoExamples`].
    pub fn new(
        llama: Arc<Llama>,
        dataset: Arc<Dataset>,
        recipe: Recipe,
        seed: u64,
        pull: Option<AnchorPull>,
    ) -> Result<Self, TrainError> {
        recipe.check()?;
        if dataset.examples.is_empty() {
            return Err(TrainError::NoExamples {
                source_name: dataset.source.display().to_string(),
            });
        }
        let seeds = Seeds {
            seed,
            digest: dataset.digest,
        };
        let order = ExampleOrder::new(seeds, dataset.examples.len());
        let pull = pull.filter(|pull| pull.lambda > 0.0);
        Ok(Self {
            llama,
            dataset,
            recipe,
            seeds,
            order,
            pull,
            privacy: None,
            optimizer: None,
        })
    }

    /// Makes every step private: the recipe's examples of a step become units drawn at random, one by one, and its `clip_norm`
    /// has no effect, because each unit's gradient is clipped instead.
    ///
    /// # Errors
    /// [`TrainError::Private`].
    pub fn with_privacy(mut self, privacy: DpSgd) -> Result<Self, TrainError> {
        privacy.check()?;
        self.privacy = Some(privacy);
        Ok(self)
    }

    /// Gives the recipe that the training follows.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Takes `steps` optimizer steps from the adapter `start`.
    ///
    /// `first_step` is the run's step that this call begins with, from 0: the learning rate and the data's order follow
    /// from it. The observer hears of each step and may break off; the outcome is then that of the steps done.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] and [`TrainError::NoTargets`] name the step and the lines of the data; the trainer's
    /// moments are then those of the step before.
    pub fn run(
        &mut self,
        start: &Adapter,
        first_step: u64,
        steps: u64,
        observe: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Trained, TrainError> {
        let mut stretch = Stretch::begin(start, first_step, steps);
        self.go_on(&mut stretch, observe)?;
        Ok(stretch.end())
    }

    /// Takes the steps that are left of a stretch. The observer hears of each and may break off; the stretch can be gone on with then.
    ///
    /// # Errors
    /// As [`Trainer::run`]; the stretch is of no use then.
    pub fn go_on(
        &mut self,
        stretch: &mut Stretch,
        observe: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<(), TrainError> {
        self.meet(stretch.adapter.layout())?;
        while 0 < stretch.left() {
            let step = stretch.next_step();
            let (examples, slope) = if self.privacy.is_some() {
                self.private_slope(&stretch.adapter, step)?
            } else {
                self.slope(&stretch.adapter, step)?
            };
            let (gradient_norm, learning_rate) =
                self.descend(&mut stretch.adapter, &slope, step)?;
            // The last step has no forward pass after it that would notice.
            let found = adamw::norm(stretch.adapter.values());
            if !found.is_finite() {
                return Err(TrainError::Diverged {
                    step,
                    what: "adapter's norm after it",
                    found,
                    lines: self.lines(&examples),
                });
            }
            let lines = self.lines(&examples).lines;
            stretch.note(examples, slope.loss);
            let report = StepReport {
                step,
                done: stretch.tally.done,
                asked: stretch.asked(),
                loss: slope.loss.nats / slope.loss.tokens as f64,
                tokens: slope.loss.tokens,
                rows: slope.rows,
                gradient_norm,
                learning_rate,
                lines,
            };
            if observe(&report).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Gives the optimizer's state as bytes for [`Trainer::resume`].
    pub fn checkpoint(&self) -> Vec<u8> {
        let (optimizer_steps, mean, square) = self.moments();
        Checkpoint {
            identity: self.identity(),
            step: 0,
            optimizer_steps,
            adapter: Vec::new(),
            mean: mean.to_vec(),
            square: square.to_vec(),
            stopping: None,
            best: Vec::new(),
            stretch: None,
        }
        .to_bytes()
    }

    /// Goes to the optimizer's state of a checkpoint of the same training, for adapters of this layout.
    ///
    /// # Errors
    /// [`CheckpointError`]; the trainer is then as it was.
    pub fn resume(
        &mut self,
        layout: &Arc<AdapterLayout>,
        bytes: &[u8],
    ) -> Result<(), CheckpointError> {
        let read = Checkpoint::from_bytes(bytes)?;
        read.check(&self.identity())?;
        let moments = (read.optimizer_steps, read.mean, read.square);
        self.set_moments(layout, moments)
            .map_err(|what| CheckpointError::Damaged {
                what: what.to_owned(),
            })
    }

    /// What makes two trainings the same, but for what they start from.
    fn identity(&self) -> Identity {
        let mut identity = self.recipe.facts();
        let mut put = |key: &str, value: String| identity.insert(key.to_owned(), value);
        put("seed", self.seeds.seed.to_string());
        put("data", hex::encode(self.dataset.digest));
        put("base precision", self.llama.precision().to_string());
        if let Some(pull) = &self.pull {
            put("lambda", pull.lambda.to_string());
            put("anchor", hex::encode(pull.anchor.digest()));
        }
        if let Some(privacy) = &self.privacy {
            put("private clip norm", privacy.clip_norm.to_string());
            put(NOISE_MULTIPLIER, privacy.noise_multiplier.to_string());
            put("expected units", privacy.expected_units.to_string());
            put("units", privacy.units.count().to_string());
        }
        identity
    }

    fn lines(&self, examples: &[usize]) -> SourceLines {
        SourceLines {
            source: self.dataset.source.clone(),
            lines: examples
                .iter()
                .map(|&index| self.dataset.examples[index].line)
                .collect(),
        }
    }
}
