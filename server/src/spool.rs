//! The bytes of updates while they arrive, until they are judged, and until their round's adapter is safe.
//!
//! An update that is small is held in memory until it is judged, and goes to disk with those that wait beside it. `NUMBER.batch` has
//! such updates behind a head that lists them (`head.rs`); it stays as long as one of them counts, and may be written over after
//! that (`batch.rs`). Of larger ones there are three names.
//! `NAME.TRANSFER.part` grows while a participant sends, one a participant, and outlives a broken connection and a restart: the next
//! connection goes on behind it; so does the next one of a small update that broke off, which is written there then.
//! `NAME.NUMBER.whole` arrived whole; nobody has judged it. `TRANSFER.update` is admitted. Bytes and name of a file are on disk before
//! the journal says that what is in it counts. What the journal does not know after a crash is removed, parts excepted: they are the
//! participants' to complete.
//!
//! Memory: an update that is held keeps its share of the room for updates on their way, which is at least its length, until it was
//! judged and written; the disk may still be at work then. So all that are under way or wait for the folding thread, however many
//! participants sent them, take up no more than `uploads_at_once` times `upload_window`.

mod batch;
mod flushing;
mod head;
mod incoming;
mod kept;
mod left_over;
mod upload;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use protocol::message::TransferHeader;
use protocol::{ParticipantName, TransferId};

use crate::durable::sync_folder;
use crate::error::ServerError;
pub(crate) use batch::Batch;
use batch::Batches;
pub(crate) use incoming::{Arrival, Piece};
pub(crate) use kept::{KeptUpdate, UpdateBytes, UpdateFile};
pub(crate) use left_over::Parts;
pub(crate) use upload::Upload;
use upload::WholeFile;

/// The longest update that is held in memory.
///
/// To create, rename, sync and remove a file takes about as long as to write this much; beyond it a file of its own costs an update
/// little, and few updates that wait would fill the room.
pub(crate) const HELD_BYTES_MAX: u64 = 1 << 20;

const PART: &str = "part";
const UPDATE: &str = "update";
const BATCH: &str = "batch";

/// The folder of updates.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    begun: Mutex<Begun>,
    free: Condvar,
    batches: Mutex<Batches>,
    /// Updates up to this length are held in memory.
    held_bytes_max: u64,
    /// Whether those that are judged are put on disk.
    keeps: bool,
    /// Numbers what arrived whole, and batches.
    numbers: AtomicU64,
    /// Whether a name that was given since the last [`Self::sync`] must be on disk before what it names counts.
    has_new_names: AtomicBool,
}

/// What is not whole.
#[derive(Debug, Default)]
struct Begun {
    /// The part that each participant has on disk: one at most, so that nobody fills the disk with beginnings.
    parts: BTreeMap<ParticipantName, TransferId>,
    /// Participants whose bytes are being written: one writer each, so that a new connection cannot overtake an old one.
    busy: BTreeSet<ParticipantName>,
}

impl Spool {
    /// The same for updates that are kept once they were judged, or not, as masked ones are not.
    pub(crate) fn keeping(self, keeps: bool) -> Self {
        Self { keeps, ..self }
    }

    /// Keeps an update that was admitted, under its own name or in the batch: on disk once its bytes are and [`Self::sync`] was called.
    pub(crate) fn keep(
        &self,
        header: &TransferHeader,
        upload: &Upload,
        batch: &Batch,
    ) -> Result<KeptUpdate, ServerError> {
        match upload {
            Upload::File(WholeFile(whole)) => {
                let path = self.update_path(header.id);
                fs::rename(whole, &path).map_err(ServerError::write(&path))?;
                self.has_new_names.store(true, Ordering::Relaxed);
                Ok(KeptUpdate::alone(path))
            }
            Upload::Memory(_) => batch.kept(header.id).ok_or_else(|| ServerError::Internal {
                what: format!("the update {} is not in the batch it came with", header.id),
            }),
        }
    }

