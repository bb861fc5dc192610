//! What a run tells whoever started it: events as they happen, and the outcome.
//!
//! Tests, the simulator and the progress bar listen here; nothing in the run depends on who listens. The same events
//! are written to the log, in `narrate`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use aggregation::Adapter;
use protocol::close::{CloseCode, RefusalReason, RunFailure};
use protocol::message::{ResendReason, TransferKind};
use protocol::secagg::AttemptId;
use protocol::{Digest, ParticipantName, Round, RunId};

use crate::record::RoundRecord;

/// Listens to a run.
///
/// Called from the task that drives the run: an observer that takes long delays everybody.
pub trait Observer: Send + Sync {
    /// Takes note of an event.
    fn observe(&self, event: &RunEvent);
}

impl<F: Fn(&RunEvent) + Send + Sync> Observer for F {
    fn observe(&self, event: &RunEvent) {
        self(event);
    }
}

/// Something that happened in a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RunEvent {
    /// The server listens, and participants may connect.
    Listening {
        /// Where, with the real port.
        address: SocketAddr,
        /// The run.
        run: RunId,
        /// The digest of its plan.
        plan: Digest,
        /// Rounds planned.
        rounds: u32,
    },
    /// The run goes on from what an earlier process of it wrote down.
    Resumed {
        /// The round that is open, or the next.
        round: Round,
        /// Updates that count in it already.
        accepted: usize,
        /// Whether it is open, so that updates are waited for.
        is_open: bool,
    },
    /// Certificates or the revocation list were replaced and are in use.
    IdentityReloaded {
        /// The serial number of our certificate, in hexadecimal.
        serial: String,
        /// When the first of our certificate and the authority's ends.
        expires: SystemTime,
        /// When the authority promised a newer revocation list.
        revocations_due: Option<SystemTime>,
    },
    /// They were replaced by something that cannot be used; those from before stay in use.
    IdentityKept {
        /// Why.
        reason: String,
    },
    /// A peer was not let in.
    HandshakeRejected {
        /// Who its certificate claims to be, and where it is.
        peer: String,
        /// A constant name of the reason.
        label: &'static str,
        /// The whole sentence.
        reason: String,
        /// How many were not let in: one, unless they were turned away unseen.
        count: u64,
    },
    /// A participant proved who it is, and has a connection until it is [`RunEvent::Disconnected`].
    Connected {
        /// Who.
        participant: ParticipantName,
        /// When its certificate ends.
        expires: SystemTime,
    },
    /// An authenticated participant was turned away or cut off.
    Closed {
        /// Who.
        participant: ParticipantName,
        /// With which code.
        code: CloseCode,
        /// The rule that it broke, if any.
        violation: Option<String>,
    },
    /// A participant agreed to the plan.
    Joined {
        /// Who.
        participant: ParticipantName,
        /// Its program and version.
        software: String,
    },
    /// A participant's connection is gone.
    Disconnected {
        /// Who.
        participant: ParticipantName,
        /// How, as far as the transport knows.
        how: String,
    },
    /// A participant refused the plan.
    Declined {
        /// Who.
        participant: ParticipantName,
        /// Why, in its words.
        reason: String,
    },
    /// A participant left the run.
    Left {
        /// Who.
        participant: ParticipantName,
        /// Why, in its words.
        reason: String,
    },
    /// A participant made no progress for the stall limit.
    Stalled {
        /// Who.
        participant: ParticipantName,
    },
    /// A participant asked once more for what was sent as a delta, or not from its first byte; it is sent whole.
    Resending {
        /// To whom.
        participant: ParticipantName,
        /// For which round.
        round: Round,
        /// What.
        kind: TransferKind,
        /// Why.
        reason: ResendReason,
    },
    /// A round was opened.
    RoundOpened {
        /// The round.
        round: Round,
        /// Who was asked.
        asked: Vec<ParticipantName>,
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
        reason: String,
    },
    /// A participant trained on.
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
    /// Bytes of an update arrived.
    Receiving {
        /// Whose.
        participant: ParticipantName,
        /// Bytes so far.
        received: u64,
        /// Bytes in all.
        total: u64,
    },
    /// An update counts.
    Accepted {
        /// Whose.
        participant: ParticipantName,
        /// In which round.
        round: Round,
    },
    /// An update was refused; the round goes on.
    Refused {
        /// Whose.
        participant: ParticipantName,
        /// For which round.
        round: Round,
        /// Why.
        reason: RefusalReason,
        /// What exactly was found, if the update was looked into.
        detail: Option<String>,
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
    /// The soft deadline passed without a quorum: the round waits on.
    QuorumMissing {
        /// The round.
        round: Round,
        /// Updates counted.
        accepted: u32,
        /// Updates needed.
        quorum: u32,
    },
    /// A round takes no more updates; the next adapter is formed from those it has.
    RoundClosed {
        /// The round.
        round: Round,
        /// Updates counted.
        accepted: usize,
    },
    /// Contents of transfers came in whole or in part, or were handed over to be sent.
    Transferred {
        /// Bytes received.
        received: u64,
        /// Bytes sent.
        sent: u64,
    },
    /// A round is complete: its adapter is on disk, or its updates are until it is.
    RoundFinished(Box<RoundRecord>),
    /// The run is complete.
    Finished {
        /// Rounds done.
        rounds: u32,
        /// SHA-256 of the final adapter's values.
        adapter: Digest,
    },
    /// The server cannot go on by a fault of its own or of its disk; the end of the run follows.
    Broken {
        /// What happened.
        what: String,
    },
    /// The run ended without its last adapter.
    Failed {
        /// Why.
        reason: RunFailure,
        /// Why, with numbers.
        detail: String,
    },
}

/// A run that was completed.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// The run.
    pub run: RunId,
    /// The digest of its plan.
    pub plan: Digest,
    /// One record a round, as in `rounds.jsonl`.
    pub records: Vec<RoundRecord>,
    /// The final adapter.
    pub adapter: Adapter,
    /// SHA-256 of its values as little-endian f32.
    pub adapter_sha256: Digest,
    /// The PEFT folder it was written to.
    pub adapter_folder: PathBuf,
    /// Bulk bytes received, refused ones included.
    pub bytes_up: u64,
    /// Bulk bytes sent, the final adapter included.
    pub bytes_down: u64,
    /// From the start of serving to the end of the run.
    pub seconds: f64,
}
