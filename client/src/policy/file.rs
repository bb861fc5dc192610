//! The policy as typed: TOML with units in values, unknown keys refused, and the line of every rule kept for refusals.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use protocol::{
    Digest,
    plan::{PrivacyUnit, StrategyPlan},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use toml::Spanned;

use super::{Rule, SitePolicy, hours::OpeningHours};
use crate::config::{Bytes, ConfigError, place};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    #[serde(default)]
    server: RawServer,
    model: RawModel,
    training: RawTraining,
    cohort: RawCohort,
    egress: RawEgress,
    secure_aggregation: RawSecureAggregation,
    #[serde(default)]
    privacy: Option<RawPrivacy>,
    #[serde(default)]
    participant_privacy: Option<RawParticipantPrivacy>,
    #[serde(default)]
    hours: Option<Spanned<OpeningHours>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawServer {
    certificate: Option<Spanned<Sha256>>,
    tell_violations: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    bases: Spanned<Vec<Sha256>>,
    target_modules: Spanned<Vec<String>>,
    rank_max: Spanned<NonZeroU32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTraining {
    rounds_max: Spanned<NonZeroU32>,
    local_steps_max: Spanned<NonZeroU32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCohort {
    min: Spanned<NonZeroU32>,
    #[serde(default)]
    strategies: Option<Spanned<Vec<Strategy>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEgress {
    round_max: Spanned<Bytes>,
    day_max: Spanned<Bytes>,
    metrics: Spanned<Vec<Metric>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSecureAggregation {
    required: Spanned<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPrivacy {
    epsilon_run_max: Spanned<Epsilon>,
    delta_run_max: Spanned<Delta>,
    epsilon_lifetime_max: Spanned<Epsilon>,
    delta_lifetime_max: Spanned<Delta>,
    #[serde(default)]
    unit: Option<Spanned<Unit>>,
    #[serde(default)]
    ledger: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawParticipantPrivacy {
    epsilon_run_max: Spanned<Epsilon>,
    delta_run_max: Spanned<Delta>,
}

/// A number about a round that may leave beside the update.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Metric {
    /// Training examples used, in the clear. A masked update carries it inside the mask.
    Weight,
    /// The mean training loss.
    TrainLoss,
}

/// The bounds of differential privacy; having them means that a run without it is refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PrivacyRules {
    pub(super) epsilon_run_max: Rule<f64>,
    pub(super) delta_run_max: Rule<f64>,
    pub(super) epsilon_lifetime_max: Rule<f64>,
    pub(super) delta_lifetime_max: Rule<f64>,
    /// What must be protected as a whole, if it matters.
    pub(super) unit: Option<Rule<PrivacyUnit>>,
    /// Where all private training on the site's data is counted, whatever its files are called.
    pub(super) ledger: Option<PathBuf>,
}

/// The bounds of privacy of whole participants; having them means that a run without it is refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ParticipantPrivacyRules {
    pub(super) epsilon_run_max: Rule<f64>,
    pub(super) delta_run_max: Rule<f64>,
}

impl SitePolicy {
    /// Checks the text of a policy file that was read from `path`.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`] with line and column.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let raw: RawPolicy = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            what: place(text, &error),
        })?;
        Ok(Lines(text).policy(raw, path.to_owned()))
    }
}

/// Finds the lines of the values in the text.
struct Lines<'a>(&'a str);

