//! `foedus-client train`: the same trainer as in a federated run, alone.

mod private;

use std::{path::Path, sync::Arc};

use aggregation::{Adapter, ewc::Anchor, peft::Sidecar};
use anyhow::Context as _;
use finetune::{
    base::BaseModel,
    data::Dataset,
    model::LossSum,
    recipe::Recipe,
    train::{AnchorPull, Course, Patience, Trainer, Validation},
};

use super::{
    answer::say,
    arguments::{LoraArguments, RecipeArguments, TrainArguments},
    evaluate::{keys, measure, sentence},
    failure::Failure,
    open,
    training::{Summary, Training, forget},
};
use crate::{adapter_folder, privacy::PrivateTerms};

/// Trains, saves the adapter and prints the result.
pub(super) fn train(arguments: &TrainArguments) -> Result<(), Failure> {
    prepare(arguments)?;
    let base = open::base(&arguments.model)?;
    let max_tokens = arguments.recipe.max_tokens;
    let dataset = open::dataset(&arguments.data, &base, max_tokens)?;
    let held_out = arguments.eval.as_deref();
    let held_out = held_out
        .map(|file| open::dataset(file, &base, max_tokens))
        .transpose()?;
    let start = start(arguments, &base)?;
    let before = held_out
        .as_deref()
        .map(|data| measure("before", &base, Some(&start), data));
    let before = before.transpose()?;
    let private = private::terms(arguments, &dataset)?;
    let texts = (&dataset, held_out.as_deref());
    let course = course(arguments, &base, texts, start, private.as_ref())?;
    let account = private.map(|private| private.account);
    let mut training = Training::begin(course, arguments, held_out.as_deref(), account)?;
    training.run(&base)?;
    let (adapter, summary) = training.finish()?;
    keep(arguments, &base, &adapter)?;
    let after = held_out
        .as_deref()
        .map(|data| measure("after", &base, Some(&adapter), data));
    let after = after.transpose()?;
    if arguments.json {
        say!("{}", line(&adapter, &summary, after.as_ref()))?;
        return Ok(());
    }
    say!("{}", summary.sentence())?;
    for (when, loss) in [("before", before), ("after", after)] {
        if let Some(loss) = loss {
            say!("{when}: {}", sentence(&loss))?;
        }
    }
    say!("adapter written to {}", arguments.out.display())?;
    Ok(())
}

/// Finds out before hours of training whether their result can be written.
fn prepare(arguments: &TrainArguments) -> Result<(), Failure> {
    if let Some(checkpoint) = &arguments.checkpoint {
        open::parent_of(checkpoint)?;
        open::place(checkpoint)?;
    }
    let ledger = arguments.private.dp_ledger.as_deref();
    let kept: Vec<&Path> = arguments
        .checkpoint
        .as_deref()
        .into_iter()
        .chain(ledger)
        .collect();
    Ok(adapter_folder::prepare(&arguments.out, &kept).map_err(anyhow::Error::from)?)
}

/// Writes the adapter and only then removes the checkpoint: whatever happens in between, one of them is on disk.
fn keep(arguments: &TrainArguments, base: &BaseModel, adapter: &Adapter) -> Result<(), Failure> {
    let sidecar = Sidecar {
        base_fingerprint: base.fingerprint,
        base_name: base.name.clone(),
    };
    adapter_folder::write(&arguments.out, adapter, arguments.lora.dropout, &sidecar)
        .map_err(anyhow::Error::from)?;
    arguments.checkpoint.as_deref().map_or(Ok(()), forget)
}

/// Gives the result as one line of JSON.
fn line(adapter: &Adapter, summary: &Summary, after: Option<&LossSum>) -> serde_json::Value {
    let mut object = after.map(keys).unwrap_or_default();
    let digest = hex::encode(adapter.sha256());
    let mut put = |key: &str, value: serde_json::Value| object.insert(key.to_owned(), value);
    put("adapter_sha256", digest.into());
    put("steps", summary.steps.into());
    put("resumed_at_step", summary.resumed_at.into());
    put("best_step", summary.best.map(|best| best.step).into());
    put("tokens_per_second", summary.tokens_per_second().into());
    put("train_loss", summary.mean_loss().into());
    if let Some(privacy) = &summary.privacy {
        put("epsilon", privacy.epsilon.into());
        put("delta", privacy.delta.into());
        put("noise_multiplier", privacy.noise_multiplier.into());
        put("sampling_rate", privacy.sampling_rate.into());
        put("stopped_by_budget", privacy.stopped.into());
    }
    object.into()
}

