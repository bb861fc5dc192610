//! `[ring]` and `[secure_aggregation]` as they are typed.

use serde::{Deserialize, Serialize};

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
