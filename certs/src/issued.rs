//! The authority's memory: one JSON line for each certificate it has signed.

use jiff::Timestamp;
use protocol::identity::Identity;
use rcgen::PublicKeyData;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::error::IssueError;

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
    /// The SHA-256 of its key (the DER of SubjectPublicKeyInfo, RFC 5280, section 4.1) in hexadecimal; none in what was issued
    /// before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// When it was revoked, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
}

impl Issued {
    /// Says what cannot be worked with: neither could be compared, and a revocation would be missed.
    pub(crate) fn fault(&self) -> Option<String> {
        if !hex::decode(&self.serial).is_ok_and(|serial| !serial.is_empty()) {
            return Some(format!("the serial number {:?}", self.serial));
        }
        let key = self.key.as_ref()?;
        let digest = key.len() == 64 && key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (!digest).then(|| format!("{key:?} in the place of a key's SHA-256"))
    }
}

/// Returns what the index has of a key.
pub(crate) fn key_digest(key: &impl PublicKeyData) -> String {
    hex::encode(digest(&SHA256, &key.subject_public_key_info()))
}

/// Refuses a key of which a certificate was revoked, whoever comes with it: others may hold it.
pub(crate) fn refuse_revoked(all: &[Issued], key: &impl PublicKeyData) -> Result<(), IssueError> {
    let key = key_digest(key);
    let mut earlier = all.iter().filter(|entry| entry.key.as_ref() == Some(&key));
    match earlier.find_map(|entry| Some((entry, entry.revoked?))) {
        None => Ok(()),
        Some((entry, revoked)) => Err(IssueError::RevokedKey {
            serial: entry.serial.clone(),
            identity: Box::new(entry.identity.clone()),
            revoked,
        }),
    }
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
