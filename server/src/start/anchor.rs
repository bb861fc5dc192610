//! The anchor of EWC that a run has, read and bound to its adapter.

use aggregation::ewc::{Anchor, BoundAnchor};
use bytes::Bytes;
use protocol::plan::ANCHOR_BYTES_MAX;

use super::error::StartError;
use super::folder::{StartFolder, read};
use crate::config::Config;

/// An anchor and the bytes in which it goes to participants.
#[derive(Clone, Debug)]
pub(crate) struct LoadedAnchor {
    pub(crate) bytes: Bytes,
    pub(crate) bound: BoundAnchor,
    /// Mean length of the examples it was made from, in tokens.
    pub(crate) example_tokens: f64,
}

pub(super) fn load_anchor(
    config: &Config,
    folder: &StartFolder,
) -> Result<Option<LoadedAnchor>, StartError> {
    let Some(ewc) = &config.ewc else {
        return Ok(None);
    };
    let path = &ewc.anchor;
    let bytes = read(path, ANCHOR_BYTES_MAX)?;
    let bad = |source| StartError::Anchor {
        path: path.clone(),
        source,
    };
    let anchor = Anchor::from_bytes(&bytes).map_err(bad)?;
    let fingerprint = &folder.sidecar.base_fingerprint;
    let bound = anchor
        .bind(folder.adapter.layout(), fingerprint)
        .map_err(bad)?;
    let example_tokens = anchor.tokens as f64 / anchor.examples.max(1) as f64;
    Ok(Some(LoadedAnchor {
        bytes: bytes.into(),
        bound,
        example_tokens,
    }))
}
