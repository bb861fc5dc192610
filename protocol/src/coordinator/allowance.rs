//! What one participant may ask of the server: connections, messages, bytes, attempts.
//!
//! Accounts are kept by name and not by connection, so that reconnecting wins nothing. A message that moves the round on
//! costs nothing, so an honest participant, however fast, does not come near a limit. The limits protect the server and
//! are nothing that participants agree on; they are not in the plan.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::fetched::Fetched;
use crate::ids::{ConnectionId, ParticipantName, TransferId};
use crate::violation::Breach;

/// What one participant may ask of the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Allowance {
    /// Connections a minute; so many may come at once after a quiet minute.
    pub connections_per_minute: u32,
    /// Messages a minute that move nothing on. Each round begins with all of them.
    pub messages_per_minute: u32,
    /// Bytes of updates in a round, as a multiple of one update: the whole one, and what broken connections cost.
    pub uploads_per_round: u32,
    /// Bytes of adapters and the anchor in a round, as a multiple of one of each: what broken connections cost, and a lost disk.
    pub downloads_per_round: u32,
    /// Times that a participant may stall in a round or break off a delivery without losing its connection.
    pub interruptions_per_round: u32,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            connections_per_minute: 30,
            messages_per_minute: 240,
            uploads_per_round: 4,
            downloads_per_round: 4,
            interruptions_per_round: 3,
        }
    }
}

/// What the participants have used of their allowances over time.
#[derive(Debug)]
pub(super) struct Accounts {
    allowance: Allowance,
    accounts: BTreeMap<ParticipantName, Account>,
}

/// What one participant has used over time.
#[derive(Debug)]
struct Account {
    connections: Bucket,
    messages: Bucket,
    fetched: Fetched,
}

impl Accounts {
    /// Nobody has used anything.
    pub(super) fn new(allowance: Allowance) -> Self {
        Self {
            allowance,
            accounts: BTreeMap::new(),
        }
    }

    /// The limits.
    pub(super) fn allowance(&self) -> &Allowance {
        &self.allowance
    }

    /// Charges a connection.
    pub(super) fn connect(&mut self, name: &ParticipantName, now: Instant) -> Result<(), Breach> {
        let limit = self.allowance.connections_per_minute;
        if self.of(name, now).connections.take(limit, now) {
            Ok(())
        } else {
            Err(Breach::TooOften { limit })
        }
    }

    /// Charges a message.
    pub(super) fn message(&mut self, name: &ParticipantName, now: Instant) -> Result<(), Breach> {
        let limit = self.allowance.messages_per_minute;
        if self.of(name, now).messages.take(limit, now) {
            Ok(())
        } else {
            Err(Breach::Flooding { limit })
        }
    }

    /// The last message moved something on: it costs nothing.
    pub(super) fn give_back_message(&mut self, name: &ParticipantName, now: Instant) {
        let limit = self.allowance.messages_per_minute;
        self.of(name, now).messages.give_back(limit);
    }

    /// What this participant has fetched since the round was opened.
    pub(super) fn fetched(&mut self, name: &ParticipantName, now: Instant) -> &mut Fetched {
        &mut self.of(name, now).fetched
    }

    /// A round is opened, or the final adapter is handed over: everybody may send as many messages and fetch as much as ever.
    pub(super) fn begin_round(&mut self, now: Instant) {
        for account in self.accounts.values_mut() {
            account.messages = Bucket::full(now);
            account.fetched = Fetched::default();
        }
    }

    fn of(&mut self, name: &ParticipantName, now: Instant) -> &mut Account {
        let full = Account {
            connections: Bucket::full(now),
            messages: Bucket::full(now),
            fetched: Fetched::default(),
        };
        self.accounts.entry(name.clone()).or_insert(full)
    }
}

/// A token bucket that holds a minute's worth, as one instant (the generic cell rate algorithm, ITU-T I.371, annex A).
#[derive(Clone, Copy, Debug)]
struct Bucket {
    full_at: Instant,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes one of `limit` a minute, if there is one.
    fn take(&mut self, limit: u32, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + share(limit);
        let is_there = full_at <= now + MINUTE;
        if is_there {
            self.full_at = full_at;
        }
        is_there
    }

    /// Puts one back. One too many does no harm: `take` never counts from before the present.
    fn give_back(&mut self, limit: u32) {
        self.full_at = self
            .full_at
            .checked_sub(share(limit))
            .unwrap_or(self.full_at);
    }
}

/// The time in which one is refilled.
fn share(limit: u32) -> Duration {
    MINUTE / limit.max(1)
}

/// What one participant has sent of its update in a round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    /// Bytes that it was asked for, less those that did not come.
    bytes: u64,
    /// The delivery that was asked for last.
    asked: Option<Asked>,
    /// Bytes that the owner holds of an interrupted delivery.
    kept: Option<(TransferId, u64)>,
    /// Stalls and deliveries broken off.
    interruptions: u32,
}

/// A delivery that was asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// On this connection.
    connection: ConnectionId,
    transfer: TransferId,
    /// From this byte on.
    offset: u64,
    /// So many bytes.
    remaining: u64,
    /// Whether it broke off since.
    is_over: bool,
}

