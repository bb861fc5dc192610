//! What it means that a transfer did not come to its end.

use std::time::Duration;

use protocol::close::{CloseCode, RefusalReason};
use protocol::quic::TransferFault;
use thiserror::Error;

/// Why an update is not received to its end.
#[derive(Debug, Error)]
pub(super) enum Stop {
    #[error("{0}")]
    Fault(TransferFault),
    /// It stands still, or trickles, and the coordinator has not ended its connection.
    #[error("it made no progress for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// Its round is over for its sender: it was refused, or the round closed over it.
    #[error("its sender was told that it is refused")]
    Refused,
}

impl Stop {
    /// What its sender is told, if we end it.
    pub(super) fn code(&self) -> Option<CloseCode> {
        match self {
            // The transport has told it.
            Self::Fault(_) => None,
            Self::Stalled(_) => Some(CloseCode::Stalled),
            Self::Refused => Some(CloseCode::BadTransfer),
        }
    }
}

/// What kept a transfer from its end.
pub(super) enum Ending {
    /// The connection is gone and may come back, or nobody waits for the rest.
    Lost,
    /// The sender broke it off; the bytes so far may be right.
    Cut,
    /// The sender broke a rule.
    Spoiled(RefusalReason),
}

pub(super) fn ending(stop: &Stop) -> Ending {
    let fault = match stop {
        Stop::Fault(fault) => fault,
        Stop::Stalled(_) => return Ending::Cut,
        Stop::Refused => return Ending::Lost,
    };
    match fault {
        TransferFault::Closed(_) => Ending::Lost,
        TransferFault::Abandoned | TransferFault::TooShort { .. } => Ending::Cut,
        TransferFault::WrongDigest => Ending::Spoiled(RefusalReason::WrongDigest),
        TransferFault::TooLarge { .. } | TransferFault::TooLong { .. } => {
            Ending::Spoiled(RefusalReason::WrongSize)
        }
        TransferFault::Announcement { .. }
        | TransferFault::Header { .. }
        | TransferFault::Offset { .. }
        | TransferFault::Refused(_) => Ending::Spoiled(RefusalReason::WrongTransfer),
    }
}
