//! What must outlive the process: the coordinator's entries and the rounds that are done, in one redb file a run.
//!
//! It is made as `journal.redb.part` and has its name once it is whole. A commit is durable before it returns. Entries of a round go
//! once its adapter is on disk; of those about who takes part as many stay with each round that is done as a restart needs
//! (`standing`). The updates' bytes are the `spool`'s, adapters the run folder's. What the entries mean is `protocol::coordinator`'s
//! affair; values are JSON, so that an operator can look at them with any redb browser.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use protocol::coordinator::Entry;
use protocol::transcript::SealedRecord;
use protocol::{Digest, Round};
use redb::{Database, Durability, ReadableTable, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::error::storage;
use crate::metrics::Histogram;
use crate::record::RoundRecord;

mod error;
mod found;
mod opening;
mod standing;

pub use error::JournalError;
pub(crate) use found::Found;

/// `format`, `identity` and `finished`, as JSON.
const RUN: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("run");
/// A [`RoundRecord`] by round.
const ROUNDS: TableDefinition<'static, u32, &'static [u8]> = TableDefinition::new("rounds");
/// A round's signed record by round.
const TRANSCRIPT: TableDefinition<'static, u32, &'static [u8]> = TableDefinition::new("transcript");
/// An [`Entry`] by its number.
const ENTRIES: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("entries");

const IDENTITY: &str = "identity";
const FINISHED: &str = "finished";
/// Raised when old journals can no longer be read.
const FORMAT: u32 = 3;
/// Bounds of the classes in which commits are counted, in seconds: from a fast disk to one that delays everybody.
const COMMIT_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// Which run a journal belongs to.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Identity {
    format: u32,
    plan: Digest,
    /// Digest of the adapter that the first round starts from.
    start: Digest,
}

impl Identity {
    pub(crate) fn new(plan: Digest, start: Digest) -> Self {
        Self {
            format: FORMAT,
            plan,
            start,
        }
    }
}

/// The journal of one run, open.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    database: Database,
    /// What commits took, in seconds.
    commits: Mutex<Histogram>,
}

impl Journal {
    /// Gives what the commits of this process took, in seconds.
    pub(crate) fn commits(&self) -> Histogram {
        let commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        commits.clone()
    }

    /// Every commit is this one: in two phases, so that after a crash one that does not check out is damage and no commit that broke
    /// off, which the database would take back without a word.
    fn commit(&self, mut transaction: WriteTransaction) -> Result<(), redb::Error> {
        let began = Instant::now();
        transaction.set_two_phase_commit(true);
        transaction.commit()?;
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        commits.observe(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Writes entries down, all or none.
    pub(crate) fn record(&self, entries: &[Entry]) -> Result<(), JournalError> {
        if entries.is_empty() {
            return Ok(());
        }
        let values = entries.iter().map(|entry| self.json(entry));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let write = || -> Result<(), redb::Error> {
            let mut transaction = self.database.begin_write()?;
            if entries.iter().all(is_implied) {
                transaction.set_durability(Durability::None)?;
            }
            {
                let mut table = transaction.open_table(ENTRIES)?;
                let last = table.last()?.map(|(number, _)| number.value());
                let first = last.map_or(0, |last| last + 1);
                for (number, value) in (first..).zip(&values) {
                    table.insert(number, value.as_slice())?;
                }
            }
            self.commit(transaction)
        };
        write().map_err(storage(&self.path))
    }

    /// Writes down what a round came to, and what is on record about it. Its entries stay until [`Self::settled`]; what came and
    /// went is struck out of the others.
    pub(crate) fn round_done(
        &self,
        record: &RoundRecord,
        sealed: &SealedRecord,
    ) -> Result<(), JournalError> {
        let (value, sealed) = (self.json(record)?, self.json(sealed)?);
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            transaction
                .open_table(ROUNDS)?
                .insert(record.round, value.as_slice())?;
            transaction
                .open_table(TRANSCRIPT)?
                .insert(record.round, sealed.as_slice())?;
            standing::compact(&mut transaction.open_table(ENTRIES)?)?;
            self.commit(transaction)
        };
        write().map_err(storage(&self.path))
    }

    /// The adapter of a round that is done is on disk: its entries have served.
    ///
    /// Not durable by itself: after a crash the adapter is found on disk, and this is done again.
    pub(crate) fn settled(&self, round: u32) -> Result<(), JournalError> {
        let write = || -> Result<(), redb::Error> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(Durability::None)?;
            // What cannot be read is kept: the next start names it.
            transaction.open_table(ENTRIES)?.retain(|_, value| {
                serde_json::from_slice(value)
                    .map_or(true, |entry| of_round(&entry).is_none_or(|of| round < of.0))
            })?;
            self.commit(transaction)
        };
        write().map_err(storage(&self.path))
    }

    /// Writes down that the run came to its end.
    pub(crate) fn finish(&self) -> Result<(), JournalError> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            transaction
                .open_table(RUN)?
                .insert(FINISHED, b"true".as_slice())?;
            self.commit(transaction)
        };
        write().map_err(storage(&self.path))
    }

    fn json<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, JournalError> {
        serde_json::to_vec(value).map_err(|error| self.damaged(format!("cannot encode: {error}")))
    }

    fn parse<T: DeserializeOwned>(&self, what: &str, value: &[u8]) -> Result<T, JournalError> {
        serde_json::from_slice(value).map_err(|error| self.damaged(format!("{what}: {error}")))
    }

    fn damaged(&self, what: String) -> JournalError {
        JournalError::damaged(&self.path, what)
    }
}

/// Whether a restart would come to this by itself: the record of a round says that the next one was to be opened.
fn is_implied(entry: &Entry) -> bool {
    matches!(entry, Entry::Opened { round } if Round::FIRST < *round)
}

/// The round that an entry serves; none if it holds beyond.
fn of_round(entry: &Entry) -> Option<Round> {
    match entry {
        Entry::Joined { .. }
        | Entry::Parted { .. }
        | Entry::Postponed { .. }
        | Entry::LateSettled { .. } => None,
        Entry::Accepted(admission) => Some(admission.round),
        Entry::AttemptFailed { attempt, .. } => Some(attempt.round),
        Entry::Opened { round }
        | Entry::Asked { round, .. }
        | Entry::Refused { round, .. }
        | Entry::Attempted { round, .. }
        | Entry::SumFixed { round, .. }
        | Entry::SumUnopened { round, .. }
        | Entry::Closed { round } => Some(*round),
    }
}

#[cfg(test)]
mod tests;