/// Gives the adapter to start from: the one named, or a fresh one.
fn start(arguments: &TrainArguments, base: &BaseModel) -> Result<Adapter, Failure> {
    if let Some(folder) = &arguments.start {
        return Ok(open::adapter(folder, base)?.adapter);
    }
    let layout = base
        .adapter_layout(&arguments.lora.config())
        .map_err(anyhow::Error::from)?;
    Ok(Adapter::initial(Arc::new(layout), arguments.recipe.seed))
}

/// Prepares the training from its start.
fn course(
    arguments: &TrainArguments,
    base: &Arc<BaseModel>,
    (dataset, held_out): (&Arc<Dataset>, Option<&Dataset>),
    start: Adapter,
    private: Option<&PrivateTerms>,
) -> Result<Course, Failure> {
    let recipe = arguments
        .recipe
        .recipe(arguments.lora.dropout, dataset.examples.len());
    let pull = pull(arguments, base, &start)?;
    let (llama, dataset) = (Arc::clone(&base.llama), Arc::clone(dataset));
    let trainer = Trainer::new(llama, dataset, recipe, arguments.recipe.seed, pull);
    let mut trainer = trainer.map_err(anyhow::Error::from)?;
    if let Some(private) = private {
        let privately = trainer.with_privacy(private.steps()?);
        trainer = privately.map_err(anyhow::Error::from)?;
    }
    let validation = held_out.and_then(|data| validation(arguments, data));
    Ok(Course::new(trainer, start, &base.fingerprint, validation))
}

/// By what early stopping judges, if it is asked for.
fn validation(arguments: &TrainArguments, held_out: &Dataset) -> Option<Validation> {
    Some(Validation {
        patience: Patience {
            evaluations: arguments.patience?.get(),
        },
        held_out: held_out.digest,
        every: arguments.eval_every?.get(),
    })
}

impl RecipeArguments {
    /// The recipe for so many examples.
    pub(super) fn recipe(&self, dropout: f64, examples: usize) -> Recipe {
        let step_examples = self.batch_examples.saturating_mul(self.accumulation).max(1);
        let three_epochs = (3 * examples).div_ceil(step_examples).max(1) as u64;
        Recipe {
            learning_rate: self.learning_rate,
            schedule: self.schedule,
            warmup_steps: self.warmup_steps,
            total_steps: self.steps.unwrap_or(three_epochs),
            batch_examples: self.batch_examples,
            accumulation: self.accumulation,
            max_tokens: self.max_tokens,
            clip_norm: Some(self.clip_norm),
            weight_decay: self.weight_decay,
            dropout,
            checkpointing: self.activation_checkpointing,
            ..Recipe::default()
        }
    }
}

fn pull(
    arguments: &TrainArguments,
    base: &BaseModel,
    start: &Adapter,
) -> Result<Option<AnchorPull>, Failure> {
    let (Some(file), Some(lambda)) = (&arguments.anchor, arguments.lambda) else {
        return Ok(None);
    };
    if !lambda.is_finite() || lambda < 0.0 {
        return Err(Failure::usage("--lambda must be at least 0"));
    }
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let unusable = || format!("{} cannot be used as anchor", file.display());
    let anchor = Anchor::from_bytes(&bytes).with_context(unusable)?;
    let anchor = anchor
        .bind(start.layout(), &base.fingerprint)
        .with_context(unusable)?;
    Ok(Some(AnchorPull { anchor, lambda }))
}

impl LoraArguments {
    /// Gives the engine's configuration.
    pub(super) fn config(&self) -> finetune::lora::LoraConfig {
        finetune::lora::LoraConfig {
            rank: self.rank,
            alpha: self.alpha,
            dropout: self.dropout,
            rslora: self.rslora,
            target_modules: self.target_modules.clone(),
        }
    }
}
