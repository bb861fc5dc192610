//! What a journal held when it was opened, and how it is read: every round in turn, none missing.

use protocol::Round;
use protocol::coordinator::{Admission, Entry, History};
use protocol::transcript::SealedRecord;
use redb::{ReadableDatabase, ReadableTable};

use super::error::storage;
use super::{ENTRIES, FINISHED, Journal, JournalError, ROUNDS, RUN, TRANSCRIPT};
use crate::record::RoundRecord;

/// What a journal holds when a server starts.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The rounds that are done, in order.
    pub(crate) rounds: Vec<RoundRecord>,
    /// What is on record about each of them.
    pub(crate) transcript: Vec<SealedRecord>,
    /// What the coordinator goes on from.
    pub(crate) history: History,
    /// The updates of the last round that is done, until its adapter is on disk: it can be formed from them again.
    pub(crate) unsettled: Vec<Admission>,
    /// Whether the run came to its end.
    pub(crate) is_finished: bool,
}

impl Journal {
    /// Reads all of it.
    pub(super) fn read(&self) -> Result<Found, JournalError> {
        let read = || -> Result<Values, redb::Error> {
            let transaction = self.database.begin_read()?;
            Ok(Values {
                rounds: rows(&transaction.open_table(ROUNDS)?)?,
                transcript: rows(&transaction.open_table(TRANSCRIPT)?)?,
                entries: rows(&transaction.open_table(ENTRIES)?)?,
                is_finished: transaction.open_table(RUN)?.get(FINISHED)?.is_some(),
            })
        };
        let Values {
            rounds,
            transcript,
            entries,
            is_finished,
        } = read().map_err(storage(&self.path))?;
        let mut found = Found {
            is_finished,
            ..Found::default()
        };
        for value in &rounds {
            let record: RoundRecord = self.parse("round", value)?;
            found.history.round_done();
            if record.round != found.history.rounds_done {
                return Err(self.damaged(format!("round {} is missing", found.history.rounds_done)));
            }
            found.rounds.push(record);
        }
        for value in &transcript {
            found.transcript.push(self.parse("record", value)?);
        }
        if found.transcript.len() != found.rounds.len() {
            return Err(self.damaged("a round is not on record".to_owned()));
        }
        let last = Round(found.history.rounds_done);
        for value in &entries {
            match self.parse("entry", value)? {
                Entry::Accepted(admission) if admission.round == last => {
                    found.unsettled.push(admission);
                }
                entry => found.history.note(entry),
            }
        }
        Ok(found)
    }
}

/// What the tables hold, in order.
struct Values {
    rounds: Vec<Vec<u8>>,
    transcript: Vec<Vec<u8>>,
    entries: Vec<Vec<u8>>,
    is_finished: bool,
}

pub(super) fn rows<K: redb::Key + 'static>(
    table: &impl ReadableTable<K, &'static [u8]>,
) -> Result<Vec<Vec<u8>>, redb::StorageError> {
    let values = table.iter()?.map(|row| Ok(row?.1.value().to_vec()));
    values.collect()
}
