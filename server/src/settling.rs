//! The folder of a round that is done, written beside the next round.
//!
//! The journal has what the round came to, and its updates are on disk: so nothing waits for this but the end of the next
//! round, which needs the folder in the place of those updates if it comes to a crash. Masked updates are not kept, so the
//! folder of a round of theirs is written before the journal has it.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use aggregation::Adapter;
use protocol::message::TransferHeader;
use protocol::transcript::SealedRecord;
use tokio::sync::mpsc;

use crate::driver::Event;
use crate::error::ServerError;
use crate::journal::Journal;
use crate::record::{RoundRecord, RunFolder};
use crate::spool::Spool;

/// A round that is done and whose folder is not written.
#[derive(Debug)]
pub(crate) struct Unsettled {
    pub(crate) record: RoundRecord,
    /// What is on record about it.
    pub(crate) sealed: SealedRecord,
    pub(crate) adapter: Arc<Adapter>,
    /// The updates that the adapter came from.
    pub(crate) updates: Vec<TransferHeader>,
    /// Whether the folder is there, and only the rest is missing.
    pub(crate) is_written: bool,
}

/// What a run keeps on disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) files: Arc<RunFolder>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) spool: Arc<Spool>,
}

impl Disk {
    /// Writes a round's folder and its line; its updates have served then.
    pub(crate) fn settle(&self, round: &Unsettled) -> Result<(), ServerError> {
        let Unsettled {
            record,
            sealed,
            adapter,
            updates,
            is_written,
        } = round;
        if !is_written {
            self.files.write_round(record.round, adapter)?;
        }
        self.files.append(record, sealed)?;
        self.journal.settled(record.round)?;
        self.spool.forget(updates)?;
        self.files.noise_key().wipe()
    }
}

/// The writing of one round's folder, under way.
#[derive(Debug)]
pub(crate) struct Settling {
    /// Gives whether the folder was written.
    thread: JoinHandle<bool>,
}

impl Settling {
    /// Begins on a thread of its own; a failure is told as [`Event::Failed`].
    pub(crate) fn begin(disk: Disk, round: Unsettled, events: mpsc::Sender<Event>) -> Self {
        let thread = thread::spawn(move || match disk.settle(&round) {
            Ok(()) => true,
            Err(error) => {
                // Without a driver the run is over, and the next start does what was not done.
                let _ = events.blocking_send(Event::Failed(error));
                false
            }
        });
        Self { thread }
    }

    /// Waits for its end. Unless the folder is there, no further round may be done.
    pub(crate) fn finish(self) -> Result<(), ServerError> {
        match self.thread.join() {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(ServerError::Internal {
                what: "the folder of the round before was not written".to_owned(),
            }),
        }
    }
}
