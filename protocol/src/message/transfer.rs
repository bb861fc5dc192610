//! The header that opens a bulk transfer, and the name of what it carries.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, ParticipantName, Round, TransferId};

/// Bulk bytes by length and digest.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Content {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the bytes.
    pub sha256: Digest,
}

impl Content {
    /// Names these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            sha256: Digest::of(bytes),
        }
    }
}

/// The first bytes of a content, as a transfer that broke off left them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Beginning {
    /// SHA-256 of the whole content.
    pub sha256: Digest,
    /// How many of its bytes are there.
    pub bytes: u64,
}

/// What a transfer carries.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum TransferKind {
    /// The anchor of EWC, from the server.
    Anchor,
    /// The adapter that a round starts from, from the server.
    GlobalAdapter,
    /// A participant's update.
    Update,
    /// The adapter after the last round, from the server.
    FinalAdapter,
}

impl TransferKind {
    /// The kind in words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Anchor => "anchor",
            Self::GlobalAdapter => "global-adapter",
            Self::Update => "update",
            Self::FinalAdapter => "final-adapter",
        }
    }
}

/// Opens a bulk stream: one frame, then the raw bytes from `offset` on.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TransferHeader {
    /// Names the transfer on every connection that carries a part of it.
    pub id: TransferId,
    /// What is carried.
    pub kind: TransferKind,
    /// The round it belongs to; the first for the anchor, the last for the final adapter.
    pub round: Round,
    /// The digest of the run plan.
    pub plan: Digest,
    /// Length of the whole content in bytes.
    pub bytes: u64,
    /// SHA-256 of the whole content.
    pub sha256: Digest,
    /// The first byte on this stream; the receiver holds those before it.
    pub offset: u64,
}

impl TransferHeader {
    /// The header of something that the server sends; the same for every participant.
    pub fn from_server(kind: TransferKind, round: Round, plan: Digest, content: Content) -> Self {
        Self::new(kind, round, plan, content, "")
    }

    /// The header of a participant's update.
    pub fn update(sender: &ParticipantName, round: Round, plan: Digest, content: Content) -> Self {
        Self::new(TransferKind::Update, round, plan, content, sender.as_str())
    }

    /// Length and digest of what is carried.
    pub fn content(&self) -> Content {
        Content {
            bytes: self.bytes,
            sha256: self.sha256,
        }
    }

    /// The same transfer, from this byte on.
    pub fn at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// Bytes that this stream carries after the header.
    pub fn remaining(&self) -> u64 {
        self.bytes.saturating_sub(self.offset)
    }

    fn new(kind: TransferKind, round: Round, plan: Digest, content: Content, sender: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"foedus/transfer/1");
        hash.update(kind.label());
        hash.update(round.0.to_le_bytes());
        hash.update(plan.0);
        hash.update(content.bytes.to_le_bytes());
        hash.update(content.sha256.0);
        hash.update(sender);
        let mut id = TransferId::default();
        id.0.copy_from_slice(&hash.finalize()[..16]);
        let Content { bytes, sha256 } = content;
        Self {
            id,
            kind,
            round,
            plan,
            bytes,
            sha256,
            offset: 0,
        }
    }
}
