//! The configuration as it is typed: one struct for each section of the TOML file, with its defaults.
//!
//! Nothing here has been checked beyond its type; [`Config`](super::Config) is the checked form and the only one that
//! the rest of the server sees. `server.example.toml` beside the manifest is this file for people, and a test holds the
//! two together.

mod cohort;
mod ewc;
mod secure_aggregation;
mod training;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::cohort::{AnyWord, RawCohort, RawLate, RawParticipants};
pub use self::ewc::{RawEwc, RawPlace};
pub use self::secure_aggregation::{RawRing, RawSecureAggregation, RawTrust};
pub use self::training::{RawSchedule, RawTraining};
use super::limits::RawLimits;
use super::metrics::RawMetrics;
use super::privacy::{RawParticipantPrivacy, RawPrivacy};
use super::strategy::RawStrategy;

/// The UDP port that a server listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 4433;

/// The whole file.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// The address and UDP port to listen on.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Who this server is. Required.
    pub identity: RawIdentity,
    /// What is to be run. Required.
    pub run: RawRun,
    /// How participants train.
    #[serde(default)]
    pub training: RawTraining,
    /// How updates become the next global adapter.
    #[serde(default)]
    pub strategy: RawStrategy,
    /// Who takes part, and how long is waited for whom.
    #[serde(default)]
    pub cohort: RawCohort,
    /// Anchoring against forgetting.
    #[serde(default)]
    pub ewc: RawEwc,
    /// Differential privacy of the participants' records.
    #[serde(default)]
    pub privacy: RawPrivacy,
    /// Differential privacy of the participants themselves.
    #[serde(default)]
    pub participant_privacy: RawParticipantPrivacy,
    /// Updates as fixed point in a ring.
    #[serde(default)]
    pub ring: RawRing,
    /// Masks on updates.
    #[serde(default)]
    pub secure_aggregation: RawSecureAggregation,
    /// What is accepted at most.
    #[serde(default)]
    pub limits: RawLimits,
    /// What monitoring may ask.
    #[serde(default)]
    pub metrics: RawMetrics,
    /// What is logged, and how.
    #[serde(default)]
    pub log: RawLog,
}

/// `[identity]`: the PEM files that make this process the federation's server. All are paths, never contents.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawIdentity {
    /// The server's certificate chain. Required.
    pub certificate: PathBuf,
    /// The server's private key. Required.
    pub key: PathBuf,
    /// The certificate of the federation's authority. Required.
    pub authority: PathBuf,
    /// The authority's revocation list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocations: Option<PathBuf>,
}

/// `[run]`: one training job.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawRun {
    /// The run's name. Required.
    pub name: String,
    /// The PEFT folder, with `foedus.json`, that the run starts from. Required.
    pub start: PathBuf,
    /// The folder under which the run's own folder is made.
    #[serde(default = "default_out")]
    pub out: PathBuf,
    /// How many rounds.
    #[serde(default = "default_rounds")]
    pub rounds: u32,
    /// The seed of everything that participants draw.
    #[serde(default)]
    pub seed: u64,
    /// In which form updates, and the adapters that rounds start from, travel.
    #[serde(default)]
    pub transfer: RawTransfer,
    /// How adapters come to participants.
    #[serde(default)]
    pub download: RawDownload,
    /// The fingerprint that the base model must have; the start folder's if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

impl RawRun {
    /// Makes the section with nothing but its required keys.
    pub(super) fn default_for(name: &str, start: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            start,
            out: default_out(),
            rounds: default_rounds(),
            seed: 0,
            transfer: RawTransfer::default(),
            download: RawDownload::default(),
            base: None,
        }
    }
}

/// The form in which values travel.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RawTransfer {
    /// Two bytes a value, each within 2^-8 of itself.
    #[default]
    Bf16,
    /// Four bytes a value, exactly.
    F32,
    /// Updates in about one byte a value; what rounding cuts off is in the next one. Adapters as with `bf16`.
    Int8,
}

/// How adapters come to participants.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RawDownload {
    /// Whole.
    #[default]
    Whole,
    /// As a difference against the one before, for those who have that.
    Delta,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT))
}

fn default_out() -> PathBuf {
    PathBuf::from("runs")
}

fn default_rounds() -> u32 {
    3
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// `[log]`: what is written to standard error.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLog {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`) or a filter such as `info,protocol=debug`.
    pub level: String,
    /// The form of the lines.
    pub format: LogFormat,
}

impl Default for RawLog {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}
