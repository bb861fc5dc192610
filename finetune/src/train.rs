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
mod early_stopping;
mod error;
mod order;
mod private;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc};

use aggregation::{
    Adapter, AdapterLayout,
    ewc::{self, BoundAnchor, Factor},
};

use self::{
    checkpoint::Checkpoint,
    checkpoint::Identity,
    order::{ExampleOrder, Seeds},
};
pub use self::{
    checkpoint::CheckpointError,
    course::Course,
    early_stopping::{Best, EarlyStopping, Patience, Validation, Verdict},
    error::{SourceLines, TrainError},
};
use crate::{
    adamw::{self, AdamW},
    data::Dataset,
    lora::LoraFactors,
    model::{Dropout, Llama, LossSum, MaskSeeds, PassOptions},
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

/// What one optimizer step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// The step of the run, from 0.
    pub step: u64,
    /// Steps of this call done, this one included.
    pub done: u64,
    /// Steps that this call was asked for.
    pub asked: u64,
    /// Mean loss over the step's response tokens, in nats, before the step; not a number if a private step drew no record with a
    /// finite one.
    pub loss: f64,
    /// Response tokens of the step: those that the loss counts.
    pub tokens: u64,
    /// All tokens of the step, prompts included: what a speed is measured in.
    pub rows: u64,
    /// Norm of the mean gradient before clipping.
    pub gradient_norm: f64,
    /// The learning rate that the step was taken with.
    pub learning_rate: f64,
    /// Lines of the data that the step read, in its order.
    pub lines: Vec<usize>,
}

impl StepReport {
    /// Gives the loss in words, or that there is none: a private step may draw no record, or none with a finite loss.
    pub fn loss_sentence(&self) -> String {
        if self.lines.is_empty() {
            "no record drawn".to_owned()
        } else if self.tokens == 0 {
            "no finite loss".to_owned()
        } else {
            format!("loss {:.4}", self.loss)
        }
    }
}

