//! What a participant brings into an attempt, what its machine asks for, and what outlives it.

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, ParticipantName};
use crate::plan::CheckedPlan;
use crate::secagg::Deceit;
use crate::secagg::message::{AttemptId, ForServer, Sealed};
use crate::secagg::roster::{MemberId, RosterEntry};
use crate::secagg::statement::Verify;

/// What a participant brings into an attempt.
#[derive(Clone, Debug)]
pub struct MemberSetup {
    /// Its name.
    pub name: ParticipantName,
    /// The Ed25519 key of its certificate.
    pub public_key: [u8; 32],
    /// The run's plan.
    pub plan: CheckedPlan,
    /// SHA-256 of the global adapter that it trained from, as it was received.
    pub model: Digest,
    /// What it opened before in this round, from its disk.
    pub earlier: Option<Earlier>,
    /// Checks signatures.
    pub verify: Verify,
}

/// A sum that a participant helped to open. It outlives the process.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Earlier {
    /// Of which run.
    pub plan: Digest,
    /// In which attempt.
    pub attempt: AttemptId,
    /// Whose updates are in it.
    pub delivered: Vec<ParticipantName>,
}

/// A roster that we do not go on with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unfit {
    /// A certificate is out of its time by our clock, or revoked by our list: the server's may be another.
    Disputed {
        /// Whose: the place in the roster, from 1.
        member: MemberId,
    },
    /// The server lies.
    Deceit(Deceit),
}

/// One thing to do, in the order in which they are polled.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Check these certificates against the federation's authority and answer with
    /// [`Member::roster_checked`](super::Member::roster_checked).
    CheckRoster(Vec<RosterEntry>),
    /// Draw fresh keys and answer with [`Member::advertised`](super::Member::advertised).
    Advertise {
        /// What the attempt is about.
        context: Digest,
        /// Our number.
        own: MemberId,
    },
    /// Split both secrets, seal the shares of others, keep our own, and answer with [`Member::shared`](super::Member::shared).
    Share {
        /// The digest of all keys.
        keys: Digest,
        /// Shares that give a secret back.
        threshold: u32,
        /// Who gets the shares at places 1, 2, ... and for which sealing key; we are among them.
        places: Vec<(MemberId, [u8; 32])>,
    },
    /// Open and keep the shares, mask the update against these masking keys, and answer with [`Member::masked`](super::Member::masked) or
    /// [`Member::object`](super::Member::object).
    Mask {
        /// From our neighbours.
        shares: Vec<Sealed>,
        /// The masking keys of the same.
        peers: Vec<(MemberId, [u8; 32])>,
    },
    /// Sign this and answer with [`Member::confirmed`](super::Member::confirmed).
    Confirm {
        /// The bytes to sign.
        statement: Vec<u8>,
    },
    /// Write this down so that it outlives a crash, before the action that follows.
    Record(Earlier),
    /// Answer with [`Member::revealed`](super::Member::revealed): shares of the mask seeds of those that delivered, and of the
    /// masking keys of those that dropped out. No member is in both lists.
    Reveal {
        /// Whose seed shares to reveal; we are among them.
        delivered: Vec<MemberId>,
        /// Whose key shares to reveal.
        dropped: Vec<MemberId>,
    },
    /// Say this to the server.
    Send(ForServer),
}
