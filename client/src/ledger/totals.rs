//! The ledger added up: by day, by round, by purpose, by connection. A sum that is too large for its number stays at the largest, as a file
//! that somebody else wrote may hold anything.

use std::{collections::BTreeMap, ops::Bound};

use jiff::{SignedDuration, Timestamp};
use protocol::{Digest, Round};

use super::entry::{Entry, Fact};

/// How long a byte counts against a day.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Sums over the entries seen so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// By the clock of each entry. None is dropped: a clock that is ahead for a while would drop what counts when it is right again.
    moments: BTreeMap<Timestamp, u64>,
    rounds: BTreeMap<(Digest, u32), u64>,
    connections: BTreeMap<u64, Connection>,
    messages: BTreeMap<String, Sum>,
    greetings: Sum,
    transfers: Sum,
    refusals: u64,
    private_rounds: BTreeMap<Digest, u32>,
}

/// How many, and how many bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// Bytes in all.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Connection {
    stream_bytes: u64,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Counted { datagrams: u64, bytes: u64 },
    Uncounted,
}

impl Totals {
    /// Takes one more entry.
    pub(super) fn add(&mut self, entry: &Entry) {
        let bytes = entry.fact.stream_bytes();
        if bytes > 0 {
            let moment = self.moments.entry(entry.at).or_default();
            *moment = moment.saturating_add(bytes);
        }
        if let Some(number) = entry.fact.connection() {
            let connection = self.connections.entry(number).or_default();
            connection.stream_bytes = connection.stream_bytes.saturating_add(bytes);
        }
        match &entry.fact {
            Fact::Dial { .. } => self.greetings.add(bytes),
            Fact::Message {
                message,
                run,
                round,
                ..
            } => {
                self.messages.entry(message.clone()).or_default().add(bytes);
                if let (Some(run), Some(round)) = (run, round) {
                    self.add_to_round(run.plan, *round, bytes);
                }
            }
            Fact::Transfer {
                run,
                round,
                epsilon,
                ..
            } => {
                self.transfers.add(bytes);
                if epsilon.is_some() {
                    let last = self.private_rounds.entry(run.plan).or_default();
                    *last = (*last).max(*round);
                }
                self.add_to_round(run.plan, *round, bytes);
            }
            Fact::Closed {
                connection,
                datagrams,
                datagram_bytes,
                ..
            } => {
                let (datagrams, bytes) = (*datagrams, *datagram_bytes);
                self.connections.entry(*connection).or_default().end =
                    Some(End::Counted { datagrams, bytes });
            }
            Fact::Uncounted { connection } => {
                self.connections.entry(*connection).or_default().end = Some(End::Uncounted);
            }
            Fact::Refused { .. } => self.refusals += 1,
            Fact::Opened { .. } | Fact::Torn { .. } | Fact::Connected { .. } => {}
        }
    }

    /// Bytes on streams in the 24 hours before `now`, with what a clock that was ahead has as later. So a clock that was put back makes
    /// them more, not fewer; one that is ahead makes them fewer for as long as it is.
    pub fn day_bytes(&self, now: Timestamp) -> u64 {
        let since = (Bound::Excluded(day_before(now)), Bound::Unbounded);
        let moments = self.moments.range(since);
        moments.fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// Bytes on streams for a round of the run with this plan.
    pub fn round_bytes(&self, plan: Digest, round: Round) -> u64 {
        self.rounds.get(&(plan, round.0)).copied().unwrap_or(0)
    }

    /// The last round of each plan with differential privacy in which an update left.
    pub fn private_rounds(&self) -> &BTreeMap<Digest, u32> {
        &self.private_rounds
    }

    /// Bytes on streams of a connection.
    pub fn connection_bytes(&self, connection: u64) -> u64 {
        self.connections
            .get(&connection)
            .map_or(0, |found| found.stream_bytes)
    }

    /// A connection number that is not used yet.
    pub fn next_connection(&self) -> u64 {
        self.connections
            .last_key_value()
            .map_or(1, |(last, _)| last.saturating_add(1))
    }

    /// Connections whose datagrams nobody has counted.
    pub fn open_connections(&self) -> Vec<u64> {
        let open = self
            .connections
            .iter()
            .filter(|(_, found)| found.end.is_none());
        open.map(|(number, _)| *number).collect()
    }

    /// Connections whose datagrams were lost with the process that sent them.
    pub fn uncounted_connections(&self) -> u64 {
        self.connections
            .values()
            .filter(|found| found.end == Some(End::Uncounted))
            .count() as u64
    }

    /// Greetings, one for each address that was tried.
    pub fn greetings(&self) -> Sum {
        self.greetings
    }

    /// Messages by name.
    pub fn messages(&self) -> &BTreeMap<String, Sum> {
        &self.messages
    }

    /// Transfers, with their headers.
    pub fn transfers(&self) -> Sum {
        self.transfers
    }

    /// All bytes on streams.
    pub fn stream_bytes(&self) -> u64 {
        self.connections
            .values()
            .fold(0, |sum, found| sum.saturating_add(found.stream_bytes))
    }

    /// Datagrams of all counted connections.
    pub fn datagrams(&self) -> Sum {
        let mut sum = Sum::default();
        for found in self.connections.values() {
            if let Some(End::Counted { datagrams, bytes }) = found.end {
                sum.count = sum.count.saturating_add(datagrams);
                sum.bytes = sum.bytes.saturating_add(bytes);
            }
        }
        sum
    }

    /// Refusals.
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    fn add_to_round(&mut self, plan: Digest, round: u32, bytes: u64) {
        let sum = self.rounds.entry((plan, round)).or_default();
        *sum = sum.saturating_add(bytes);
    }
}

impl Sum {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

fn day_before(now: Timestamp) -> Timestamp {
    now.checked_sub(DAY).unwrap_or(Timestamp::MIN)
}