/// The outcome of some steps.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The adapter after the last step.
    pub adapter: Adapter,
    /// Steps done; fewer than asked for if the observer broke off.
    pub steps: u64,
    /// Different examples that contributed: the participant's weight in federated averaging.
    pub examples_used: u64,
    /// Response tokens that contributed, repetitions counted.
    pub tokens: u64,
    /// Mean loss over those tokens in nats, each before its own step; 0 if no step was done.
    pub mean_loss: f64,
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
        self.meet(start.layout())?;
        let mut adapter = start.clone();
        let mut used = BTreeSet::new();
        let mut sum = LossSum {
            nats: 0.0,
            tokens: 0,
        };
        let mut done = 0;
        for step in (first_step..).take(usize::try_from(steps).unwrap_or(usize::MAX)) {
            let (examples, slope) = if self.privacy.is_some() {
                self.private_slope(&adapter, step)?
            } else {
                self.slope(&adapter, step)?
            };
            let (gradient_norm, learning_rate) = self.descend(&mut adapter, &slope, step)?;
            // The last step has no forward pass after it that would notice.
            let found = adamw::norm(adapter.values());
            if !found.is_finite() {
                return Err(TrainError::Diverged {
                    step,
                    what: "adapter's norm after it",
                    found,
                    lines: self.lines(&examples),
                });
            }
            let lines = self.lines(&examples).lines;
            used.extend(examples);
            sum.nats += slope.loss.nats;
            sum.tokens += slope.loss.tokens;
            done += 1;
            let report = StepReport {
                step,
                done,
                asked: steps,
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
        let mean_loss = if sum.tokens == 0 {
            0.0
        } else {
            sum.nats / sum.tokens as f64
        };
        let examples_used = used.len() as u64;
        Ok(Trained {
            adapter,
            steps: done,
            examples_used,
            tokens: sum.tokens,
            mean_loss,
        })
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
        put("data", hex(&self.dataset.digest));
        put("base precision", self.llama.precision().to_string());
        if let Some(pull) = &self.pull {
            put("lambda", pull.lambda.to_string());
            put("anchor", hex(&pull.anchor.digest()));
        }
        if let Some(privacy) = &self.privacy {
            put("private clip norm", privacy.clip_norm.to_string());
            put("noise multiplier", privacy.noise_multiplier.to_string());
            put("expected units", privacy.expected_units.to_string());
            put("units", privacy.units.count().to_string());
        }
        identity
    }

    /// The optimizer's steps, running means and running squares; nothing before the first step.
    fn moments(&self) -> (u64, &[f32], &[f32]) {
        match &self.optimizer {
            Some((_, adamw)) => adamw.moments(),
            None => (0, &[], &[]),
        }
    }

    fn set_moments(
        &mut self,
        layout: &Arc<AdapterLayout>,
        (steps, mean, square): (u64, Vec<f32>, Vec<f32>),
    ) -> Result<(), &'static str> {
        if steps == 0 {
            self.optimizer = None;
            return Ok(());
        }
        let count = layout.parameters();
        if mean.len() != count || square.len() != count {
            return Err("its moments do not fit the adapter");
        }
        let adamw = AdamW::resumed(&self.recipe, steps, mean, square);
        self.optimizer = Some((Arc::clone(layout), adamw));
        Ok(())
    }

    /// Makes the optimizer at the first call and checks the layout at the later ones.
    fn meet(&mut self, layout: &Arc<AdapterLayout>) -> Result<(), TrainError> {
        if let Some(pull) = &self.pull
            && pull.anchor.layout().digest() != layout.digest()
        {
            return Err(TrainError::OtherAnchor);
        }
        match &self.optimizer {
            Some((known, _)) if known.digest() != layout.digest() => Err(TrainError::OtherLayout),
            Some(_) => Ok(()),
            None => {
                let adamw = AdamW::new(&self.recipe, layout.parameters());
                self.optimizer = Some((Arc::clone(layout), adamw));
                Ok(())
            }
        }
    }

    /// Computes one step's summed gradient over its micro-batches, and names the examples that it read.
    fn slope(&mut self, adapter: &Adapter, step: u64) -> Result<(Vec<usize>, Slope), TrainError> {
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

    /// Moves the adapter: clipping, AdamW, then the anchor. Gives the mean gradient's norm and the rate.
    fn descend(
        &mut self,
        adapter: &mut Adapter,
        slope: &Slope,
        step: u64,
    ) -> Result<(f64, f64), TrainError> {
        let (layout, adamw) = self.optimizer.as_mut().expect("the run has met its layout");
        let norm = adamw::norm(slope.gradient.values()) / slope.divisor;
        // Private gradients were clipped before they were summed.
        let limit = self.recipe.clip_norm.filter(|_| self.privacy.is_none());
        let clip = adamw::clip_factor(norm, limit);
        let scale = clip / slope.divisor;
        let rate = self.recipe.learning_rate_at(step);
        adamw.step(adapter.values_mut(), slope.gradient.values(), scale, rate);
        if let Some(pull) = &self.pull {
            let strength = |module: usize, factor: Factor| {
                let range = match factor {
                    Factor::A => layout.a_range(module),
                    Factor::B => layout.b_range(module),
                };
                let denominator = adamw.typical_denominator(range);
                // A factor that never had a gradient was not moved by Adam, so there is nothing to pull back.
                if denominator == 0.0 {
                    return 0.0;
                }
                // Adam has seen the gradient as it was clipped, and takes no smaller a step for it. The pull is clipped with it, or
                // its share in the step would grow by what clipping took off the loss's.
                pull.lambda * clip * rate / (denominator + adamw.epsilon())
            };
            ewc::proximal_step(adapter, &pull.anchor, None, &strength);
        }
        Ok((norm, rate))
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Loss and gradient, summed over the micro-batches of a step so far.
#[derive(Debug)]
struct Slope {
    loss: LossSum,
    rows: u64,
    /// Of the sum of nats, not of their mean: the division by all tokens of the step comes once, at its end, so that a
    /// token weighs the same whichever micro-batch it fell into.
    gradient: Adapter,
    /// What makes the sum a mean: the step's tokens, or the units that a private step expects.
    divisor: f64,
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
