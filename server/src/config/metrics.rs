//! The section `[metrics]` as typed.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// `[metrics]`: what monitoring may ask of the server, over plain HTTP. Off unless an address is given.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawMetrics {
    /// The address and TCP port of `/metrics` and `/healthz`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}