impl Sent {
    /// The first byte that is still needed of this transfer.
    pub(super) fn kept_bytes(&self, transfer: TransferId) -> u64 {
        match self.kept {
            Some((kept, bytes)) if kept == transfer => bytes,
            _ => 0,
        }
    }

    /// Charges the bytes of a delivery from `offset` on, of which none has come yet; whether that is within `limit`.
    pub(super) fn ask(
        &mut self,
        connection: ConnectionId,
        transfer: TransferId,
        (offset, remaining): (u64, u64),
        limit: u64,
    ) -> bool {
        let bytes = self.bytes.saturating_add(remaining);
        if limit < bytes {
            return false;
        }
        self.bytes = bytes;
        self.asked = Some(Asked {
            connection,
            transfer,
            offset,
            remaining,
            is_over: false,
        });
        true
    }

    /// A delivery on this connection broke off with so many bytes of the whole in the owner's hands: what did not come is not
    /// charged.
    ///
    /// The same content has the same id on every connection. Of one that is older than the delivery asked for last the news is
    /// late: from which byte that one begins is settled, and what the owner keeps is its affair by now.
    pub(super) fn keep(&mut self, connection: ConnectionId, transfer: TransferId, bytes: u64) {
        let Some(asked) = &mut self.asked else {
            return self.hold(transfer, bytes);
        };
        let end = asked.offset.saturating_add(asked.remaining);
        let missing = end.saturating_sub(bytes);
        if asked.connection == connection {
            if asked.transfer == transfer && !asked.is_over {
                asked.is_over = true;
                self.bytes = self.bytes.saturating_sub(missing.min(asked.remaining));
            }
            self.hold(transfer, bytes);
        } else if asked.transfer == transfer {
            self.bytes = self.bytes.saturating_sub(missing);
        }
    }

    /// The owner holds the beginning of a delivery.
    pub(super) fn hold(&mut self, transfer: TransferId, bytes: u64) {
        self.kept = Some((transfer, bytes));
    }

    /// What is kept is of no more use.
    pub(super) fn forget_kept(&mut self) {
        self.kept = None;
    }

    /// Counts a stall or a delivery broken off; whether that is within `limit`.
    pub(super) fn interrupt(&mut self, limit: u32) -> bool {
        self.interruptions = self.interruptions.saturating_add(1);
        self.interruptions <= limit
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ConnectionId = ConnectionId(1);
    const TWO: ConnectionId = ConnectionId(2);

    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_bucket_gives_a_minutes_worth_at_once_and_then_one_a_share() {
        let start = now();
        let mut bucket = Bucket::full(start);
        let mut taken = |at: Instant| (0..100).take_while(|_| bucket.take(30, at)).count();
        assert_eq!(taken(start), 30);
        assert_eq!(taken(start + Duration::from_millis(1999)), 0);
        assert_eq!(taken(start + Duration::from_secs(2)), 1);
        assert_eq!(taken(start + Duration::from_secs(12)), 5);
        assert_eq!(taken(start + Duration::from_secs(3600)), 30);
    }

    #[test]
    fn what_is_given_back_costs_nothing_and_saves_nothing_up() {
        let start = now();
        let mut bucket = Bucket::full(start);
        for _ in 0..1000 {
            assert!(bucket.take(3, start));
            bucket.give_back(3);
            bucket.give_back(3);
        }
        assert_eq!((0..10).take_while(|_| bucket.take(3, start)).count(), 3);
    }

    #[test]
    fn bytes_that_did_not_come_are_not_charged_and_those_of_dropped_beginnings_are() {
        let (first, second) = (TransferId([1; 16]), TransferId([2; 16]));
        let mut sent = Sent::default();
        // Ten honest interruptions cost the update once.
        for offset in (0..100).step_by(10) {
            assert!(sent.ask(ONE, first, (offset, 100 - offset), 200));
            sent.keep(ONE, first, offset + 10);
        }
        assert_eq!((sent.bytes, sent.kept_bytes(first)), (100, 100));
        // A second beginning is on top of it.
        assert!(sent.ask(ONE, second, (0, 100), 200));
        sent.keep(ONE, second, 99);
        assert_eq!((sent.kept_bytes(first), sent.kept_bytes(second)), (0, 99));
        assert!(!sent.ask(ONE, first, (0, 100), 200));
    }

    #[test]
    fn what_an_older_connection_brought_is_charged_and_says_nothing_of_the_newer_ones_delivery() {
        let (transfer, other) = (TransferId([1; 16]), TransferId([2; 16]));
        let mut sent = Sent::default();
        assert!(sent.ask(ONE, transfer, (0, 100), 400));
        // The connection breaks after 60, and the next is asked before that is known: from the first byte.
        assert!(sent.ask(TWO, transfer, (0, 100), 400));
        sent.keep(ONE, transfer, 60);
        assert_eq!((sent.bytes, sent.kept_bytes(transfer)), (160, 0));
        sent.keep(TWO, transfer, 10);
        assert_eq!((sent.bytes, sent.kept_bytes(transfer)), (70, 10));
        // Once is enough, and another content's beginning does not count for it.
        sent.keep(TWO, transfer, 10);
        sent.keep(ONE, other, 0);
        assert_eq!((sent.bytes, sent.kept_bytes(transfer)), (70, 10));
        assert_eq!(sent.kept_bytes(other), 0);
    }
}
