//! Small updates that go to disk together: one file, one write and one sync for all that wait for the folding thread.
//!
//! A file of its own costs a small update more than its bytes do: to be created, renamed, synced and removed. A batch is laid out
//! before its updates are judged and written meanwhile, so what is refused is in the file too. That does no harm: an update counts
//! because the journal says so, and only those are looked for in a batch.
//!
//! A few small files of batches that have served are kept and written over by the next ones: the disk has their names and their room
//! already. A crash meanwhile leaves one in which nothing counts, and the next start removes it.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use protocol::TransferId;
use protocol::message::TransferHeader;

use super::head::Head;
use super::incoming::write_all;
use super::kept::KeptUpdate;
use super::{HELD_BYTES_MAX, Spool, Upload, remove};
use crate::error::ServerError;

/// Files that are kept to be written over: as many as may be under way in a round that a few participants take part in.
pub(super) const SPARES_MAX: usize = 4;
/// A longer one is not kept: its bytes cost more than its name does.
const SPARE_BYTES_MAX: u64 = HELD_BYTES_MAX;

/// Updates that are written to one file.
#[derive(Debug)]
pub(crate) struct Batch {
    number: u64,
    path: PathBuf,
    /// Whether its file is one that has served.
    is_spare: bool,
    head: Vec<u8>,
    places: BTreeMap<TransferId, Range<u64>>,
    /// Their bytes, in the order in which they are listed, until they are written.
    updates: Mutex<Vec<Bytes>>,
}

impl Batch {
    /// Writes it and puts its bytes on disk; its name is there once [`Spool::sync`] was called. Without updates there is no file.
    ///
    /// It lets go of the updates as soon as they are written: others may arrive in their room while the disk works.
    pub(crate) fn write(&self) -> Result<(), ServerError> {
        if self.is_empty() {
            return Ok(());
        }
        let write = || -> io::Result<()> {
            let file = File::options()
                .write(true)
                .create_new(!self.is_spare)
                .open(&self.path)?;
            let mut slices = vec![IoSlice::new(&self.head)];
            let updates = self.take_updates();
            slices.extend(updates.iter().map(|update| IoSlice::new(update)));
            write_all(&file, &mut slices)?;
            drop(updates);
            file.sync_data()
        };
        write().map_err(ServerError::write(&self.path))
    }

    fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn take_updates(&self) -> Vec<Bytes> {
        std::mem::take(&mut *self.updates.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where an update of it is kept.
    pub(super) fn kept(&self, update: TransferId) -> Option<KeptUpdate> {
        self.places.get(&update).map(|place| KeptUpdate {
            path: self.path.clone(),
            stretch: Some(place.clone()),
        })
    }
}

impl Spool {
    /// Lays those of these updates that are in memory out behind each other. Nothing is written yet.
    pub(crate) fn batch<'a>(
        &self,
        arrived: impl Iterator<Item = (&'a TransferHeader, &'a Upload)>,
    ) -> Result<Batch, ServerError> {
        let in_memory = arrived.filter_map(|(header, upload)| match upload {
            Upload::Memory(bytes) => Some((*header, bytes.clone())),
            Upload::File(_) => None,
        });
        let (headers, updates): (Vec<_>, Vec<_>) = in_memory.unzip();
        let (head, bytes) = Head::of(headers).map_err(|error| ServerError::Internal {
            what: format!("the list of a batch of updates: {error}"),
        })?;
        let spare = if updates.is_empty() {
            None
        } else {
            self.batches().spares.pop()
        };
        let number = spare.unwrap_or_else(|| self.numbers.fetch_add(1, Ordering::Relaxed));
        Ok(Batch {
            number,
            path: self.batch_path(number),
            is_spare: spare.is_some(),
            head: bytes,
            places: head.places().collect(),
            updates: Mutex::new(updates),
        })
    }

    /// Takes note of the updates of a batch that count. If there are none, its file has served.
    pub(crate) fn enter(
        &self,
        batch: &Batch,
        counted: &BTreeSet<TransferId>,
    ) -> Result<(), ServerError> {
        if batch.is_empty() {
            return Ok(());
        }
        if !batch.is_spare {
            self.has_new_names.store(true, Ordering::Relaxed);
        }
        let mut batches = self.batches();
        for (id, place) in batch.places.iter().filter(|(id, _)| counted.contains(id)) {
            batches.enter(*id, batch.number, place.clone());
        }
        if batches.has(batch.number) {
            return Ok(());
        }
        self.retire(&mut batches, batch.number)
    }

    /// Nothing in a batch counts any more: its file is kept to be written over, if it is small and few are, and removed otherwise.
    pub(super) fn retire(&self, batches: &mut Batches, number: u64) -> Result<(), ServerError> {
        let path = self.batch_path(number);
        let is_small = || fs::metadata(&path).is_ok_and(|file| file.len() <= SPARE_BYTES_MAX);
        if batches.spares.len() < SPARES_MAX && is_small() {
            batches.spares.push(number);
            return Ok(());
        }
        remove(&path).map_err(ServerError::write(&path))
    }

    /// Removes the files that were kept to be written over: no further update comes.
    pub(crate) fn drop_spares(&self) -> Result<(), ServerError> {
        for number in std::mem::take(&mut self.batches().spares) {
            let path = self.batch_path(number);
            remove(&path).map_err(ServerError::write(&path))?;
        }
        Ok(())
    }
}

/// Which updates that count are in which batch.
#[derive(Debug, Default)]
pub(super) struct Batches {
    updates: BTreeMap<TransferId, (u64, Range<u64>)>,
    /// How many of them are in each.
    counts: BTreeMap<u64, usize>,
    /// Batches whose files are kept to be written over.
    spares: Vec<u64>,
    /// A batch that cannot be read, and why: what counts and was not found may be in it.
    pub(super) damaged: Option<(PathBuf, String)>,
}

impl Batches {
    /// An update counts and is here.
    pub(super) fn enter(&mut self, update: TransferId, batch: u64, place: Range<u64>) {
        // Twice the same update has the same bytes.
        if let Entry::Vacant(vacant) = self.updates.entry(update) {
            vacant.insert((batch, place));
            *self.counts.entry(batch).or_default() += 1;
        }
    }

    /// Whether a batch has any of them.
    pub(super) fn has(&self, batch: u64) -> bool {
        self.counts.contains_key(&batch)
    }

    /// The batch in which an update is, and where in it.
    pub(super) fn find(&self, update: TransferId) -> Option<(u64, Range<u64>)> {
        self.updates.get(&update).cloned()
    }

    /// Strikes an update out; gives its batch if it was the last in it.
    pub(super) fn forget(&mut self, update: TransferId) -> Option<u64> {
        let (batch, _) = self.updates.remove(&update)?;
        let count = self.counts.get_mut(&batch)?;
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&batch);
            return Some(batch);
        }
        None
    }
}
