//! The bytes of updates on disk: while they arrive, until they are judged, and until their round's adapter is safe.
//!
//! Three names in one folder. `NAME.TRANSFER.part` grows while a participant sends, one a participant, and outlives a broken
//! connection and a restart: the next connection goes on behind it. `NAME.NUMBER.whole` arrived whole; nobody has judged it.
//! `TRANSFER.update` is admitted; it is on disk, bytes and name, before the journal says that it counts. What the journal does
//! not know after a crash is removed, parts excepted: they are the participants' to complete.

mod incoming;
mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use protocol::message::TransferHeader;
use protocol::{ParticipantName, TransferId};

use crate::error::ServerError;
pub(crate) use incoming::{Arrival, Piece};
pub(crate) use kept::{KeptUpdate, UpdateFile};

const PART: &str = "part";
const UPDATE: &str = "update";

/// The folder of updates.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    begun: Mutex<Begun>,
    free: Condvar,
    /// Numbers what arrived whole.
    wholes: AtomicU64,
}

/// What is not whole.
#[derive(Debug, Default)]
struct Begun {
    /// The part that each participant has on disk: one at most, so that nobody fills the disk with beginnings.
    parts: BTreeMap<ParticipantName, TransferId>,
    /// Participants whose bytes are being written: one writer each, so that a new connection cannot overtake an old one.
    busy: BTreeSet<ParticipantName>,
}

/// An update that arrived whole; its file goes with it unless it is kept.
#[derive(Debug)]
pub(crate) struct Upload {
    path: PathBuf,
}

impl Upload {
    /// Opens its bytes.
    pub(crate) fn open(&self) -> Result<UpdateFile, ServerError> {
        UpdateFile::open(&self.path).map_err(|source| ServerError::Read {
            path: self.path.clone(),
            source,
        })
    }

    /// Puts its bytes on disk.
    pub(crate) fn sync(&self, file: &UpdateFile) -> Result<(), ServerError> {
        file.sync().map_err(ServerError::write(&self.path))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Kept under another name by now, or of no use; what stays after an error is removed with its round.
        let _ = fs::remove_file(&self.path);
    }
}

/// What an earlier process left behind: how far each participant's update had come.
pub(crate) type Parts = BTreeMap<ParticipantName, (TransferId, u64)>;

impl Spool {
    /// Opens the folder, removes what neither counts nor can be completed, and tells what can.
    pub(crate) fn open(
        folder: &Path,
        counted: &[TransferHeader],
    ) -> Result<(Self, Parts), ServerError> {
        let spool = Self {
            folder: folder.to_owned(),
            begun: Mutex::default(),
            free: Condvar::new(),
            wholes: AtomicU64::new(0),
        };
        let counted: BTreeSet<_> = counted
            .iter()
            .map(|header| spool.update_path(header))
            .collect();
        let mut parts = Parts::new();
        let mut tidy = || -> io::Result<()> {
            fs::create_dir_all(folder)?;
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let path = entry.path();
                match part_of(&path) {
                    Some((name, transfer)) if !parts.contains_key(&name) => {
                        parts.insert(name, (transfer, entry.metadata()?.len()));
                    }
                    _ if counted.contains(&path) => {}
                    _ => fs::remove_file(path)?,
                }
            }
            Ok(())
        };
        tidy().map_err(ServerError::write(folder))?;
        let begun = parts.iter().map(|(name, (id, _))| (name.clone(), *id));
        spool.begun().parts.extend(begun);
        Ok((spool, parts))
    }

    /// Keeps an update that was admitted, under its own name: on disk once its bytes are and [`Self::sync`] was called.
    pub(crate) fn keep(
        &self,
        header: &TransferHeader,
        upload: &Upload,
    ) -> Result<KeptUpdate, ServerError> {
        let path = self.update_path(header);
        fs::rename(&upload.path, &path).map_err(ServerError::write(&path))?;
        Ok(KeptUpdate::at(path))
    }

    /// Puts the names of all that was kept on disk.
    pub(crate) fn sync(&self) -> Result<(), ServerError> {
        crate::record::sync_folder(&self.folder).map_err(ServerError::write(&self.folder))
    }

    /// An update that was kept, to be read when all of its round are looked at.
    pub(crate) fn kept(&self, header: &TransferHeader) -> KeptUpdate {
        KeptUpdate::at(self.update_path(header))
    }

    /// Opens an update that counts, after comparing it with what was accepted.
    pub(crate) fn read(&self, header: &TransferHeader) -> Result<UpdateFile, ServerError> {
        let path = self.update_path(header);
        let lost = |what: String| ServerError::UpdateLost {
            path: path.clone(),
            what,
        };
        let file = UpdateFile::open(&path).map_err(|error| lost(error.to_string()))?;
        let found = file.content().map_err(|error| lost(error.to_string()))?;
        if found == header.content() {
            Ok(file)
        } else {
            Err(lost(
                "the bytes are not those that were accepted".to_owned(),
            ))
        }
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
        for header in counted {
            let path = self.update_path(header);
            remove(&path).map_err(ServerError::write(&path))?;
        }
        Ok(())
    }

    fn begun(&self) -> MutexGuard<'_, Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update_path(&self, header: &TransferHeader) -> PathBuf {
        self.folder.join(format!("{}.{UPDATE}", header.id))
    }

    fn part_path(&self, name: &ParticipantName, transfer: TransferId) -> PathBuf {
        self.folder.join(format!("{name}.{transfer}.{PART}"))
    }

    fn whole_path(&self, name: &ParticipantName) -> PathBuf {
        let number = self.wholes.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!("{name}.{number}.whole"))
    }
}

/// Whose part a file is, and of what.
fn part_of(path: &Path) -> Option<(ParticipantName, TransferId)> {
    let name = path
        .file_name()?
        .to_str()?
        .strip_suffix(PART)?
        .strip_suffix('.')?;
    let (participant, transfer) = name.rsplit_once('.')?;
    let mut id = TransferId::default();
    hex::decode_to_slice(transfer, &mut id.0).ok()?;
    Some((participant.parse().ok()?, id))
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
