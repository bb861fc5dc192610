//! The place of an adapter's folder: what may be there before, and how one folder takes the place of another.
//!
//! Only the files of an adapter are ever removed, each by its name. Whatever else lies in the folder is the user's.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{FILES, FolderError, attempt};
use crate::durable;

/// Refuses a place where something else than an adapter lies; asked before the work that makes the adapter.
///
/// `kept` are files that are kept for as long as the adapter is made, and may not be there yet.
///
/// # Errors
/// [`FolderError`] names the folder and what is in its way.
pub fn check_place(folder: &Path, kept: &[&Path]) -> Result<(), FolderError> {
    let folder = named(folder)?;
    let absolute = |path: &Path| attempt("find", path, std::path::absolute(path));
    let whole = absolute(&folder)?;
    let mut found = foreign(&folder)?;
    for file in kept {
        if absolute(file)?.starts_with(&whole) {
            found = Some((*file).to_owned());
        }
    }
    match found {
        None => Ok(()),
        Some(found) => Err(FolderError::Occupied {
            path: folder,
            found,
        }),
    }
}

/// Checks the place, makes the folder that it is in, and tries whether a folder can be made there.
///
/// # Errors
/// As [`check_place`], and [`FolderError::Io`] if nothing can be written there.
pub fn prepare(folder: &Path, kept: &[&Path]) -> Result<(), FolderError> {
    check_place(folder, kept)?;
    let trial = aside(folder, "try")?;
    attempt("make", &trial, fs::create_dir_all(&trial))?;
    attempt("remove", &trial, fs::remove_dir(&trial))
}

/// Gives the folder without what may stand behind its name: no folder can be renamed to `adapter/.`.
pub(super) fn named(folder: &Path) -> Result<PathBuf, FolderError> {
    match folder.file_name() {
        Some(name) => Ok(folder.with_file_name(name)),
        None => Err(FolderError::Nameless {
            path: folder.to_owned(),
        }),
    }
}

/// Gives a name of this process beside the folder.
pub(super) fn aside(folder: &Path, suffix: &str) -> Result<PathBuf, FolderError> {
    let folder = named(folder)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(folder.file_name().unwrap_or_default());
    name.push(format!(".{suffix}-{}", std::process::id()));
    Ok(folder.with_file_name(name))
}

/// Puts a whole new folder in its place. The earlier adapter there is removed after, or is there again if that fails.
pub(super) fn take(fresh: &Path, folder: &Path, old: &Path) -> Result<(), FolderError> {
    let had_one = swap(fresh, folder, old).map_err(|why| FolderError::NotInPlace {
        made: fresh.to_owned(),
        why: Box::new(why),
    })?;
    attempt(
        "sync the folder of",
        folder,
        durable::sync_folder_of(folder),
    )?;
    if had_one {
        remove(old)?;
    }
    Ok(())
}

/// Renames both; gives whether there was an earlier adapter, which is `old` then.
fn swap(fresh: &Path, folder: &Path, old: &Path) -> Result<bool, FolderError> {
    // Asked again: since the first time something may have come there.
    check_place(folder, &[])?;
    if is_there(old) {
        // Left by a process with our number that was killed in the midst of this.
        remove(old)?;
    }
    let had_one = is_there(folder);
    if had_one {
        attempt("move away", folder, fs::rename(folder, old))?;
    }
    let Err(refused) = fs::rename(fresh, folder) else {
        return Ok(had_one);
    };
    let back = if had_one {
        fs::rename(old, folder)
    } else {
        Ok(())
    };
    let source = match back {
        Ok(()) => refused,
        Err(error) => {
            let old = old.display();
            io::Error::other(format!(
                "{refused}; the earlier adapter is in {old} and cannot be moved back: {error}"
            ))
        }
    };
    attempt("rename to", folder, Err(source))
}

/// Gives the first thing in a folder that is none of an adapter's files. A folder that is not there holds nothing.
fn foreign(folder: &Path) -> Result<Option<PathBuf>, FolderError> {
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let mut found = Vec::new();
    for entry in attempt("list", folder, fs::read_dir(folder))? {
        let entry = attempt("list", folder, entry)?;
        let path = entry.path();
        let kind = attempt("look at", &path, entry.file_type())?;
        if kind.is_dir() || !FILES.iter().any(|file| path.ends_with(file)) {
            found.push(path);
        }
    }
    Ok(found.into_iter().min())
}

/// Removes an adapter's files and the folder, which must hold nothing else. Of a link to a folder only the link is removed.
fn remove(folder: &Path) -> Result<(), FolderError> {
    let kind = attempt("look at", folder, fs::symlink_metadata(folder))?;
    if kind.is_symlink() {
        return attempt("remove", folder, fs::remove_file(folder));
    }
    for file in FILES.map(|name| folder.join(name)) {
        match fs::remove_file(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => attempt("remove", &file, removed)?,
        }
    }
    attempt("remove", folder, fs::remove_dir(folder))
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
