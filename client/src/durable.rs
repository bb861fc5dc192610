//! Names on disk that outlive a power cut: a file's bytes are synced by whoever wrote them, its name by syncing its folder.

use std::{fs, io, path::Path};

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
