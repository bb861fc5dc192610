//! `[ewc]` as it is typed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
