//! What was handed over to be sent to one peer and is not with it: what its participant is not charged when the connection breaks.

use std::sync::{Arc, Mutex, PoisonError};

use protocol::TransferId;
use protocol::message::TransferHeader;

/// Shared by the driver's end of a session, which hands transfers over, and the tasks that send them.
#[derive(Clone, Debug, Default)]
pub(super) struct Unsent(Arc<Mutex<Vec<Transfer>>>);

#[derive(Debug)]
struct Transfer {
    id: TransferId,
    /// Bytes that it has to bring.
    remaining: u64,
    /// Bytes that had left on the connection when it was handed over.
    left_before: u64,
}

impl Unsent {
    /// A transfer is handed over, when so many bytes have left on the connection.
    pub(super) fn begin(&self, header: &TransferHeader, left_before: u64) {
        let transfer = Transfer {
            id: header.id,
            remaining: header.remaining(),
            left_before,
        };
        self.change(|transfers| transfers.push(transfer));
    }

    /// The peer has all of it.
    pub(super) fn end(&self, id: TransferId) {
        self.change(|transfers| {
            if let Some(place) = transfers.iter().position(|transfer| transfer.id == id) {
                transfers.swap_remove(place);
            }
        });
    }

    /// The transfers that never came to their end, and how many bytes of each cannot have left, of `left` in all.
    ///
    /// What left beside a transfer counts as its own: two at a time are charged more than they brought, and never less.
    pub(super) fn take(&self, left: u64) -> Vec<(TransferId, u64)> {
        let transfers = self.change(std::mem::take);
        let unsent = |transfer: Transfer| {
            let left_since = left.saturating_sub(transfer.left_before);
            (transfer.id, transfer.remaining.saturating_sub(left_since))
        };
        transfers.into_iter().map(unsent).collect()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Transfer>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use protocol::message::{Content, TransferKind};
    use protocol::{Digest, Round};

    use super::*;

    #[test]
    fn what_never_left_is_told_and_what_arrived_is_not() {
        let header = |byte: u8| {
            let sha256 = Digest([byte; 32]);
            let content = Content { sha256, bytes: 100 };
            let kind = TransferKind::GlobalAdapter;
            TransferHeader::from_server(kind, Round(1), Digest([9; 32]), content)
        };
        let (whole, part, none) = (header(1), header(2).at(40), header(3));
        let unsent = Unsent::default();
        unsent.begin(&whole, 0);
        unsent.end(whole.id);
        unsent.begin(&part, 120);
        unsent.begin(&none, 1000);
        // 20 of the 60 bytes that were wanted, and more than 100 beside the third.
        assert_eq!(unsent.take(140), [(part.id, 40), (none.id, 100)]);
        assert_eq!(unsent.take(140), []);
    }
}
