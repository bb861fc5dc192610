//! What the participant's machine asks its owner to do, and how it can end.

use serde::{Deserialize, Serialize};

use crate::close::{CloseCode, RefusalReason, RunFailure};
use crate::ids::{Digest, Round, TransferId};
use crate::message::{Content, Metrics, ToServer, TransferHeader};
use crate::plan::SignedPlan;
use crate::secagg::{self, AttemptId};
use crate::text::Text;
use crate::transcript::Evidence;
use crate::violation::Violation;

/// One thing to do, in the order in which they are polled.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Open a connection to the server and answer with `handle_connected` or `handle_connect_failed`.
    Connect,
    /// Write a message to the control stream.
    Send(ToServer),
    /// Check signature, policy and base model, then answer with `accept_plan`, `decline` or `refuse_plan`.
    CheckPlan(SignedPlan),
    /// Train, and answer with `trained`. The steps count over the whole run, so that schedules span rounds.
    Train {
        /// The round.
        round: Round,
        /// The transfer whose bytes are the global adapter; the owner kept them.
        global: TransferHeader,
        /// Steps of the run that come before this round.
        first_step: u32,
        /// Steps to do.
        steps: u32,
    },
    /// Stop training for this round: nothing is wanted of it any more.
    StopTraining {
        /// The round.
        round: Round,
    },
    /// Send the update's bytes from the header's offset on.
    SendTransfer {
        /// The header; the owner has the bytes since `trained`, or on disk.
        header: TransferHeader,
    },
    /// Do this for an attempt at secure aggregation, and answer with `in_attempt` or `masked`.
    Secure {
        /// Which attempt.
        attempt: AttemptId,
        /// What to do.
        action: secagg::Action,
    },
    /// Make the final adapter durable: the server hears next that it arrived, and forgets about us.
    Keep {
        /// The transfer whose bytes it is; the owner kept them.
        adapter: TransferHeader,
    },
    /// Forget the bytes of this transfer: a superseded adapter, or an update that was counted or is not to be sent.
    Forget {
        /// The transfer.
        transfer: TransferId,
    },
    /// Stop sending this transfer if it is on its way, and forget its bytes: nobody waits for it any more.
    Withdraw {
        /// The transfer.
        transfer: TransferId,
    },
    /// Close the connection. The machine has already forgotten it: no `handle_disconnected` is needed.
    Close(CloseCode),
    /// Write this down so that it outlives this process, before any action that follows is performed.
    Remember(Evidence),
    /// Tell people. Nothing depends on it.
    Report(Report),
    /// This participant's run is over; nothing follows.
    End(Outcome),
}

/// What the owner is to do with the bytes of a transfer that arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Disposition {
    /// Keep them under their id until they are used or to be forgotten.
    Keep,
    /// Drop them.
    Drop,
}

/// Whether the owner has the anchor that the plan names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AnchorCopy {
    /// It has, and checked its digest.
    Held,
    /// It has not; the server is asked for it if the plan needs it.
    Missing,
}

/// An update that outlived the process, from the owner's disk.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Spooled {
    /// The plan it was trained under.
    pub plan: Digest,
    /// The round it was trained for.
    pub round: Round,
    /// SHA-256 of the global adapter it was trained from.
    pub global: Digest,
    /// Its bytes.
    pub update: Content,
    /// Its weight, in training examples.
    pub weight: u64,
    /// What is reported beside it.
    pub metrics: Metrics,
}

/// Something worth a line in the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// The update of this round is counted.
    Accepted {
        /// The round.
        round: Round,
    },
    /// The round goes on without this participant's update.
    Refused {
        /// The round.
        round: Round,
        /// Why.
        reason: RefusalReason,
    },
    /// The round went on without this participant's update, which may still count in a later one.
    Postponed {
        /// The round that it is for.
        round: Round,
        /// The last round in which it may count.
        until: Round,
    },
    /// The run went on to another round before it was heard what became of this participant's update.
    Unanswered {
        /// The round that it was for.
        round: Round,
    },
    /// The connection is gone, or could not be opened; another attempt follows.
    Reconnecting {
        /// Attempts since the server was last heard.
        attempt: u32,
    },
}

/// How a participant's run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The run is over and the final adapter is here.
    Finished {
        /// Rounds done.
        rounds: u32,
        /// The transfer whose bytes are the final adapter; the owner kept them.
        adapter: TransferHeader,
    },
    /// The server ended the run without an adapter.
    Failed {
        /// Why.
        reason: RunFailure,
        /// The same with its numbers.
        detail: Text,
    },
    /// The owner declined the plan.
    Declined,
    /// The owner left the run.
    Left,
    /// The server closed the connection for good.
    Closed(CloseCode),
    /// The server could not be reached for too long.
    ServerAway,
    /// The server broke the protocol.
    Violation(Violation),
}

impl Outcome {
    /// Whether trying again later, unchanged, can succeed: exit code 75.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Failed { reason, .. } => reason.is_temporary(),
            Self::Closed(code) => code.is_temporary(),
            Self::ServerAway => true,
            Self::Finished { .. } | Self::Declined | Self::Left | Self::Violation(_) => false,
        }
    }
}
