//! `[cohort]` as it is typed.

use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Serialize};

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
