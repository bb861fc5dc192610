//! What one training may spend, and the moment in which it is spent.

use std::{
    fs,
    path::{Path, PathBuf},
};

use aggregation::privacy::{Budget, Cost, PrivacyError, SampledGaussian, steps_within};
use protocol::Digest;

use super::{
    PrivacySettings,
    ledger::{Entry, Ledger, LedgerError, failed},
};

/// One training's claim on a site's budget.
#[derive(Clone, Debug)]
pub struct Account {
    ledger: PathBuf,
    budget: Budget,
    run: RunBudget,
    spending: Spending,
}

/// What the training is, and what it alone may cost.
#[derive(Clone, Debug, PartialEq)]
pub struct RunBudget {
    /// The run's name, or "train".
    pub purpose: String,
    /// The digest of the run's plan; all zeros for a training alone.
    pub training: Digest,
    /// The bound that the plan sets on the run, beside the site's own on everything.
    pub limit: Option<Budget>,
}

impl RunBudget {
    /// A training without a federation: nothing but the site's own budget bounds it.
    pub fn alone() -> Self {
        Self {
            purpose: "train".to_owned(),
            training: NO_PLAN,
            limit: None,
        }
    }
}

/// What each of its steps is.
#[derive(Clone, Debug, PartialEq)]
pub struct Spending {
    /// SHA-256 of the data.
    pub data: Digest,
    /// "record", or the field by which records are grouped.
    pub unit: String,
    /// How many there are.
    pub units: u64,
    /// Sampling rate and noise.
    pub step: SampledGaussian,
}

/// Private training that may not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Numbers that make no sense.
    #[error(transparent)]
    Privacy(#[from] PrivacyError),
    /// The next steps would cost too much.
    #[error(
        "this site's privacy budget forbids the training: {asked} more private steps would bring epsilon to {epsilon:.3} at delta {}, over {whose} of {}; {left} steps are left \
         (E_DP_BUDGET): train fewer steps or with more noise (`foedus-client privacy plan` says which)",
        budget.delta(), budget.epsilon()
    )]
    Exhausted {
        /// Steps asked for.
        asked: u64,
        /// What they would bring epsilon to.
        epsilon: f64,
        /// Whose budget it is.
        whose: &'static str,
        /// The budget.
        budget: Budget,
        /// Steps that it still allows.
        left: u64,
    },
    /// Earlier training protected something else.
    #[error(
        "the privacy ledger {} counts what was spent by {found}, this training would count by {asked}: the two do not add up; use the \
         same unit, or data and a ledger of their own", path.display()
    )]
    OtherUnit {
        /// The ledger.
        path: PathBuf,
        /// Its unit.
        found: String,
        /// The training's.
        asked: String,
    },
    /// Two ledgers count the same records, each only a part of what was spent.
    #[error(
        "the records in {} are counted in more than one privacy ledger: {}; nobody can tell what was spent on them altogether: name one of \
         them as `ledger` under [privacy], with a budget that leaves out what the others have spent",
        data.display(), names(ledgers)
    )]
    ManyLedgers {
        /// The data.
        data: PathBuf,
        /// The ledgers.
        ledgers: Vec<PathBuf>,
    },
    /// Updates have left, and the steps behind them are not in the ledger.
    #[error(
        "the privacy ledger {} does not count {what}, by the egress ledger: it was taken away or put back from a backup, or is another one; \
         put the newest one in its place, or what was spent would be given back", path.display()
    )]
    Forgotten {
        /// The ledger.
        path: PathBuf,
        /// What it does not count.
        what: String,
    },
    /// Delta promises nothing for so many units.
    #[error(
        "delta is {delta}, but with {units} units it must be at most one over their number ({:.1e}): otherwise giving away a few of \
         them whole would count as private", 1.0 / *units as f64
    )]
    Delta {
        /// The delta.
        delta: f64,
        /// Units that there are.
        units: u64,
    },
}

fn names(files: &[PathBuf]) -> String {
    let names: Vec<_> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    names.join(", ")
}

impl Account {
    /// Opens a training's account and checks that its ledger can be used at all.
    ///
    /// # Errors
    /// [`BudgetError`].
    pub fn open(
        settings: &PrivacySettings,
        run: RunBudget,
        spending: Spending,
    ) -> Result<Self, BudgetError> {
        let deltas = [Some(settings.budget), run.limit].into_iter().flatten();
        for delta in deltas.map(|budget| budget.delta()) {
            if delta * spending.units as f64 > 1.0 {
                let units = spending.units;
                return Err(BudgetError::Delta { delta, units });
            }
        }
        let account = Self {
            ledger: settings.ledger.clone(),
            budget: settings.budget,
            run,
            spending,
        };
        account.check_unit(&Ledger::read(&account.ledger)?)?;
        Ok(account)
    }

    /// Gives the ledger's file.
    pub fn ledger(&self) -> &Path {
        &self.ledger
    }

    /// Gives the site's budget.
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// Gives what each step is.
    pub fn step(&self) -> SampledGaussian {
        self.spending.step
    }

    /// Gives what everything so far has cost, at the delta of the site's budget.
    ///
    /// # Errors
    /// [`BudgetError`] if the ledger cannot be read.
    pub fn cost(&self) -> Result<Cost, BudgetError> {
        let all = Ledger::read(&self.ledger)?.accountant(|_| true)?;
        Ok(all.cost(self.budget.delta()))
    }

    /// Gives how many of these steps the budgets still allow.
    ///
    /// # Errors
    /// [`BudgetError`] if the ledger cannot be read.
    pub fn steps_left(&self, wanted: u64) -> Result<u64, BudgetError> {
        self.allowed(&Ledger::read(&self.ledger)?, wanted)
    }

