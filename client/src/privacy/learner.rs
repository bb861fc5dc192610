//! A learner whose steps are counted before they are done.

use aggregation::Adapter;
use finetune::train::{Stretch, Trained, Trainer};

use super::Account;
use crate::{
    error::ClientError,
    site::{Follower, Learner, begin, follow},
};

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
    /// Counts all steps, then takes them. A round that is broken off has counted whole; what is left of it behind a checkpoint counts again
    /// when it is gone on with, since nobody can show that nothing of those steps got out.
    ///
    /// The weight is 1 whatever was read: how many records a site has is exact, and no noise is on it.
    fn learn(
        &mut self,
        global: &Adapter,
        first_step: u64,
        steps: u64,
        follower: &mut dyn Follower,
    ) -> Result<Trained, ClientError> {
        let stretch = Stretch::begin(global, first_step, steps);
        let stretch = begin(&mut self.trainer, stretch, follower);
        if 0 < stretch.left() {
            self.account.spend(stretch.next_step(), stretch.left())?;
        }
        let trained = follow(&mut self.trainer, stretch, follower)?;
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
