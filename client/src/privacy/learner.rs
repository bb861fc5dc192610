//! A learner whose steps are counted before they are done.

use std::ops::ControlFlow;

use aggregation::Adapter;
use finetune::train::{StepReport, Trained, Trainer};

use super::Account;
use crate::{error::ClientError, site::Learner};

/// A private trainer with its account.
#[derive(Debug)]
pub(crate) struct PrivateLearner {
    trainer: Trainer,
    account: Account,
}

impl PrivateLearner {
    pub(crate) fn new(trainer: Trainer, account: Account) -> Self {
        Self { trainer, account }
    }
}

impl Learner for PrivateLearner {
    /// Counts all steps, then takes them. A round that is broken off has counted whole.
    ///
    /// The weight is 1 whatever was read: how many records a site has is exact, and no noise is on it.
    fn learn(
        &mut self,
        global: &Adapter,
        first_step: u64,
        steps: u64,
        observe: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Trained, ClientError> {
        if steps > 0 {
            self.account.spend(first_step, steps)?;
        }
        let trained = self.trainer.run(global, first_step, steps, observe)?;
        Ok(Trained {
            examples_used: 1,
            ..trained
        })
    }

    /// Holds the optimizer's moments, which follow from noisy sums; nothing of the noise itself.
    fn checkpoint(&self) -> Vec<u8> {
        self.trainer.checkpoint()
    }
}
