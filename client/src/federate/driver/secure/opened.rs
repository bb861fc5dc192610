//! The file that says which sum a site helped to open last, beside the file of its `state`; no secret is in it.

use std::{
    fs,
    io::{self, Write as _},
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
            Err(error) => Err(StateError::Damaged {
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
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let write = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let part = path.with_added_extension("part");
        let mut file = fs::File::create(&part)?;
        file.write_all(&serde_json::to_vec(earlier)?)?;
        file.sync_all()?;
        durable::rename(&part, &path)
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
