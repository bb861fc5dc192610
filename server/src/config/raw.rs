//! The configuration as it is typed: one struct per section of the TOML file, with its defaults.
//!
//! Nothing here has been checked beyond its type; [`Config`](super::Config) is the checked form and the only one that
//! the rest of the server sees. `server.example.toml` beside the manifest is this file for people, and a test holds the
//! two together.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Serialize};

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

/// How the learning rate runs over the whole run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RawSchedule {
    /// The same rate throughout.
    Constant,
    /// Falls in a straight line to zero.
    Linear,
    /// Falls along half a cosine to zero.
    Cosine,
}

/// `[training]`: what every participant does in a round. Part of the signed plan.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTraining {
    /// Optimizer steps in a round.
    pub local_steps: u32,
    /// Examples in one micro-batch.
    pub batch_examples: u32,
    /// Micro-batches in one optimizer step.
    pub accumulation: u32,
    /// Longest example in tokens.
    pub max_tokens: u32,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Steps of linear warm-up at the start of the run.
    pub warmup_steps: u32,
    /// Course of the rate after the warm-up, over all rounds together.
    pub schedule: RawSchedule,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of one step's mean gradient.
    pub clip_norm: f64,
}

impl Default for RawTraining {
    fn default() -> Self {
        Self {
            local_steps: 20,
            batch_examples: 4,
            accumulation: 1,
            max_tokens: 512,
            learning_rate: 2e-4,
            warmup_steps: 0,
            schedule: RawSchedule::Linear,
            weight_decay: 0.0,
            clip_norm: 1.0,
        }
    }
}

/// Who may take part.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(
    untagged,
    expecting = "expected the word \"any\" or a list of participant names"
)]
pub enum RawParticipants {
    /// These names only.
    Listed(Vec<String>),
    /// The word `any`: everybody who holds a participant's certificate of the federation.
    Word(AnyWord),
}

/// The one word that stands for everybody.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AnyWord {
    /// `any`.
    Any,
}

/// `[cohort]`: who takes part in a round, and how long is waited.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawCohort {
    /// `"any"` or a list of names.
    pub participants: RawParticipants,
    /// How many must deliver for a round to count.
    pub quorum: u32,
    /// How long a round waits for everybody; then the quorum is enough.
    #[serde(with = "duration")]
    pub soft_deadline: Duration,
    /// How long a round waits at all; without a quorum the run fails then.
    #[serde(with = "duration")]
    pub hard_deadline: Duration,
    /// How long a participant may show no progress before it is given up.
    #[serde(with = "duration")]
    pub stall_limit: Duration,
    /// How long the run waits for the whole cohort to join; then a quorum starts it.
    #[serde(with = "duration")]
    pub join_deadline: Duration,
    /// Participants asked in a round, by lot; all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select: Option<u32>,
    /// Updates at which a round closes without waiting for more; all that were asked if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enough: Option<u32>,
    /// What becomes of an update that is not there when its round closes.
    pub late: RawLate,
    /// Rounds by which an update may be late, if late ones count at all.
    pub late_rounds_max: u32,
}

/// What becomes of an update that is not there when its round closes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawLate {
    /// It is refused.
    #[default]
    Refuse,
    /// It counts in a later round.
    LaterRound,
}

impl Default for RawCohort {
    fn default() -> Self {
        Self {
            participants: RawParticipants::Word(AnyWord::Any),
            quorum: 2,
            soft_deadline: Duration::from_secs(30 * 60),
            hard_deadline: Duration::from_secs(2 * 3600),
            stall_limit: Duration::from_secs(5 * 60),
            join_deadline: Duration::from_secs(10 * 60),
            select: None,
            enough: None,
            late: RawLate::default(),
            late_rounds_max: 1,
        }
    }
}

/// Which side takes the EWC step.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RawPlace {
    /// After each optimizer step of each participant.
    Client,
    /// Once a round, on the merged adapter.
    Server,
}

/// `[ewc]`: pulls the merged model toward what the base model knew.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawEwc {
    /// Whether any of this is used.
    pub enabled: bool,
    /// Strength, in nats of general-text divergence per token.
    pub lambda: f64,
    /// Which side takes the step.
    pub place: RawPlace,
    /// The anchor made by `foedus-client fisher`; required when enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<PathBuf>,
}

impl Default for RawEwc {
    fn default() -> Self {
        Self {
            enabled: false,
            lambda: 0.3,
            place: RawPlace::Client,
            anchor: None,
        }
    }
}

/// `[ring]`: updates travel as fixed point in a ring of integers and are summed in it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawRing {
    /// Whether updates travel so without masks too; with secure aggregation they always do.
    pub enabled: bool,
    /// The ring's width: 16, 24 or 32.
    pub bits: u32,
    /// Largest magnitude of one value of an update; what is beyond is cut off there.
    pub value_max: f64,
}

impl Default for RawRing {
    fn default() -> Self {
        Self {
            enabled: false,
            bits: 32,
            value_max: 0.25,
        }
    }
}

/// What is assumed of this server.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawTrust {
    /// Nothing.
    Malicious,
    /// It follows the protocol and looks at what it gets.
    HonestButCurious,
}

/// `[secure_aggregation]`: participants mask their updates, and the server reads their sum only.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSecureAggregation {
    /// Whether any of this is used.
    pub enabled: bool,
    /// A participant helps to open no sum of fewer updates.
    pub cohort_min: u32,
    /// Against which server sums of few are protected.
    pub trust: RawTrust,
}

impl Default for RawSecureAggregation {
    fn default() -> Self {
        Self {
            enabled: false,
            cohort_min: 3,
            trust: RawTrust::Malicious,
        }
    }
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
