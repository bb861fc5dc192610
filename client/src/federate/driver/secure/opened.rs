//! The file that says which sum a site helped to open last, beside the file of its `state`; no secret is in it.
//!
//! That a site does not help to open a second sum of a round (S7) rests on it: it is nothing to be removed for a fresh start.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use protocol::secagg::Earlier;

use crate::{durable, error::ClientError, state::StateError};

/// Beside the file of the site's state.
fn path(state: &Path) -> PathBuf {
    state.with_added_extension("opened")
}

/// Reads what an earlier process wrote down, if it did.
pub(super) fn read(state: &Path) -> Result<Option<Earlier>, ClientError> {
    let path = path(state);
    match fs::read(&path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(earlier) => Ok(Some(earlier)),
            Err(error) => Err(StateError::OpenedDamaged {
                path,
                what: error.to_string(),
            }
            .into()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::io("read", &path)(source).into()),
    }
}

/// Writes down which sum is about to be opened.
pub(super) fn write(state: &Path, earlier: &Earlier) -> Result<(), ClientError> {
    let path = path(state);
    let write = || -> io::Result<()> {
        let bytes = serde_json::to_vec(earlier)?;
        fs::create_dir_all(path.parent().unwrap_or(state))?;
        durable::replace(&path, &bytes)
    };
    Ok(write().map_err(StateError::io("write", &path))?)
}

/// Removes what was written down: its run is over.
pub(in crate::federate::driver) fn forget(state: &Path) -> Result<(), ClientError> {
    let path = path(state);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StateError::io("remove", &path)(source).into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// To train a round again does no harm; to open its sum again may.
    #[test]
    fn one_that_is_damaged_is_not_to_be_removed_before_its_run_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("adapter.state");
        fs::write(path(&state), "{").unwrap();
        let said = read(&state).unwrap_err().to_string();
        assert!(said.contains("adapter.state.opened"), "{said}");
        assert!(said.contains("only once that run is over"), "{said}");
        assert!(!said.contains("train the round again"), "{said}");
    }
}
