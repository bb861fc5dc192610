//! The institution's own file: what it lets a run plan ask, whoever wrote the plan. It wins over every plan.
//!
//! [`SitePolicy::read`] takes the file apart, [`SitePolicy::check`] compares a plan with it and names every line that the plan
//! breaks, before the base model is looked at and before anything is computed. What it does not do: it trusts the plan to be
//! carried out as written by our own program, which has no message type for anything else ([`protocol::message`]).
//! `deploy/policy.example.toml` explains every key.

mod file;
mod hours;
mod noise;
mod refusal;
mod rules;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod tests;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use protocol::{
    Digest,
    plan::{PrivacyUnit, RunPlan},
};

pub use self::refusal::{PolicyViolation, Refusal};
use self::{
    file::{Metric, ParticipantPrivacyRules, PrivacyRules},
    hours::OpeningHours,
    refusal::Found,
};
use crate::config::ConfigError;

/// What one institution lets a run plan ask.
#[derive(Clone, Debug, PartialEq)]
pub struct SitePolicy {
    path: PathBuf,
    server_certificate: Option<Rule<Digest>>,
    tell_server: bool,
    bases: Rule<Vec<Digest>>,
    target_modules: Rule<Vec<String>>,
    rank_max: Rule<u32>,
    rounds_max: Rule<u32>,
    local_steps_max: Rule<u32>,
    cohort_min: Rule<u32>,
    strategies: Option<Rule<Vec<String>>>,
    round_bytes_max: Rule<u64>,
    day_bytes_max: Rule<u64>,
    metrics: Rule<Vec<Metric>>,
    secure_aggregation_required: Rule<bool>,
    privacy: Option<PrivacyRules>,
    participant_privacy: Option<ParticipantPrivacyRules>,
    hours: Option<Rule<OpeningHours>>,
}

/// A value of the file and the line that it stands on.
#[derive(Clone, Debug, PartialEq)]
struct Rule<T> {
    value: T,
    line: usize,
}

/// What a plan is judged by beside the policy: who signed it, the hour, and what the site has already sent.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// SHA-256 of the server's certificate.
    pub server_certificate: Digest,
    /// Now.
    pub now: Timestamp,
    /// Bytes that left in the 24 hours before now, as the egress ledger has them.
    pub day_bytes: u64,
}

impl SitePolicy {
    /// Reads and checks a policy file.
    ///
    /// # Errors
    /// [`ConfigError`] with the file, line and column.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Compares a plan with the policy.
    ///
    /// # Errors
    /// [`Refusal`] names every line of the policy that the plan breaks.
    pub fn check(&self, plan: &RunPlan, circumstances: &Circumstances) -> Result<(), Refusal> {
        self.refuse_if(self.found_in(plan, circumstances))
    }

    /// Compares the certificate of a server, by its SHA-256, with the one that the policy names.
    ///
    /// # Errors
    /// [`Refusal`] if it is another one.
    pub fn check_server(&self, fingerprint: Digest) -> Result<(), Refusal> {
        self.refuse_if(self.found_in_server(fingerprint))
    }

    /// Decides whether `bytes` more may leave in a round that `round_bytes` have left in.
    ///
    /// # Errors
    /// [`Refusal`] if the round's or the day's bytes would be exceeded, or the site is closed.
    pub fn check_transfer(
        &self,
        bytes: u64,
        round_bytes: u64,
        circumstances: &Circumstances,
    ) -> Result<(), Refusal> {
        self.refuse_if(self.found_in_transfer(bytes, round_bytes, circumstances))
    }

    /// Says whether the mean training loss of a round may leave, and on which line that is decided.
    pub fn shares_train_loss(&self) -> (bool, usize) {
        let Rule { value, line } = &self.metrics;
        (value.contains(&Metric::TrainLoss), *line)
    }

    /// The epsilon and delta that all private training on the site's data may come to, if the policy bounds them.
    pub fn lifetime_privacy(&self) -> Option<(f64, f64)> {
        let rules = self.privacy.as_ref()?;
        let (epsilon, delta) = (&rules.epsilon_lifetime_max, &rules.delta_lifetime_max);
        Some((epsilon.value, delta.value))
    }

    /// The bounds on what one run may cost the records: epsilon and delta, each with its line.
    pub fn of_run(&self) -> Option<[(f64, usize); 2]> {
        let rules = self.privacy.as_ref()?;
        let bounds = [&rules.epsilon_run_max, &rules.delta_run_max];
        Some(bounds.map(|rule| (rule.value, rule.line)))
    }

    /// The ledger in which all private training on the site's data is counted, if the policy names it. Relative to the policy's file.
    pub fn privacy_ledger(&self) -> Option<PathBuf> {
        let ledger = self.privacy.as_ref()?.ledger.as_ref()?;
        Some(
            self.path
                .parent()
                .unwrap_or_else(|| Path::new(""))
                .join(ledger),
        )
    }

    /// The bounds on what everything together may cost the records: epsilon and delta, each with its line.
    pub fn lifetime(&self) -> Option<[(f64, usize); 2]> {
        let rules = self.privacy.as_ref()?;
        let bounds = [&rules.epsilon_lifetime_max, &rules.delta_lifetime_max];
        Some(bounds.map(|rule| (rule.value, rule.line)))
    }

    /// The line on which the policy wants all records of a person protected together, if it does.
    pub fn wants_groups(&self) -> Option<usize> {
        let rule = self.privacy.as_ref()?.unit.as_ref()?;
        (rule.value == PrivacyUnit::Group).then_some(rule.line)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn refuse_if(&self, found: Vec<Found>) -> Result<(), Refusal> {
        if found.is_empty() {
            return Ok(());
        }
        Err(Refusal::new(&self.path, self.tell_server, found))
    }
}
