//! Where a run's results will be: whether they can be written is found out before the run, and nothing is left there.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::error::StartError;

/// Tries to write in a run's folder, or in the nearest folder above it that is there.
pub(super) fn check(folder: &Path) -> Result<(), StartError> {
    let there = folder.ancestors().find(|above| above.exists());
    // The first part of a relative path is made in the current folder.
    let there = there.unwrap_or_else(|| Path::new("."));
    try_to_write(there).map_err(|source| StartError::Unwritable {
        results: folder.to_owned(),
        folder: there.to_owned(),
        source,
    })
}

fn try_to_write(folder: &Path) -> io::Result<()> {
    let draft = folder.join(format!(".foedus-check-{}", std::process::id()));
    // Left over from a process of the same number that was killed.
    let _ = fs::remove_file(&draft);
    File::create_new(&draft)?;
    fs::remove_file(&draft)
}
