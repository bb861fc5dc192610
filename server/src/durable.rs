//! Names on disk that outlive a power cut: a file's bytes are synced by whoever wrote them, its name by syncing its folder.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes a folder, and those above it that are missing, and returns once their names are on the disk; so is that of one that is there.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    let above = path.ancestors().skip(1);
    let missing: Vec<_> = above
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        .collect();
    fs::create_dir_all(path)?;
    for folder in missing.into_iter().rev().chain([path]) {
        sync_folder_of(folder)?;
    }
    Ok(())
}

/// Makes the name of a file or folder durable: after it was made, renamed or removed.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    // A name alone lies in the current folder; the root lies in none.
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(folder) => sync_folder(folder),
        None => Ok(()),
    }
}

/// Makes the names in a folder durable. Only Unix can open a folder.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(path)?.sync_all()
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_with_those_above_it_and_found_again() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("runs/trial/updates");
        for _ in 0..2 {
            create_folder(&folder).unwrap();
            assert!(folder.is_dir());
        }
        create_folder(Path::new("/")).unwrap();
    }
}
