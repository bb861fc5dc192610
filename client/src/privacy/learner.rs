//! A learner whose steps are counted before they are done, some at a time.

use aggregation::Adapter;
use finetune::train::{StepReport, Stretch, Trained, Trainer};

use super::{Account, STEPS_AT_ONCE};
use crate::{
    error::ClientError,
    site::{Follower, Learner, Next, begin, follow},
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
    /// Does not begin what the budget has no room for. A round that is broken off has counted what it did and at most [`STEPS_AT_ONCE`]
    /// more; what of that is behind its checkpoint counts again when it is gone on with, since nobody can show that nothing of those
    /// steps got out.
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
        self.account.check_next(stretch.left())?;
        let mut counting = Counting::begin(&self.account, &stretch, follower)?;
        let trained = follow(&mut self.trainer, stretch, &mut counting)?;
        match counting.refused {
            Some(refused) => Err(refused),
            None => Ok(Trained {
                examples_used: 1,
                ..trained
            }),
        }
    }

    /// Holds the optimizer's moments, which follow from noisy sums; nothing of the noise itself.
    fn checkpoint(&self) -> Vec<u8> {
        self.trainer.checkpoint()
    }
}

/// Counts the next steps whenever those that were counted are done.
struct Counting<'a> {
    account: &'a Account,
    /// The step before which the next ones are counted, and the one that the round ends before.
    counted_to: u64,
    end: u64,
    /// Why the steps that follow were not counted, and must not be taken.
    refused: Option<ClientError>,
    follower: &'a mut dyn Follower,
}

impl<'a> Counting<'a> {
    fn begin(
        account: &'a Account,
        stretch: &Stretch,
        follower: &'a mut dyn Follower,
    ) -> Result<Self, ClientError> {
        let first = stretch.next_step();
        let mut counting = Self {
            account,
            counted_to: first,
            end: first + stretch.left(),
            refused: None,
            follower,
        };
        counting.count()?;
        Ok(counting)
    }

    fn count(&mut self) -> Result<(), ClientError> {
        let steps = STEPS_AT_ONCE.min(self.end - self.counted_to);
        if 0 < steps {
            self.account.spend(self.counted_to, steps)?;
            self.counted_to += steps;
        }
        Ok(())
    }
}

impl Follower for Counting<'_> {
    fn begun(&mut self) -> Option<Vec<u8>> {
        self.follower.begun()
    }

    fn step(&mut self, report: &StepReport) -> Next {
        let next = self.follower.step(report);
        if next == Next::Stop || report.step + 1 < self.counted_to {
            return next;
        }
        match self.count() {
            Ok(()) => next,
            Err(refused) => {
                self.refused = Some(refused);
                Next::Stop
            }
        }
    }

    fn keep(&mut self, checkpoint: &[u8]) -> Result<(), ClientError> {
        self.follower.keep(checkpoint)
    }
}
