//! A site's privacy budget: what private training has cost its records so far, and what it may still cost.
//!
//! The arithmetic is `aggregation::privacy`, the noise `finetune::privacy`. Here is the bookkeeping: a [`Ledger`] on disk that is
//! written *before* the steps that it counts, so that no crash, restart or second run spends anything unseen; and [`Account`],
//! which refuses the steps that would exceed the budget.

mod account;
mod learner;
mod ledger;
mod place;
mod terms;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use aggregation::privacy::{Budget, PrivacyError};

pub(crate) use self::learner::PrivateLearner;
pub use self::{
    account::{Account, BudgetError, RunBudget, Spending},
    ledger::{Entry, Ledger, LedgerError},
    place::{ledger_beside, others_beside},
    terms::{Noise, PrivateTerms, noise_for},
};

/// Private steps that are counted at a time: a training that is killed or stopped loses no more of its budget than these.
pub(crate) const STEPS_AT_ONCE: u64 = 25;

/// What a site allows to be learned about its records, and where it is counted.
#[derive(Clone, Debug, PartialEq)]
pub struct PrivacySettings {
    /// The file in which every private step is counted, over all runs.
    pub ledger: PathBuf,
    /// The bound on all of them together.
    pub budget: Budget,
    /// The field of the records by which those of one person belong together; without one every record stands alone.
    pub group_by: Option<String>,
    /// Most records of one person that a step reads.
    pub records_max: usize,
    /// Whether plans that train without privacy are declined; undecided, they are once the ledger counts anything.
    pub required: Option<bool>,
}

impl PrivacySettings {
    /// Says whether a plan that trains without privacy, and so is counted nowhere, is to be declined.
    ///
    /// # Errors
    /// [`LedgerError`] if that depends on the ledger and it cannot be read.
    pub fn declines_unprotected(&self) -> Result<bool, LedgerError> {
        match self.required {
            Some(required) => Ok(required),
            None => Ok(!Ledger::read(&self.ledger)?.entries().is_empty()),
        }
    }

    /// Takes another bound on the same data into account: of each number the smaller holds.
    ///
    /// # Errors
    /// [`PrivacyError`] if the bound makes no sense.
    pub fn bounded(mut self, (epsilon, delta): (f64, f64)) -> Result<Self, PrivacyError> {
        let (own_epsilon, own_delta) = (self.budget.epsilon(), self.budget.delta());
        self.budget = Budget::new(own_epsilon.min(epsilon), own_delta.min(delta))?;
        Ok(self)
    }
}
