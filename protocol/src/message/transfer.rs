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
    /// The adapter that a round starts from, against the one before, from the server.
    GlobalDelta,
    /// The adapter after the last round, against the one that the last round started from, from the server.
    FinalDelta,
}

impl TransferKind {
    /// The kind in words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Anchor => "anchor",
            Self::GlobalAdapter => "global-adapter",
            Self::Update => "update",
            Self::FinalAdapter => "final-adapter",
            Self::GlobalDelta => "global-delta",
            Self::FinalDelta => "final-delta",
        }
    }

    /// Whether an adapter is to be rebuilt from it.
    pub fn is_delta(self) -> bool {
        self.rebuilt().is_some()
    }

    /// What is rebuilt from it, if it is a delta.
    pub fn rebuilt(self) -> Option<Self> {
        match self {
            Self::GlobalDelta => Some(Self::GlobalAdapter),
            Self::FinalDelta => Some(Self::FinalAdapter),
            Self::Anchor | Self::GlobalAdapter | Self::Update | Self::FinalAdapter => None,
        }
    }

    /// The delta of it, if there are deltas of it.
    pub fn delta(self) -> Option<Self> {
        match self {
            Self::GlobalAdapter => Some(Self::GlobalDelta),
            Self::FinalAdapter => Some(Self::FinalDelta),
            Self::Anchor | Self::Update | Self::GlobalDelta | Self::FinalDelta => None,
        }
    }
}

/// Why a participant asks for a transfer once more.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ResendReason {
    /// The whole has another digest: the beginning that Ready listed was damaged.
    Damaged,
    /// The adapter that the delta is against is not there.
    NoBase,
    /// The adapter that the delta is against was damaged.
    BaseDamaged,
    /// The delta is no delta of its base, or comes to another adapter than it says.
    BadDelta,
}

impl ResendReason {
    /// The reason in words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::NoBase => "no-base",
            Self::BaseDamaged => "base-damaged",
            Self::BadDelta => "bad-delta",
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

    /// The transfer of this adapter as a delta with this content, if there are deltas of it.
    pub fn delta(&self, content: Content) -> Option<Self> {
        let kind = self.kind.delta()?;
        Some(Self::from_server(kind, self.round, self.plan, content))
    }

    /// The transfer of the adapter with this content, as if it had come whole, if this one is a delta.
    pub fn rebuilt(&self, adapter: Content) -> Option<Self> {
        let kind = self.kind.rebuilt()?;
        Some(Self::from_server(kind, self.round, self.plan, adapter))
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
