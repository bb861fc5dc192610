//! What private training means on one site's records: units, sampling rate, and the account that counts its steps.

use std::path::Path;

use aggregation::privacy::{Accountant, Budget, SampledGaussian, noise_within};
use finetune::{
    data::Dataset,
    privacy::{DpSgd, NoiseSource, Units, sampling_rate},
};
use protocol::Digest;

use super::{
    Account, BudgetError, Ledger, LedgerError, PrivacySettings, RunBudget, Spending, ledger::failed,
};
use crate::error::ClientError;

/// The numbers of DP-SGD that do not depend on a site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// Largest norm of a unit's gradient.
    pub clip_norm: f64,
    /// Standard deviation of the noise over it.
    pub noise_multiplier: f64,
    /// Units that a step is to read on average; a site with fewer reads all of its own.
    pub expected_units: f64,
}

/// Private training on one data set.
#[derive(Clone, Debug)]
pub struct PrivateTerms {
    noise: Noise,
    units: Units,
    /// Where the steps are counted.
    pub account: Account,
}

impl PrivateTerms {
    /// Finds the units of a data set and opens the account.
    ///
    /// `file` is what the data set was read from. What was spent is kept by the digest of its bytes, and not of its tokens, which
    /// follow from the plan.
    ///
    /// # Errors
    /// [`ClientError::Data`] if a record does not say which group it belongs to, [`ClientError::Budget`].
    pub fn new(
        settings: &PrivacySettings,
        run: RunBudget,
        dataset: &Dataset,
        file: Option<&Path>,
        noise: Noise,
    ) -> Result<Self, ClientError> {
        let units = units(settings, dataset, file)?;
        let expected_units = noise.expected_units.min(units.count() as f64);
        let rate = sampling_rate(expected_units, units.count());
        let step = SampledGaussian::new(rate, noise.noise_multiplier).map_err(BudgetError::from)?;
        let spending = Spending {
            data: file
                .map_or(Ok(Digest(dataset.digest)), digest)
                .map_err(BudgetError::from)?,
            unit: settings
                .group_by
                .clone()
                .unwrap_or_else(|| "record".to_owned()),
            units: units.count() as u64,
            step,
        };
        Ok(Self {
            noise: Noise {
                expected_units,
                ..noise
            },
            units,
            account: Account::open(settings, run, spending)?,
        })
    }

    /// Gives what the trainer needs, with fresh randomness from the operating system.
    ///
    /// # Errors
    /// [`ClientError::NoRandomness`].
    pub fn steps(&self) -> Result<DpSgd, ClientError> {
        let Noise {
            clip_norm,
            noise_multiplier,
            expected_units,
        } = self.noise;
        Ok(DpSgd {
            clip_norm,
            noise_multiplier,
            expected_units,
            units: self.units.clone(),
            random: NoiseSource::from_system()?,
        })
    }
}

/// How much more noise than on data of which nothing was spent is still a training and not a random walk.
const NOISE_GROWTH_MOST: f64 = 4.0;

/// Gives the noise with which so many steps stay within a site's budget together with all that was spent before, and alone within what a
/// run may cost, if that is bounded.
///
/// # Errors
/// As [`PrivateTerms::new`], and [`ClientError::Spent`] if what was spent leaves room for steps of next to nothing but noise.
pub fn noise_for(
    settings: &PrivacySettings,
    of_run: Option<Budget>,
    dataset: &Dataset,
    file: &Path,
    (expected_units, steps): (f64, u64),
) -> Result<f64, ClientError> {
    let units = units(settings, dataset, Some(file))?.count();
    let ledger = Ledger::read(&settings.ledger).map_err(BudgetError::from)?;
    let spent = ledger.accountant(|_| true).map_err(BudgetError::from)?;
    let rate = sampling_rate(expected_units, units);
    let within = |budget: Budget, spent: &Accountant| {
        noise_within(budget, rate, steps, spent).map_err(BudgetError::from)
    };
    let nothing = Accountant::default();
    let alone = of_run.map(|most| within(most, &nothing)).transpose()?;
    let least = alone.unwrap_or(0.0);
    let noise = within(settings.budget, &spent)?.max(least);
    let unspent = within(settings.budget, &nothing)?.max(least);
    if NOISE_GROWTH_MOST * unspent < noise {
        return Err(ClientError::Spent {
            ledger: settings.ledger.clone(),
            epsilon: settings.budget.epsilon(),
            noise,
            unspent,
        });
    }
    Ok(noise)
}

fn units(
    settings: &PrivacySettings,
    dataset: &Dataset,
    file: Option<&Path>,
) -> Result<Units, ClientError> {
    match (&settings.group_by, file) {
        (None, _) => Ok(Units::records(dataset)),
        (Some(field), Some(file)) => Ok(Units::groups(dataset, file, field, settings.records_max)?),
        (Some(_), None) => Err(ClientError::Internal {
            what: "records without a file have no field to be grouped by".to_owned(),
        }),
    }
}

/// SHA-256 of a file's bytes.
pub(super) fn digest(file: &Path) -> Result<Digest, LedgerError> {
    let bytes = std::fs::read(file).map_err(failed("read the data for", file))?;
    Ok(Digest::of(&bytes))
}
