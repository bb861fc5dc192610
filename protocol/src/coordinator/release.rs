//! What a round came to, in the forms in which it can be sent.

use crate::ids::Digest;
use crate::message::Content;

/// The adapter that a round came to, as it travels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Release {
    /// The adapter itself.
    pub adapter: Content,
    /// The same against the one before, if the plan has deltas and there is one that is shorter.
    pub delta: Option<Delta>,
}

/// An adapter against the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delta {
    /// SHA-256 of the adapter that it is against, as that travelled.
    pub base: Digest,
    /// The delta's own bytes.
    pub content: Content,
}

impl Release {
    /// An adapter that is sent whole.
    pub fn whole(adapter: Content) -> Self {
        let delta = None;
        Self { adapter, delta }
    }
}
