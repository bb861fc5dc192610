//! What a participant brings to a federation: something that agrees to a plan and turns global adapters into updates.
//!
//! The rest of the client moves messages and bytes and does not know what is learned. The program's own site trains a Llama
//! ([`crate::federate()`]); the exchange benchmark's adds a constant.

use std::{ops::ControlFlow, sync::Arc};

use aggregation::{Adapter, AdapterLayout};
use finetune::train::{StepReport, Trained, Trainer};
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
    /// The observer hears of each step and may break off; then fewer steps are reported than asked for.
    ///
    /// # Errors
    /// [`ClientError`] if no adapter came of it, or if a privacy budget forbids the steps.
    fn learn(
        &mut self,
        global: &Adapter,
        first_step: u64,
        steps: u64,
        observe: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Trained, ClientError>;

    /// Gives what outlives a round, such as an optimizer's moments, as bytes.
    fn checkpoint(&self) -> Vec<u8>;
}

impl Learner for Trainer {
    fn learn(
        &mut self,
        global: &Adapter,
        first_step: u64,
        steps: u64,
        observe: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Trained, ClientError> {
        Ok(self.run(global, first_step, steps, observe)?)
    }

    fn checkpoint(&self) -> Vec<u8> {
        Self::checkpoint(self)
    }
}
