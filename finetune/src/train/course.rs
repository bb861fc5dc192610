//! A whole training alone: steps in stretches, with evaluations, early stopping and checkpoints between them.
//!
//! A [`Course`] decides nothing about time or files: its owner says how far to go, evaluates, and stores the bytes of a
//! checkpoint. Stretches of any length, with checkpoints and resumptions anywhere between steps, give the same bytes as one
//! stretch, on the CPU.

use std::{ops::ControlFlow, sync::Arc};

use aggregation::Adapter;

use super::{
    StepReport, TrainError, Trained, Trainer,
    checkpoint::{Checkpoint, CheckpointError, Identity, NOISE_MULTIPLIER},
    early_stopping::{Best, EarlyStopping, Validation, Verdict},
};

/// A training from its start adapter to its end.
#[derive(Debug)]
pub struct Course {
    trainer: Trainer,
    adapter: Adapter,
    step: u64,
    stopping: Option<EarlyStopping>,
    best: Option<Adapter>,
    identity: Identity,
}

impl Course {
    /// Begins at step 0 from the adapter `start`.
    ///
    /// `base` is the base model's fingerprint: a checkpoint is good for no other. With early stopping it is good for no other
    /// `validation` either, because the best adapter that it holds was found by this one.
    pub fn new(
        trainer: Trainer,
        start: Adapter,
        base: &[u8; 32],
        validation: Option<Validation>,
    ) -> Self {
        let mut identity = trainer.identity();
        let mut put = |key: &str, value: String| identity.insert(key.to_owned(), value);
        put("base model", hex::encode(base));
        put("start adapter", hex::encode(start.sha256()));
        put("adapter layout", hex::encode(start.layout().digest()));
        match &validation {
            None => {
                put("patience", "none".to_owned());
            }
            Some(validation) => {
                put("patience", validation.patience.evaluations.to_string());
                put("held-out data", hex::encode(validation.held_out));
                put("steps between evaluations", validation.every.to_string());
            }
        }
        Self {
            trainer,
            adapter: start,
            step: 0,
            stopping: validation.map(|validation| EarlyStopping::new(validation.patience)),
            best: None,
            identity,
        }
    }

    /// Gives the steps taken since the start.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Gives the steps left to take; none once early stopping has spoken.
    pub fn steps_left(&self) -> u64 {
        if self.stopping.as_ref().is_some_and(EarlyStopping::is_over) {
            return 0;
        }
        self.trainer.recipe().total_steps.saturating_sub(self.step)
    }

    /// Takes at most `steps` of the steps left.
    ///
    /// # Errors
    /// As [`Trainer::run`]; the course is then where it was.
    pub fn advance(
        &mut self,
        steps: u64,
        observe: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Trained, TrainError> {
        let steps = steps.min(self.steps_left());
        let trained = self.trainer.run(&self.adapter, self.step, steps, observe)?;
        self.adapter = trained.adapter.clone();
        self.step += trained.steps;
        Ok(trained)
    }

    /// Takes in the held-out loss of the adapter as it is now, in nats per token.
    ///
    /// Without early stopping every evaluation counts as an improvement, and none is kept.
    pub fn judge(&mut self, loss: f64) -> Verdict {
        let Some(stopping) = &mut self.stopping else {
            return Verdict::Improved;
        };
        let verdict = stopping.judge(self.step, loss);
        if verdict == Verdict::Improved {
            self.best = Some(self.adapter.clone());
        }
        verdict
    }

    /// Gives the best evaluation, if early stopping looks for it.
    pub fn best(&self) -> Option<Best> {
        self.stopping.as_ref().and_then(EarlyStopping::best)
    }

    /// Gives the adapter as it is now.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Ends the training: the adapter of the best evaluation where early stopping looked for it, else the last one.
    pub fn finish(self) -> Adapter {
        self.best.unwrap_or(self.adapter)
    }

    /// Gives the state as bytes for [`Course::resume`].
    pub fn checkpoint(&self) -> Vec<u8> {
        let (optimizer_steps, mean, square) = self.trainer.moments();
        let best = self.best.as_ref().map(Adapter::values);
        Checkpoint {
            identity: self.identity.clone(),
            step: self.step,
            optimizer_steps,
            adapter: self.adapter.values().to_vec(),
            mean: mean.to_vec(),
            square: square.to_vec(),
            stopping: self.stopping.clone(),
            best: best.unwrap_or_default().to_vec(),
            stretch: None,
        }
        .to_bytes()
    }

    /// Gives the noise multiplier of the training that a checkpoint belongs to; none if its steps are not private.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`].
    pub fn noise_multiplier(checkpoint: &[u8]) -> Result<Option<f64>, CheckpointError> {
        let read = Checkpoint::from_bytes(checkpoint)?;
        let noise = read.identity.get(NOISE_MULTIPLIER).map(|text| text.parse());
        noise.transpose().map_err(|_| CheckpointError::Damaged {
            what: format!("its {NOISE_MULTIPLIER} is no number"),
        })
    }

    /// Goes to the state of a checkpoint of the same training.
    ///
    /// # Errors
    /// [`CheckpointError`]; the course is then as it was.
    pub fn resume(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let read = Checkpoint::from_bytes(bytes)?;
        read.check(&self.identity)?;
        let damaged = |what: &dyn std::fmt::Display| CheckpointError::Damaged {
            what: what.to_string(),
        };
        let layout = Arc::clone(self.adapter.layout());
        let adapter = |values| {
            Adapter::from_values(Arc::clone(&layout), values).map_err(|error| damaged(&error))
        };
        let current = adapter(read.adapter)?;
        let best = if read.best.is_empty() {
            None
        } else {
            Some(adapter(read.best)?)
        };
        let moments = (read.optimizer_steps, read.mean, read.square);
        self.trainer
            .set_moments(&layout, moments)
            .map_err(|what| damaged(&what))?;
        (self.adapter, self.best) = (current, best);
        (self.step, self.stopping) = (read.step, read.stopping);
        Ok(())
    }
}
