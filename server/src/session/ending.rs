//! What it means that a transfer did not come to its end.

use protocol::close::RefusalReason;
use protocol::quic::TransferFault;

/// What kept a transfer from its end.
pub(super) enum Ending {
    /// The connection is gone and may come back.
    Lost,
    /// The sender broke it off; the bytes so far may be right.
    Cut,
    /// The sender broke a rule.
    Spoiled(RefusalReason),
}

pub(super) fn ending(fault: &TransferFault) -> Ending {
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
