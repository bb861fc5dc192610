//! What a participant brings to a federation: something that agrees to a plan and turns global adapters into updates.
//!
//! The rest of the client moves messages and bytes and does not know what is learned. The program's own site trains a Llama
//! ([`crate::federate()`]); the exchange benchmark's adds a constant.

use std::{ops::ControlFlow, sync::Arc};

use aggregation::{Adapter, AdapterLayout};
use finetune::train::{StepReport, Stretch, Trained, Trainer};
use protocol::plan::CheckedPlan;

use crate::error::ClientError;

/// One participant, before it knows the plan.
pub trait Site: Send + Sync {
    /// Compares the plan with what the site has. May take its time: it is called on a blocking thread.
    ///
    /// # Errors
    /// The reason to decline the plan, or the site's own trouble.
    fn agree(&self, plan: &CheckedPlan) -> Result<Box<dyn Agreement>, ClientError>;
}

/// A plan that the site has agreed to.
pub trait Agreement: Send + Sync {
    /// Gives the layout of the run's adapters.
    fn layout(&self) -> &Arc<AdapterLayout>;

    /// Makes what learns, once, before the first round of this process.
    ///
    /// `anchor` is the server's, if the plan has participants pull toward it; `earlier` is the last
    /// [`Learner::checkpoint`] of an earlier process.
    ///
    /// # Errors
    /// Whatever keeps the site from beginning.
    fn learner(
        &self,
        anchor: Option<&[u8]>,
        earlier: Option<&[u8]>,
    ) -> Result<Box<dyn Learner>, ClientError>;

    /// Makes the final adapter durable, if the site keeps it. The server hears only afterwards that it arrived.
    ///
    /// # Errors
    /// Whatever keeps it from the disk; the server is not told that it arrived.
    fn keep(&self, _adapter: &Adapter) -> Result<(), ClientError> {
        Ok(())
    }
}

/// What learns, over all rounds of a run. It rests between rounds and is on a thread of its own meanwhile.
pub trait Learner: Send {
    /// Takes `steps` steps from the adapter `global`; `first_step` is the run's step that this round begins with.
    ///
    /// The follower hears of each step and may break off; then fewer steps are reported than asked for.
    ///
    /// # Errors
    /// [`ClientError`] if no adapter came of it, or if a privacy budget forbids the steps.
    fn learn(
        &mut self,
        global: &Adapter,
        first_step: u64,
        steps: u64,
        follower: &mut dyn Follower,
    ) -> Result<Trained, ClientError>;

    /// Gives what outlives a round, such as an optimizer's moments, as bytes.
    fn checkpoint(&self) -> Vec<u8>;
}

/// Who follows a round, and keeps it over the death of the process.
pub trait Follower {
    /// Gives the last checkpoint that an earlier process kept of this very round.
    fn begun(&mut self) -> Option<Vec<u8>>;

    /// Hears of a step, and says how to go on.
    fn step(&mut self, report: &StepReport) -> Next;

    /// Keeps a checkpoint in the midst of the round.
    ///
    /// # Errors
    /// [`ClientError`] if it cannot be kept.
    fn keep(&mut self, checkpoint: &[u8]) -> Result<(), ClientError>;
}

/// How a training goes on after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// With the next step.
    Step,
    /// With the next step, once a checkpoint is kept.
    Keep,
    /// Not at all; a checkpoint is kept.
    Stop,
}

impl Learner for Trainer {
    fn learn(
        &mut self,
        global: &Adapter,
        first_step: u64,
        steps: u64,
        follower: &mut dyn Follower,
    ) -> Result<Trained, ClientError> {
        let stretch = begin(self, Stretch::begin(global, first_step, steps), follower);
        follow(self, stretch, follower)
    }

    fn checkpoint(&self) -> Vec<u8> {
        Self::checkpoint(self)
    }
}

/// Goes to where an earlier process was in a stretch that begins.
pub(crate) fn begin(
    trainer: &mut Trainer,
    mut stretch: Stretch,
    follower: &mut dyn Follower,
) -> Stretch {
    let first_step = stretch.next_step();
    if let Some(begun) = follower.begun() {
        match trainer.resume_in(&mut stretch, &begun) {
            Ok(()) => {
                let (step, left) = (stretch.next_step(), stretch.left());
                tracing::info!(
                    first_step,
                    step,
                    left,
                    "the round goes on from its checkpoint"
                );
            }
            Err(error) => tracing::warn!(%error, "the round is trained from its beginning"),
        }
    }
    stretch
}

/// Takes the steps that are left, as the follower says.
pub(crate) fn follow(
    trainer: &mut Trainer,
    mut stretch: Stretch,
    follower: &mut dyn Follower,
) -> Result<Trained, ClientError> {
    while 0 < stretch.left() {
        let mut next = Next::Step;
        trainer.go_on(&mut stretch, &mut |report| {
            next = follower.step(report);
            match next {
                Next::Step => ControlFlow::Continue(()),
                Next::Keep | Next::Stop => ControlFlow::Break(()),
            }
        })?;
        // What is whole is kept as an update.
        if 0 < stretch.left() {
            follower.keep(&trainer.checkpoint_in(&stretch))?;
        }
        if next == Next::Stop {
            break;
        }
    }
    Ok(stretch.end())
}
