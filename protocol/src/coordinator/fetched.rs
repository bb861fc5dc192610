//! What one participant has had sent to it: adapters and the anchor, in a round's time.

use crate::ids::{ConnectionId, TransferId};

/// Bytes that were sent to one participant since a round was opened.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    /// Charged so far, transfers under way as if they came to their end.
    bytes: u64,
    /// Transfers that may still break off, and what each was charged.
    charged: Vec<(ConnectionId, TransferId, u64)>,
}

impl Fetched {
    /// Charges a transfer that is about to be sent; whether that is within `limit`.
    pub(super) fn begin(
        &mut self,
        connection: ConnectionId,
        transfer: TransferId,
        remaining: u64,
        limit: u64,
    ) -> bool {
        let bytes = self.bytes.saturating_add(remaining);
        let is_within = bytes <= limit;
        if is_within && 0 < remaining {
            self.bytes = bytes;
            self.charged.push((connection, transfer, remaining));
        }
        is_within
    }

    /// A transfer broke off: the bytes that never went out are not charged. Of an earlier round's time it says nothing.
    pub(super) fn break_off(
        &mut self,
        connection: ConnectionId,
        transfer: TransferId,
        unsent: u64,
    ) {
        let is_it =
            |&(on, id, _): &(ConnectionId, TransferId, u64)| (on, id) == (connection, transfer);
        if let Some(place) = self.charged.iter().position(is_it) {
            let (_, _, remaining) = self.charged.swap_remove(place);
            self.bytes = self.bytes.saturating_sub(unsent.min(remaining));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADAPTER: TransferId = TransferId([1; 16]);

    #[test]
    fn an_adapter_in_pieces_costs_what_went_out_and_one_taken_again_costs_it_again() {
        let mut fetched = Fetched::default();
        for piece in 0..10 {
            let remaining = 100 - 10 * piece;
            assert!(fetched.begin(ConnectionId(piece), ADAPTER, remaining, 100));
            fetched.break_off(ConnectionId(piece), ADAPTER, remaining - 10);
        }
        assert_eq!(fetched.bytes, 100);
        assert!(!fetched.begin(ConnectionId(10), ADAPTER, 1, 100));
        assert!(fetched.begin(ConnectionId(10), ADAPTER, 100, 200));
        assert_eq!(fetched.bytes, 200);
    }

    #[test]
    fn what_breaks_off_is_given_back_once_and_no_more_than_was_charged() {
        let (on, other) = (ConnectionId(1), ConnectionId(2));
        let mut fetched = Fetched::default();
        assert!(fetched.begin(on, ADAPTER, 100, 300));
        assert!(fetched.begin(other, ADAPTER, 100, 300));
        fetched.break_off(on, ADAPTER, 1000);
        fetched.break_off(on, ADAPTER, 1000);
        assert_eq!(fetched.bytes, 100);
        // One that was charged in an earlier round's time.
        let mut next = Fetched::default();
        assert!(next.begin(on, TransferId([2; 16]), 50, 300));
        next.break_off(other, ADAPTER, 100);
        assert_eq!(next.bytes, 50);
    }
}
