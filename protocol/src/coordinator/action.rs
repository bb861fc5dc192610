//! What the coordinator asks its owner to do, and what it tells about the run.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Entry;
use crate::close::{CloseCode, RefusalReason, RunFailure};
use crate::ids::{ConnectionId, Digest, ParticipantName, Round};
use crate::message::{Content, Metrics, ResendReason, ToClient, TransferHeader, TransferKind};
use crate::secagg::{AttemptId, Opening};
use crate::text::Text;
use crate::violation::Violation;

/// One thing to do. Actions are to be done in the order in which they are polled, those for different connections in any.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write this down so that it outlives a crash, before any action that follows is performed.
    Record(Entry),
    /// Write a message to the control stream.
    Send {
        /// Where to.
        connection: ConnectionId,
        /// What.
        message: ToClient,
    },
    /// Send bulk bytes: the anchor, an adapter or the delta of one, by the header's kind.
    SendTransfer {
        /// Where to.
        connection: ConnectionId,
        /// The header; the bytes are those that the owner announced as [`Content`].
        header: TransferHeader,
    },
    /// Close a connection, after what was sent before has been given a chance to leave. The coordinator has
    /// already forgotten it: no `handle_disconnected` is needed.
    Close {
        /// Which.
        connection: ConnectionId,
        /// The code for the peer.
        code: CloseCode,
        /// The rule that the peer broke, for the log.
        violation: Option<Violation>,
    },
    /// Form the next global adapter from what was folded, put the round on record, and answer with
    /// [`round_aggregated`](super::Coordinator::round_aggregated).
    Aggregate {
        /// What the round came to.
        summary: RoundSummary,
    },
    /// Begin the round's sum anew: what was folded for an earlier attempt does not count.
    BeginSum {
        /// The attempt that begins.
        attempt: AttemptId,
    },
    /// Take the masks off the sum; [`Action::Aggregate`] follows. If it cannot be done, answer that with
    /// [`sum_not_opened`](super::Coordinator::sum_not_opened): the round may be open again then.
    OpenSum(Box<Opening>),
    /// Tell people. Nothing depends on it.
    Report(Report),
    /// The run is over; nothing follows but the closing of stray connections.
    End(Outcome),
}

/// An update that the owner is to check and fold, once. It must be answered with
/// [`handle_update_accepted`](super::Coordinator::handle_update_accepted) or
/// [`handle_update_refused`](super::Coordinator::handle_update_refused).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Admission {
    /// Whose update.
    pub participant: ParticipantName,
    /// The round it would count in.
    pub round: Round,
    /// Its weight, in training examples; between 1 and the plan's limit.
    pub weight: u64,
    /// What was reported beside it.
    pub metrics: Metrics,
    /// The transfer's header.
    pub transfer: TransferHeader,
}

/// What a round came to.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundSummary {
    /// The round.
    pub round: Round,
    /// When it was opened.
    pub opened_at: Instant,
    /// When it was closed.
    pub closed_at: Instant,
    /// Updates counted, by name.
    pub accepted: Vec<AcceptedUpdate>,
    /// Participants refused in this round, by name.
    pub refused: Vec<(ParticipantName, RefusalReason)>,
    /// Participants that were asked or named in the plan and neither counted nor refused, by name.
    pub missing: Vec<ParticipantName>,
}

/// One update that was counted.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptedUpdate {
    /// Whose.
    pub participant: ParticipantName,
    /// Its weight, in training examples.
    pub weight: u64,
    /// Length of its bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// What was reported beside it.
    pub metrics: Metrics,
    /// Rounds between the one it was trained for and the one it counts in.
    pub rounds_late: u32,
}

/// Something worth a line in the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// A participant agreed to the plan.
    Joined {
        /// Who.
        participant: ParticipantName,
        /// Its program and version.
        software: Text,
    },
    /// A participant's connection is gone; it may come back.
    Disconnected {
        /// Who.
        participant: ParticipantName,
    },
    /// A participant refused the plan.
    Declined {
        /// Who.
        participant: ParticipantName,
        /// Why, in its words.
        reason: Text,
    },
    /// A participant left the run.
    Left {
        /// Who.
        participant: ParticipantName,
        /// Why, in its words.
        reason: Text,
    },
    /// A participant showed no progress for the stall limit and was closed.
    Stalled {
        /// Who.
        participant: ParticipantName,
    },
    /// A round was opened.
    RoundOpened {
        /// The round.
        round: Round,
        /// Who was asked at once.
        asked: Vec<ParticipantName>,
    },
    /// A participant did more steps.
    Progress {
        /// Who.
        participant: ParticipantName,
        /// In which round.
        round: Round,
        /// Steps done.
        step: u32,
        /// Steps to do.
        steps: u32,
    },
    /// An update was counted.
    Accepted {
        /// Whose.
        participant: ParticipantName,
        /// The round.
        round: Round,
    },
    /// An update was refused.
    Refused {
        /// Whose.
        participant: ParticipantName,
        /// The round that the update was for.
        round: Round,
        /// Why.
        reason: RefusalReason,
    },
    /// An attempt at secure aggregation began.
    AttemptBegan {
        /// Which.
        attempt: AttemptId,
        /// Among whom.
        members: Vec<ParticipantName>,
    },
    /// An attempt at secure aggregation begins without a participant that would be in it.
    LeftOut {
        /// Which attempt.
        attempt: AttemptId,
        /// Who.
        participant: ParticipantName,
        /// Attempts of the round that came to nothing over it.
        failures: u32,
    },
    /// The certificate behind a participant's connection is over, and the connection was closed.
    Expired {
        /// Who.
        participant: ParticipantName,
    },
    /// An attempt at secure aggregation came to nothing; another follows if enough are there.
    AttemptFailed {
        /// Which.
        attempt: AttemptId,
        /// Why.
        reason: Text,
    },
    /// A round was closed without an update that may still count in a later one.
    Postponed {
        /// Whose.
        participant: ParticipantName,
        /// The round that it is trained for.
        round: Round,
        /// The last round in which it may count.
        until: Round,
    },
    /// A participant asked once more for what was sent as a delta, or not from its first byte; it follows whole.
    Resending {
        /// To whom.
        participant: ParticipantName,
        /// The round that it belongs to.
        round: Round,
        /// What is sent.
        kind: TransferKind,
        /// Why it was asked for.
        reason: ResendReason,
    },
    /// The soft deadline passed while the quorum was not met: the round waits on.
    QuorumMissing {
        /// The round.
        round: Round,
        /// Updates counted so far.
        accepted: u32,
        /// Updates needed.
        quorum: u32,
    },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All rounds were done.
    Finished {
        /// Rounds done.
        rounds: u32,
        /// The final adapter.
        adapter: Content,
    },
    /// The run failed.
    Failed {
        /// Why.
        reason: RunFailure,
        /// The same with its numbers.
        detail: Text,
    },
}
