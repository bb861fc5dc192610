//! The authority's memory: one JSON line for each certificate it has signed.

use jiff::Timestamp;
use protocol::identity::Identity;
use serde::{Deserialize, Serialize};

/// One certificate that was issued.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// The serial number in hexadecimal.
    pub serial: String,
    /// Whom it names.
    pub identity: Identity,
    /// When it was signed.
    pub issued: Timestamp,
    /// The end of its validity.
    pub expires: Timestamp,
    /// When it was revoked, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
}

/// Writes the index, one line each, oldest first.
pub(crate) fn to_lines(issued: &[Issued]) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    for entry in issued {
        text.push_str(&serde_json::to_string(entry)?);
        text.push('\n');
    }
    Ok(text)
}

/// Reads the index; the error names the line.
pub(crate) fn from_lines(text: &str) -> Result<Vec<Issued>, String> {
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| format!("line {}: {error}", index + 1))
        })
        .collect()
}