impl Lines<'_> {
    fn rule<T, U>(&self, spanned: Spanned<T>, plain: impl FnOnce(T) -> U) -> Rule<U> {
        let before = self.0.get(..spanned.span().start).unwrap_or(self.0);
        Rule {
            line: before.matches('\n').count() + 1,
            value: plain(spanned.into_inner()),
        }
    }

    fn policy(&self, raw: RawPolicy, path: PathBuf) -> SitePolicy {
        let RawPolicy {
            server,
            model,
            training,
            egress,
            ..
        } = raw;
        let names = |list: Vec<Strategy>| list.into_iter().map(|Strategy(name)| name).collect();
        let digests = |list: Vec<Sha256>| list.into_iter().map(|Sha256(digest)| digest).collect();
        SitePolicy {
            path,
            server_certificate: server
                .certificate
                .map(|written| self.rule(written, |Sha256(digest)| digest)),
            tell_server: server.tell_violations,
            bases: self.rule(model.bases, digests),
            target_modules: self.rule(model.target_modules, |names| names),
            rank_max: self.rule(model.rank_max, NonZeroU32::get),
            rounds_max: self.rule(training.rounds_max, NonZeroU32::get),
            local_steps_max: self.rule(training.local_steps_max, NonZeroU32::get),
            cohort_min: self.rule(raw.cohort.min, NonZeroU32::get),
            strategies: raw
                .cohort
                .strategies
                .map(|written| self.rule(written, names)),
            round_bytes_max: self.rule(egress.round_max, |Bytes(bytes)| bytes),
            day_bytes_max: self.rule(egress.day_max, |Bytes(bytes)| bytes),
            metrics: self.rule(egress.metrics, |names| names),
            secure_aggregation_required: self
                .rule(raw.secure_aggregation.required, |required| required),
            privacy: raw.privacy.map(|written| PrivacyRules {
                epsilon_run_max: self.rule(written.epsilon_run_max, |Epsilon(value)| value),
                delta_run_max: self.rule(written.delta_run_max, |Delta(value)| value),
                epsilon_lifetime_max: self
                    .rule(written.epsilon_lifetime_max, |Epsilon(value)| value),
                delta_lifetime_max: self.rule(written.delta_lifetime_max, |Delta(value)| value),
                unit: written.unit.map(|unit| self.rule(unit, Unit::plain)),
                ledger: written.ledger,
            }),
            participant_privacy: raw
                .participant_privacy
                .map(|written| ParticipantPrivacyRules {
                    epsilon_run_max: self.rule(written.epsilon_run_max, |Epsilon(value)| value),
                    delta_run_max: self.rule(written.delta_run_max, |Delta(value)| value),
                }),
            hours: raw.hours.map(|hours| self.rule(hours, |hours| hours)),
        }
    }
}

/// A SHA-256 as `foedus-certs show` and `foedus-client adapter show` write it.
#[derive(Debug)]
struct Sha256(Digest);

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refused = || {
            D::Error::custom(format!(
                "{text:?} is no SHA-256: write its 64 hexadecimal digits"
            ))
        };
        text.parse().map(Self).map_err(|_| refused())
    }
}

/// The name of a rule by which updates are merged.
#[derive(Debug)]
struct Strategy(String);

impl<'de> Deserialize<'de> for Strategy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if StrategyPlan::NAMES.contains(&name.as_str()) {
            return Ok(Self(name));
        }
        let known = StrategyPlan::NAMES.join(", ");
        Err(D::Error::custom(format!(
            "{name:?} is no rule for updates: there are {known}"
        )))
    }
}

/// What is protected as a whole, as server.toml and plans name it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    Record,
    Group,
}

impl Unit {
    fn plain(self) -> PrivacyUnit {
        match self {
            Self::Record => PrivacyUnit::Record,
            Self::Group => PrivacyUnit::Group,
        }
    }
}

/// A finite bound above zero.
#[derive(Debug)]
struct Epsilon(f64);

impl<'de> Deserialize<'de> for Epsilon {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        if value.is_finite() && 0.0 < value {
            return Ok(Self(value));
        }
        Err(D::Error::custom(format!(
            "{value} is no epsilon: it must be a finite number above 0"
        )))
    }
}

/// A probability strictly between zero and one.
#[derive(Debug)]
struct Delta(f64);

impl<'de> Deserialize<'de> for Delta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        if 0.0 < value && value < 1.0 {
            return Ok(Self(value));
        }
        Err(D::Error::custom(format!(
            "{value} is no delta: it must be above 0 and below 1"
        )))
    }
}
