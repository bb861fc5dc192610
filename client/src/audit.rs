//! The audit before saying yes: what a training on this site's text would give away about single records.
//!
//! It trains as a plan or the command line says, alone, on the site's own text with planted canaries, and then attacks the
//! result as somebody who holds the base model would: exposure of the canaries (Carlini et al. 2019, arXiv 1802.08232),
//! membership inference by loss (Yeom et al. 2018, arXiv 1709.01604), a lower bound on epsilon from one run (Steinke,
//! Nasr and Jagielski 2023, arXiv 2305.08846), and the token attack on the span of gradients (Petrov et al. 2024, arXiv
//! 2405.15586) as it applies to LoRA. What it is not: a proof. It finds leaks that are there for these attacks, and its
//! silence means that these attacks found nothing at this size.

mod canaries;
mod exposure;
mod membership;
mod one_run;
mod report;
mod span;

#[cfg(test)]
mod tests;

use std::{ops::ControlFlow, sync::Arc};

use aggregation::{Adapter, AdapterError};
use finetune::{
    LoadError,
    base::BaseModel,
    data::{DataError, Dataset},
    lora::{LoraConfig, LoraFactors},
    model::ModelError,
    privacy::{DpSgd, NoiseSource, Units},
    recipe::Recipe,
    train::{StepReport, TrainError, Trainer},
};
use serde::Serialize;

use self::canaries::Canaries;
pub use self::{
    exposure::Exposure,
    membership::{Membership, Roc},
    one_run::OneRun,
    report::to_html,
    span::{Span, SpanTarget},
};

/// How to audit.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// The training that is audited; its `total_steps` are taken.
    pub recipe: Recipe,
    /// The adapter that it trains.
    pub lora: LoraConfig,
    /// The seed of canaries, coins, data order and the fresh adapter.
    pub seed: u64,
    /// Canaries for each number of insertions, and as many that are never inserted.
    pub canaries_each: usize,
    /// Random secrets among which a canary's rank is found; exposure is at most the logarithm of this.
    pub candidates: usize,
    /// Canaries that a coin puts in or leaves out.
    pub coins: usize,
    /// The delta of the bound on epsilon.
    pub delta: f64,
    /// Private training, if that is audited.
    pub privacy: Option<AuditNoise>,
    /// Whether the plan protects all records of a person together. The attacks are on single records all the same.
    pub protects_groups: bool,
}

/// DP-SGD by record, as a plan asks for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AuditNoise {
    /// Largest norm of a record's gradient.
    pub clip_norm: f64,
    /// Standard deviation of the noise over it.
    pub noise_multiplier: f64,
}

impl AuditSettings {
    /// The default size: minutes with a small model.
    pub fn new(recipe: Recipe, lora: LoraConfig) -> Self {
        Self {
            recipe,
            lora,
            seed: 0,
            canaries_each: 4,
            candidates: 1000,
            coins: 128,
            delta: 1e-5,
            privacy: None,
            protects_groups: false,
        }
    }
}

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Findings {
    /// The base model.
    pub base: String,
    /// Optimizer steps taken.
    pub steps: u64,
    /// The noise of private training, over the clipping norm; absent without it.
    pub noise_multiplier: Option<f64>,
    /// Whether the plan protects all records of a person together, while records were planted and attacked one by one.
    pub protects_groups: bool,
    /// Records of the site that were trained on.
    pub members: usize,
    /// Different records of the site that were held out to compare with.
    pub outsiders: usize,
    /// Records of the site that stand there once more.
    pub repeated: usize,
    /// Canary records among those trained on.
    pub planted: usize,
    /// Exposure by number of insertions.
    pub exposure: Vec<Exposure>,
    /// Membership inference on the site's own records.
    pub membership: Membership,
    /// The lower bound on epsilon.
    pub one_run: OneRun,
    /// The token attack on what a server would see.
    pub span: Vec<Span>,
}

