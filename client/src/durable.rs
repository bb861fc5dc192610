//! Bytes and names on disk that outlive a power cut: a file's bytes are synced by whoever wrote them, early if they are many
//! ([`Flushing`]), its name by syncing its folder.

use std::{
    fs,
    io::{self, Write as _},
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

/// Bytes that are worth a flush: few flushes, and a disk that is never asked for much at once.
const STEP_BYTES: u64 = 8 << 20;

/// Writes a file whole, or leaves what was there: under another name first, on the disk before it is renamed, and with its name there
/// before anybody goes on. Its folder must be there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_added_extension("part");
    let mut file = fs::File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rename(&part, path)
}

/// Tries a file or folder that is to be written later: itself, if it is a file that is there, and the folder that it lies in, or the nearest one
/// above that is there. Gives what could not be written.
pub(crate) fn try_place(place: &Path) -> Result<(), (PathBuf, io::Error)> {
    if place.is_file() {
        let opened = fs::OpenOptions::new().append(true).open(place);
        opened.map_err(|error| (place.to_owned(), error))?;
    }
    let there = place.ancestors().skip(1).find(|above| above.exists());
    // The first part of a relative path is made in the current folder.
    let there = there.unwrap_or_else(|| Path::new("."));
    try_folder(there).map_err(|error| (there.to_owned(), error))
}

fn try_folder(folder: &Path) -> io::Result<()> {
    let draft = folder.join(format!(".foedus-check-{}", std::process::id()));
    // Left over from a process of the same number that was killed.
    let _ = fs::remove_file(&draft);
    fs::File::create_new(&draft)?;
    fs::remove_file(&draft)
}

/// Renames, and returns once the new name is on the disk.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder_of(to)
}

/// Puts the names in a file's folder on the disk: after it was made, renamed or removed. Only Unix can open a folder.
pub(crate) fn sync_folder_of(file: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    // A file name alone lies in the current folder.
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    fs::File::open(folder)?.sync_all()
}

/// Checks that an open file is still the one of this name: what is written to one that was moved away, removed or replaced is found by
/// nobody. Only Unix numbers its files.
#[cfg(unix)]
pub(crate) fn check_is_there(file: &fs::File, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;

    let (open, named) = (file.metadata()?, fs::metadata(path)?);
    if (open.dev(), open.ino()) == (named.dev(), named.ino()) {
        return Ok(());
    }
    let what = "another file has taken its name while it was being written";
    Err(io::Error::other(what))
}

/// See above.
#[cfg(not(unix))]
pub(crate) fn check_is_there(_file: &fs::File, _path: &Path) -> io::Result<()> {
    Ok(())
}

/// The flushes of a file that grows, one at a time: little is left to wait for at its end.
#[derive(Debug, Default)]
pub(crate) struct Flushing {
    /// How much had been written when the last one began.
    begun_at: u64,
    under_way: Option<JoinHandle<io::Result<()>>>,
}

impl Flushing {
    /// Begins to flush what was written, if that is enough and the disk is done with what was before.
    ///
    /// # Errors
    /// What the system says, also of the flush before.
    pub(crate) fn follow(&mut self, file: &fs::File, written: u64) -> io::Result<()> {
        let under_way = self.under_way.as_ref();
        let is_busy = under_way.is_some_and(|thread| !thread.is_finished());
        if is_busy || written < self.begun_at + STEP_BYTES {
            return Ok(());
        }
        std::mem::take(self).finish()?;
        let file = file.try_clone()?;
        self.begun_at = written;
        self.under_way = Some(thread::spawn(move || file.sync_data()));
        Ok(())
    }

    /// Waits for the flush that is under way.
    ///
    /// # Errors
    /// What the system said: to nobody else, so it must be asked for before the file is relied on.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self.under_way {
            Some(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            None => Ok(()),
        }
    }
}
