//! Steps that were asked for together: what their outcome is made of, beside the optimizer's state. They can be broken off between any
//! two, kept as a checkpoint and gone on with by another process, as if nothing had happened.

use std::{collections::BTreeSet, sync::Arc};

use aggregation::Adapter;
use serde::{Deserialize, Serialize};

use super::{
    Trained, Trainer,
    checkpoint::{Checkpoint, CheckpointError},
};
use crate::model::LossSum;

/// Some steps under way.
#[derive(Clone, Debug)]
pub struct Stretch {
    pub(super) adapter: Adapter,
    pub(super) tally: Tally,
}

/// What is counted of them.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Tally {
    /// The run's step that they begin with.
    first_step: u64,
    asked: u64,
    pub(super) done: u64,
    /// Different examples that contributed.
    used: BTreeSet<usize>,
    nats: f64,
    tokens: u64,
}

impl Stretch {
    /// Begins `steps` steps from the adapter `start`, of which `first_step` is the run's first.
    pub fn begin(start: &Adapter, first_step: u64, steps: u64) -> Self {
        Self {
            adapter: start.clone(),
            tally: Tally {
                first_step,
                asked: steps,
                done: 0,
                used: BTreeSet::new(),
                nats: 0.0,
                tokens: 0,
            },
        }
    }

    /// Gives the run's step that is next.
    pub fn next_step(&self) -> u64 {
        self.tally.first_step + self.tally.done
    }

    /// Gives the steps that are left to take.
    pub fn left(&self) -> u64 {
        self.tally.asked - self.tally.done
    }

    pub(super) fn asked(&self) -> u64 {
        self.tally.asked
    }

    /// Takes note of a step that was done.
    pub(super) fn note(&mut self, examples: Vec<usize>, loss: LossSum) {
        let Tally {
            done,
            used,
            nats,
            tokens,
            ..
        } = &mut self.tally;
        *done += 1;
        used.extend(examples);
        *nats += loss.nats;
        *tokens += loss.tokens;
    }

    /// Gives the outcome of the steps that were done.
    pub fn end(self) -> Trained {
        let Tally {
            done,
            used,
            nats,
            tokens,
            ..
        } = self.tally;
        Trained {
            adapter: self.adapter,
            steps: done,
            examples_used: used.len() as u64,
            tokens,
            mean_loss: if tokens == 0 {
                0.0
            } else {
                nats / tokens as f64
            },
        }
    }
}

impl Trainer {
    /// Gives the state between two steps of a stretch as bytes for [`Trainer::resume_in`].
    pub fn checkpoint_in(&self, stretch: &Stretch) -> Vec<u8> {
        let (optimizer_steps, mean, square) = self.moments();
        Checkpoint {
            identity: self.identity(),
            step: stretch.next_step(),
            optimizer_steps,
            adapter: stretch.adapter.values().to_vec(),
            mean: mean.to_vec(),
            square: square.to_vec(),
            stopping: None,
            best: Vec::new(),
            stretch: Some(stretch.tally.clone()),
        }
        .to_bytes()
    }

    /// Goes to the state of a checkpoint in the midst of this stretch, which has just begun. That it started from the same adapter is the
    /// caller's to know.
    ///
    /// # Errors
    /// [`CheckpointError`]; trainer and stretch are then as they were.
    pub fn resume_in(
        &mut self,
        stretch: &mut Stretch,
        bytes: &[u8],
    ) -> Result<(), CheckpointError> {
        let read = Checkpoint::from_bytes(bytes)?;
        read.check(&self.identity())?;
        let damaged = |what: String| CheckpointError::Damaged { what };
        let missing = || damaged("it is not of the midst of a stretch of steps".to_owned());
        let tally = read.stretch.ok_or_else(missing)?;
        let steps = |tally: &Tally| format!("{} from {}", tally.asked, tally.first_step);
        let (found, expected) = (steps(&tally), steps(&stretch.tally));
        if found != expected {
            let what = "steps".to_owned();
            return Err(CheckpointError::Other {
                what,
                found,
                expected,
            });
        }
        if tally.asked < tally.done {
            return Err(damaged("it has more steps done than asked for".to_owned()));
        }
        let layout = Arc::clone(stretch.adapter.layout());
        let adapter = Adapter::from_values(Arc::clone(&layout), read.adapter);
        let adapter = adapter.map_err(|error| damaged(error.to_string()))?;
        let moments = (read.optimizer_steps, read.mean, read.square);
        self.set_moments(&layout, moments)
            .map_err(|what| damaged(what.to_owned()))?;
        *stretch = Stretch { adapter, tally };
        Ok(())
    }
}
