//! Everything that can be said: the messages of the control stream and the header of a bulk transfer.
//!
//! What has no message type here does not leave a site: an update's bytes, its weight, the metrics of `message/metrics.rs`, the steps
//! done, reasons, which contents and records are here already, whole or begun, by their digests, and what secure aggregation needs
//! (`secagg`). The order and meaning of the messages are in `docs/protocol.md`.

mod metrics;
mod transfer;

use serde::{Deserialize, Serialize};

pub use metrics::Metrics;
pub use transfer::{Beginning, Content, ResendReason, TransferHeader, TransferKind};

use crate::close::{RefusalReason, RunFailure};
use crate::ids::{Digest, Round, TransferId};
use crate::plan::SignedPlan;
use crate::secagg::{AttemptId, ForMember, ForServer};
use crate::text::Text;
use crate::transcript::Excerpt;

/// What a participant says to the server.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum ToServer {
    /// The first message of every connection.
    Hello {
        /// [`PROTOCOL_VERSION`] of the sender.
        version: u32,
        /// Program and version, for the log.
        software: Text,
        /// What the sender can do beyond the version's minimum.
        capabilities: Capabilities,
    },
    /// Agrees to the run plan.
    Ready {
        /// The digest of the plan agreed to.
        plan: Digest,
        /// Contents that need not be sent again: the anchor, and the global adapter being worked from. At most
        /// [`HOLDS_MAX`].
        holds: Vec<Digest>,
        /// Contents of which the first bytes are here: a transfer of one goes on behind them. An adapter that is here whole may be
        /// the base of a delta. At most [`HOLDS_MAX`].
        begun: Vec<Beginning>,
        /// The last round of whose record it has an excerpt; those after it are wanted.
        recorded: Round,
    },
    /// Refuses the run plan. The participant takes no part in the run.
    Decline {
        /// The digest of the plan refused.
        plan: Digest,
        /// Why, in words that the site allows to leave.
        reason: Text,
    },
    /// Says that training goes on. Only a larger step than before counts as progress.
    Progress {
        /// The round trained for.
        round: Round,
        /// Optimizer steps done in this round.
        step: u32,
        /// Optimizer steps that the round has.
        steps: u32,
    },
    /// Offers an update; the bytes follow after [`ToClient::Deliver`].
    Offer {
        /// The transfer to come; its offset is 0.
        transfer: TransferHeader,
        /// Training examples used.
        weight: u64,
        /// What else the plan lets a participant report.
        metrics: Metrics,
    },
    /// Confirms that a transfer arrived whole and with the announced digest.
    Received {
        /// The transfer.
        transfer: TransferId,
    },
    /// Leaves the run.
    Leave {
        /// Why, in words that the site allows to leave.
        reason: Text,
    },
    /// Has an update for the round that is to be summed with others before anybody sees it. Nothing of it is said.
    Trained {
        /// The round.
        round: Round,
        /// What the plan lets a participant report.
        metrics: Metrics,
    },
    /// Says something in an attempt at secure aggregation.
    Secure {
        /// Which attempt.
        attempt: AttemptId,
        /// What.
        message: ForServer,
    },
    /// Asks once more for a transfer, from its first byte: the beginning that [`ToServer::Ready`] listed was damaged. Of a delta,
    /// asks for the whole adapter.
    Resend {
        /// The transfer.
        transfer: TransferId,
        /// Why.
        reason: ResendReason,
    },
}

impl ToServer {
    /// The message's name, for logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "Hello",
            Self::Ready { .. } => "Ready",
            Self::Decline { .. } => "Decline",
            Self::Progress { .. } => "Progress",
            Self::Offer { .. } => "Offer",
            Self::Received { .. } => "Received",
            Self::Resend { .. } => "Resend",
            Self::Leave { .. } => "Leave",
            Self::Trained { .. } => "Trained",
            Self::Secure { message, .. } => message.name(),
        }
    }
}

/// What the server says to a participant.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum ToClient {
    /// Answers [`ToServer::Hello`].
    Welcome {
        /// [`PROTOCOL_VERSION`] of the server.
        version: u32,
        /// Program and version, for the log.
        software: Text,
        /// The run plan under the server's signature.
        plan: SignedPlan,
    },
    /// What a round came to. One for each round that is done, in order and before anything that builds on it.
    Recorded(Box<Excerpt>),
    /// Asks for an update in this round.
    Train {
        /// The transfer of the round's global adapter: its round and plan are those of the request, its offset is 0.
        /// The bytes follow, from where [`ToServer::Ready`] says that they are missing, unless they are held whole.
        global: TransferHeader,
    },
    /// Asks for the bytes of an offered update.
    Deliver {
        /// The offered transfer.
        transfer: TransferId,
        /// The first byte to send; those before it are already held.
        offset: u64,
    },
    /// The update is counted, once. The participant may forget it.
    Accepted {
        /// The round it counts in.
        round: Round,
    },
    /// The round goes on without an update of this participant.
    Refused {
        /// The round.
        round: Round,
        /// Why.
        reason: RefusalReason,
    },
    /// The run is over; the bytes of the final adapter follow.
    Finished {
        /// Rounds done.
        rounds: u32,
        /// The transfer of the final adapter.
        adapter: TransferHeader,
    },
    /// The run ended without a final adapter.
    Failed {
        /// Why.
        reason: RunFailure,
        /// The same with its numbers.
        detail: Text,
    },
    /// Says something in an attempt at secure aggregation.
    Secure {
        /// Which attempt.
        attempt: AttemptId,
        /// What.
        message: ForMember,
    },
    /// The round was closed without this participant's update, which may still count in a later one: go on with it.
    Postponed {
        /// The round.
        round: Round,
        /// The last round in which the update may count.
        until: Round,
    },
}

impl ToClient {
    /// The message's name, for logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Welcome { .. } => "Welcome",
            Self::Recorded(_) => "Recorded",
            Self::Train { .. } => "Train",
            Self::Deliver { .. } => "Deliver",
            Self::Accepted { .. } => "Accepted",
            Self::Refused { .. } => "Refused",
            Self::Finished { .. } => "Finished",
            Self::Failed { .. } => "Failed",
            Self::Secure { message, .. } => message.name(),
            Self::Postponed { .. } => "Postponed",
        }
    }
}

/// What a side can do beyond the minimum of the protocol version: one bit each.
///
/// Bits that the receiver does not know are ignored, so that a newer side can say more without a new version.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Nothing beyond the minimum.
    pub const NONE: Self = Self(0);
    /// Keeps an unacknowledged update on disk and offers it again after a restart.
    pub const SPOOL: Self = Self(1);

    /// Whether all of the other's bits are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The version that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// The most items that each list of [`ToServer::Ready`] may have.
pub const HOLDS_MAX: usize = 8;
