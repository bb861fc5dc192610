//! The file that says which sum of a run a site helped to open last, beside the file of its `state`; no secret is in it.
//!
//! That a site does not help to open a second sum of a round (S7) rests on it. It stays when the run is over: the run may be shown again.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use protocol::{Digest, secagg::Earlier};

use crate::{durable, error::ClientError, evidence, federate::driver::Driver, state::StateError};

/// `adapter.state` of the plan 1234... has `adapter.1234567812345678.opened`.
fn path(state: &Path, plan: Digest) -> PathBuf {
    evidence::beside(state, plan, "opened")
}

/// Reads what an earlier process wrote down, if it did.
fn read(state: &Path, plan: Digest) -> Result<Option<Earlier>, ClientError> {
    let path = path(state, plan);
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
fn write(state: &Path, earlier: &Earlier) -> Result<(), ClientError> {
    let path = path(state, earlier.plan);
    let write = || -> io::Result<()> {
        let bytes = serde_json::to_vec(earlier)?;
        fs::create_dir_all(path.parent().unwrap_or(state))?;
        durable::replace(&path, &bytes)
    };
    Ok(write().map_err(StateError::io("write", &path))?)
}

impl Driver {
    /// Tells the machine which sum of the run an earlier process helped to open.
    pub(in crate::federate::driver) fn recall_opened(
        &mut self,
        plan: Digest,
    ) -> Result<(), ClientError> {
        let state = self.settings.state.as_deref();
        let earlier = state.map(|state| read(state, plan)).transpose()?;
        self.machine.recall(earlier.flatten());
        Ok(())
    }

    /// Writes down which sum we are about to help to open, before anything of it is said.
    pub(super) fn write_down(&self, earlier: &Earlier) -> Result<(), ClientError> {
        let Some(state) = self.settings.state.as_deref() else {
            return Ok(());
        };
        write(state, earlier)
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Round, secagg::AttemptId};

    use super::*;

    /// To train a round again does no harm; to open its sum again may.
    #[test]
    fn one_that_is_damaged_is_not_to_be_removed() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("adapter.state");
        let plan = Digest([0xab; 32]);
        fs::write(path(&state, plan), "{").unwrap();
        let said = read(&state, plan).unwrap_err().to_string();
        assert!(said.contains("adapter.abababababababab.opened"), "{said}");
        assert!(said.contains("leave it there"), "{said}");
        assert!(!said.contains("train the round again"), "{said}");
    }

    #[test]
    fn what_was_opened_in_one_run_is_not_written_over_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("new").join("adapter.state");
        let of = |plan: u8, round: u32| Earlier {
            plan: Digest([plan; 32]),
            attempt: AttemptId {
                round: Round(round),
                number: 1,
            },
            delivered: Vec::new(),
        };
        for earlier in [of(1, 1), of(2, 1), of(1, 2)] {
            write(&state, &earlier).unwrap();
        }
        assert_eq!(read(&state, Digest([1; 32])).unwrap(), Some(of(1, 2)));
        assert_eq!(read(&state, Digest([2; 32])).unwrap(), Some(of(2, 1)));
        assert_eq!(read(&state, Digest([3; 32])).unwrap(), None);
    }
}