    /// Refuses a training whose steps, those already counted for it left out, do not fit into the budgets.
    ///
    /// # Errors
    /// [`BudgetError::Exhausted`], or the ledger's trouble.
    pub fn check(&self, total_steps: u64) -> Result<(), BudgetError> {
        let ledger = Ledger::read(&self.ledger)?;
        let counted = ledger
            .entries()
            .iter()
            .filter(|entry| self.is_ours(entry) && !entry.again);
        let counted = counted.fold(0_u64, |sum, entry| sum.saturating_add(entry.steps));
        self.refuse_over(&ledger, total_steps.saturating_sub(counted))
    }

    /// Refuses steps that do not fit into the budgets any more.
    ///
    /// # Errors
    /// As [`Account::check`].
    pub fn check_next(&self, steps: u64) -> Result<(), BudgetError> {
        self.refuse_over(&Ledger::read(&self.ledger)?, steps)
    }

    /// Counts steps before they are done, on the disk.
    ///
    /// Steps that were counted before and are done anew, because the process that counted them ended, count again: nobody can
    /// show that nothing of the first attempt got out.
    ///
    /// # Errors
    /// [`BudgetError`]; nothing was counted then and nothing may be trained.
    pub fn spend(&self, first_step: u64, steps: u64) -> Result<Cost, BudgetError> {
        let lock = self.lock()?;
        let mut ledger = Ledger::read(&self.ledger)?;
        self.check_unit(&ledger)?;
        self.refuse_over(&ledger, steps)?;
        let overlaps = |entry: &&Entry| {
            self.is_ours(entry)
                && entry.first_step < first_step.saturating_add(steps)
                && first_step < entry.first_step.saturating_add(entry.steps)
        };
        let again =
            self.run.training != NO_PLAN && ledger.entries().iter().any(|entry| overlaps(&entry));
        if again {
            tracing::warn!(
                first_step, steps, ledger = %self.ledger.display(),
                "private steps are done anew after an interruption, with fresh noise; they count again"
            );
        }
        self.warn_of_other_data(&ledger);
        ledger.append(&self.ledger, self.entry(first_step, steps, again))?;
        // Others may read on from here; a lock is given up with its file.
        drop(lock);
        let cost = ledger.accountant(|_| true)?.cost(self.budget.delta());
        tracing::info!(
            steps,
            epsilon = cost.epsilon,
            delta = self.budget.delta(),
            "private steps counted"
        );
        Ok(cost)
    }

    fn entry(&self, first_step: u64, steps: u64, again: bool) -> Entry {
        let Spending {
            data,
            unit,
            units,
            step,
        } = &self.spending;
        Entry {
            at: jiff::Timestamp::now(),
            purpose: self.run.purpose.clone(),
            training: self.run.training,
            data: *data,
            unit: unit.clone(),
            units: *units,
            sampling_rate: step.sampling_rate(),
            noise_multiplier: step.noise_multiplier(),
            first_step,
            steps,
            again,
        }
    }

    fn is_ours(&self, entry: &Entry) -> bool {
        entry.training == self.run.training
    }

    /// The budgets, each with what counts toward it.
    fn allowed(&self, ledger: &Ledger, wanted: u64) -> Result<u64, BudgetError> {
        let all = ledger.accountant(|_| true)?;
        let mut allowed = steps_within(self.budget, self.spending.step, &all, wanted);
        if let Some(limit) = self.run.limit {
            let ours = ledger.accountant(|entry| self.is_ours(entry))?;
            allowed = allowed.min(steps_within(limit, self.spending.step, &ours, wanted));
        }
        Ok(allowed)
    }

    fn refuse_over(&self, ledger: &Ledger, steps: u64) -> Result<(), BudgetError> {
        let all = ledger.accountant(|_| true)?;
        let ours = ledger.accountant(|entry| self.is_ours(entry))?;
        let budgets = [
            Some((
                all,
                self.budget,
                "this site's budget for all training on the data",
            )),
            self.run
                .limit
                .map(|limit| (ours, limit, "the run plan's limit")),
        ];
        for (spent, budget, whose) in budgets.into_iter().flatten() {
            let after = spent.with(self.spending.step, steps);
            if steps > 0 && !after.is_within(budget) {
                return Err(BudgetError::Exhausted {
                    asked: steps,
                    epsilon: after.cost(budget.delta()).epsilon,
                    whose,
                    budget,
                    left: self.allowed(ledger, steps)?,
                });
            }
        }
        Ok(())
    }

    fn check_unit(&self, ledger: &Ledger) -> Result<(), BudgetError> {
        let other = ledger
            .entries()
            .iter()
            .find(|entry| entry.unit != self.spending.unit);
        match other {
            Some(other) => Err(BudgetError::OtherUnit {
                path: self.ledger.clone(),
                found: other.unit.clone(),
                asked: self.spending.unit.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Old records may still be in the new file, so what was spent on them still counts.
    fn warn_of_other_data(&self, ledger: &Ledger) {
        if let Some(last) = ledger.entries().last()
            && last.data != self.spending.data
        {
            tracing::warn!(
                ledger = %self.ledger.display(),
                "the data has changed since the last private training; what was spent before still counts"
            );
        }
    }

    /// Keeps other processes of this site from counting at the same moment.
    fn lock(&self) -> Result<fs::File, LedgerError> {
        let path = self.ledger.with_added_extension("lock");
        let open = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let file = fs::File::options().create(true).append(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(failed("lock", &path))
    }
}

/// What stands for a plan's digest where there is no plan.
const NO_PLAN: Digest = Digest([0; 32]);