/// An audit that has no result.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Not enough text for a comparison.
    #[error(
        "{found} different records are too few to audit: half of them are held out to compare with, so at least {MEMBERS_MIN} are needed"
    )]
    TooFew {
        /// Different records found.
        found: usize,
    },
    /// The settings make no sense.
    #[error("{what}")]
    Settings {
        /// What to change.
        what: String,
    },
    /// The canaries cannot be tokenized.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The adapter does not fit the base model.
    #[error(transparent)]
    Layout(#[from] LoadError),
    /// The training failed.
    #[error(transparent)]
    Training(#[from] TrainError),
    /// A loss cannot be computed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Two adapters of different layouts.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}

/// Audits a training on this text; the observer hears of each step.
///
/// # Errors
/// [`AuditError`].
pub fn audit(
    base: &BaseModel,
    text: &Dataset,
    settings: &AuditSettings,
    observe: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Findings, AuditError> {
    // Equal records are on one side together: one that is held out was trained on in its double otherwise.
    let distinct = text.distinct();
    check(&distinct, settings)?;
    let (records, different) = (text.examples.len(), distinct.examples.len());
    let (_, outsiders) = distinct.split(settings.seed, different / 2);
    let members = text.without(&outsiders);
    let canaries = Canaries::draw(settings, &base.tokenizer)?;
    let training = canaries.planted_in(&members);
    let planted = training.examples.len() - members.examples.len();
    let course = Course::take(base, training, settings, observe)?;
    let trained = Losses {
        base,
        adapter: Some(&course.last),
    };
    let before = Losses {
        base,
        adapter: None,
    };
    Ok(Findings {
        base: base.name.clone(),
        steps: settings.recipe.total_steps,
        noise_multiplier: settings.privacy.map(|noise| noise.noise_multiplier),
        protects_groups: settings.protects_groups,
        members: members.examples.len(),
        outsiders: outsiders.examples.len(),
        repeated: records - different,
        planted,
        exposure: exposure::measure(&canaries, &trained)?,
        membership: membership::measure(&members, &outsiders, &before, &trained)?,
        one_run: one_run::measure(&canaries, &before, &trained, settings.delta)?,
        span: span::attack(base, &course)?,
    })
}

fn check(text: &Dataset, settings: &AuditSettings) -> Result<(), AuditError> {
    let found = text.examples.len();
    if found < MEMBERS_MIN {
        return Err(AuditError::TooFew { found });
    }
    let enough = settings.recipe.total_steps >= 2
        && settings.canaries_each > 0
        && settings.candidates > 1
        && settings.coins >= 8
        && 0.0 <= settings.delta
        && settings.delta < 1.0;
    if enough {
        return Ok(());
    }
    let what = "an audit takes at least 2 steps, 1 canary each, 2 candidates, 8 coins, and a delta below 1";
    Err(AuditError::Settings {
        what: what.to_owned(),
    })
}

/// The training that is attacked: where it began, where it was after its first step, and where it ended.
struct Course {
    dataset: Arc<Dataset>,
    start: Adapter,
    /// Indices of the examples of the first step.
    first_batch: Vec<usize>,
    first: Adapter,
    last: Adapter,
}

impl Course {
    fn take(
        base: &BaseModel,
        mut dataset: Dataset,
        settings: &AuditSettings,
        observe: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Self, AuditError> {
        // A step names its examples by their lines, so each gets one of its own.
        for (index, example) in dataset.examples.iter_mut().enumerate() {
            example.line = index + 1;
        }
        let (dataset, recipe) = (Arc::new(dataset), settings.recipe.clone());
        let start = Adapter::initial(
            Arc::new(base.adapter_layout(&settings.lora)?),
            settings.seed,
        );
        let steps = recipe.total_steps;
        let llama = Arc::clone(&base.llama);
        let expected = recipe.step_examples() as f64;
        let mut trainer = Trainer::new(llama, Arc::clone(&dataset), recipe, settings.seed, None)?;
        if let Some(noise) = settings.privacy {
            trainer = trainer.with_privacy(noise.steps(&dataset, expected, settings.seed))?;
        }
        let mut first_batch = Vec::new();
        let first = trainer.run(&start, 0, 1, &mut |report| {
            first_batch = report.lines.iter().map(|line| line - 1).collect();
            observe(report)
        })?;
        let last = trainer.run(&first.adapter, 1, steps - 1, observe)?;
        if first.steps + last.steps < steps {
            let what = "the audit was stopped before its training was over".to_owned();
            return Err(AuditError::Settings { what });
        }
        Ok(Self {
            dataset,
            start,
            first_batch,
            first: first.adapter,
            last: last.adapter,
        })
    }
}

impl AuditNoise {
    /// Private steps over the records of a data set. Their noise follows from the audit's seed, so that an audit can be repeated:
    /// nothing that is trained here leaves, so there is nobody to hide from.
    fn steps(self, dataset: &Dataset, expected: f64, seed: u64) -> DpSgd {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        DpSgd {
            clip_norm: self.clip_norm,
            noise_multiplier: self.noise_multiplier,
            expected_units: expected.min(dataset.examples.len() as f64),
            units: Units::records(dataset),
            random: NoiseSource::from_key(key),
        }
    }
}

/// The losses of a model, record by record.
struct Losses<'a> {
    base: &'a BaseModel,
    adapter: Option<&'a Adapter>,
}

impl Losses<'_> {
    /// Mean nats per response token of each example.
    fn of(&self, dataset: &Dataset) -> Result<Vec<f64>, AuditError> {
        let llama = &self.base.llama;
        let factors = self
            .adapter
            .map(|adapter| LoraFactors::upload(adapter, llama.device()))
            .transpose()?;
        let loss = |index| {
            Ok(llama
                .loss(&dataset.batch(&[index]), factors.as_ref())?
                .mean())
        };
        (0..dataset.examples.len()).map(loss).collect()
    }
}

/// The fewest records that are worth an audit.
const MEMBERS_MIN: usize = 8;