    /// Puts the names of all that was kept on disk.
    pub(crate) fn sync(&self) -> Result<(), ServerError> {
        if !self.has_new_names.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        sync_folder(&self.folder).map_err(ServerError::write(&self.folder))
    }

    /// An update that was kept, to be read when all of its round are looked at.
    pub(crate) fn kept(&self, header: &TransferHeader) -> KeptUpdate {
        match self.batches().find(header.id) {
            Some((batch, place)) => KeptUpdate {
                path: self.batch_path(batch),
                stretch: Some(place),
            },
            None => KeptUpdate::alone(self.update_path(header.id)),
        }
    }

    /// Opens an update that counts, after comparing it with what was accepted.
    pub(crate) fn read(&self, header: &TransferHeader) -> Result<UpdateFile, ServerError> {
        let kept = self.kept(header);
        let lost = |what: String| ServerError::UpdateLost {
            path: kept.path.clone(),
            what,
        };
        let file = match kept.open() {
            Ok(file) => file,
            Err(error) => {
                return Err(self
                    .lost_batch(header)
                    .unwrap_or_else(|| lost(error.to_string())));
            }
        };
        let found = file.content().map_err(|error| lost(error.to_string()))?;
        if found == header.content() {
            return Ok(file);
        }
        let what = match kept.stretch {
            Some(_) if found.bytes < header.bytes => {
                format!("it ends before the update {} in it does", header.id)
            }
            Some(_) => format!(
                "the bytes of the update {} in it are not those that were accepted",
                header.id
            ),
            None => "the bytes are not those that were accepted".to_owned(),
        };
        Err(lost(what))
    }

    /// The error for an update that was not found, if there is a batch that cannot be read.
    fn lost_batch(&self, header: &TransferHeader) -> Option<ServerError> {
        let batches = self.batches();
        let (path, what) = batches.damaged.as_ref()?;
        Some(ServerError::UpdateLost {
            path: path.clone(),
            what: format!("{what}; the update {} is nowhere else", header.id),
        })
    }

    /// Removes beginnings that nobody is writing: their round is over.
    pub(crate) fn drop_parts(&self) -> Result<(), ServerError> {
        let mut begun = self.begun();
        let Begun { parts, busy } = &mut *begun;
        let mut clear = || -> io::Result<()> {
            for (name, id) in parts.iter().filter(|(name, _)| !busy.contains(*name)) {
                remove(&self.part_path(name, *id))?;
            }
            parts.retain(|name, _| busy.contains(name));
            Ok(())
        };
        clear().map_err(ServerError::write(&self.folder))
    }

    /// Removes updates that counted: their round's adapter is on disk.
    pub(crate) fn forget(&self, counted: &[TransferHeader]) -> Result<(), ServerError> {
        let mut batches = self.batches();
        for header in counted {
            if batches.find(header.id).is_none() {
                let path = self.update_path(header.id);
                remove(&path).map_err(ServerError::write(&path))?;
            } else if let Some(batch) = batches.forget(header.id) {
                self.retire(&mut batches, batch)?;
            }
        }
        Ok(())
    }

    fn batches(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begun(&self) -> MutexGuard<'_, Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update_path(&self, update: TransferId) -> PathBuf {
        self.folder.join(format!("{update}.{UPDATE}"))
    }

    fn batch_path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number}.{BATCH}"))
    }

    fn part_path(&self, name: &ParticipantName, transfer: TransferId) -> PathBuf {
        self.folder.join(format!("{name}.{transfer}.{PART}"))
    }

    fn whole_path(&self, name: &ParticipantName) -> PathBuf {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!("{name}.{number}.whole"))
    }
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Creates a file that is not there, or opens one to write behind its first `length` bytes; nothing if it has not so many.
fn open_at(path: &Path, length: u64) -> io::Result<Option<File>> {
    let mut options = File::options();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(length == 0)
        .open(path)?;
    if file.metadata()?.len() < length {
        return Ok(None);
    }
    file.set_len(length)?;
    Ok(Some(file))
}

#[cfg(test)]
mod tests;
