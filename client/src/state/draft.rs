//! The file of a state while it is written: the update as it is made, then the rest, and the first line at last.
//!
//! What is written goes on disk while more is made, so that little is left to wait for once the update is finished. Until then the file has
//! another name, and what is wrong with it is told when it is finished: it is of no use before.

use std::{
    fs::{self, File},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::{HEADER_BYTES, LeftOver, RoundState, StateError, private_file};
use crate::durable::{self, Flushing};

/// Bytes that are worth a call of the system.
const PIECE_BYTES: usize = 1 << 20;

/// A state whose update is being made.
pub(crate) struct Draft {
    path: PathBuf,
    part: PartFile,
    writing: io::Result<Writing>,
}

/// The file under its other name, which goes with its draft.
struct PartFile(PathBuf);

/// The file behind its first line, which is left out.
struct Writing {
    file: File,
    flushing: Flushing,
    /// Bytes of the update.
    written: usize,
}

impl Draft {
    /// Begins the file that is to be `path`.
    pub(crate) fn begin(path: &Path) -> Self {
        let part = path.with_added_extension("part");
        Self {
            path: path.to_owned(),
            writing: Writing::begin(&part),
            part: PartFile(part),
        }
    }

    /// Writes what is new of an update of which so much is made, if it is worth it.
    pub(crate) fn follow(&mut self, made: &[u8]) {
        if let Ok(writing) = &mut self.writing
            && writing.written + PIECE_BYTES <= made.len()
            && let Err(error) = writing.follow(made)
        {
            self.writing = Err(error);
        }
    }

    /// Writes what is missing of the state, whose update is the one that was followed: whole, or what was there stays.
    ///
    /// # Errors
    /// [`StateError::Io`], also of what went wrong before.
    pub(crate) fn finish(self, state: &RoundState) -> Result<(), StateError> {
        let Self {
            path,
            part,
            writing,
        } = self;
        let finish = || -> io::Result<()> {
            writing?.finish(state)?;
            // Before the server has all of the update: an older state in its place would be offered again.
            durable::rename(&part.0, &path)
        };
        finish().map_err(StateError::io("write", &path))
    }
}

impl Writing {
    fn begin(part: &Path) -> io::Result<Self> {
        if let Some(folder) = part.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = private_file(part)?;
        file.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
        Ok(Self {
            file,
            flushing: Flushing::default(),
            written: 0,
        })
    }

    fn follow(&mut self, made: &[u8]) -> io::Result<()> {
        self.file.write_all(&made[self.written..])?;
        self.written = made.len();
        self.flushing.follow(&self.file, self.written as u64)
    }

    fn finish(mut self, state: &RoundState) -> io::Result<()> {
        let Self { file, written, .. } = &mut self;
        let rest = state.update.get(*written..);
        file.write_all(rest.ok_or_else(|| io::Error::other("another update was begun"))?)?;
        file.write_all(&state.trainer)?;
        if let Some(LeftOver { before, after }) = &state.left_over {
            file.write_all(before)?;
            file.write_all(after)?;
        }
        let mut line = serde_json::to_vec(&state.header())?;
        if HEADER_BYTES <= line.len() {
            return Err(io::Error::other("its first line is too long"));
        }
        // Spaces behind a JSON value are nothing.
        line.resize(HEADER_BYTES - 1, b' ');
        line.push(b'\n');
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&line)?;
        self.flushing.finish()?;
        self.file.sync_all()
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        // It has its name, or is of no use; the next one begins it anew.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::state::tests::state;

    #[test]
    fn an_update_that_is_followed_in_any_steps_gives_the_file_of_one_that_is_written_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let update: Bytes = (0..3 * PIECE_BYTES + 77).map(|place| place as u8).collect();
        let whole = state(update.clone());
        let [at_once, followed] = ["one", "other"].map(|name| folder.path().join(name));
        whole.write(&at_once).unwrap();
        for steps in [
            vec![],
            vec![5],
            vec![7, PIECE_BYTES + 9, 3 * PIECE_BYTES],
            vec![update.len()],
        ] {
            let mut draft = Draft::begin(&followed);
            steps.iter().for_each(|&made| draft.follow(&update[..made]));
            draft.finish(&whole).unwrap();
            assert!(
                fs::read(&followed).unwrap() == fs::read(&at_once).unwrap(),
                "{steps:?}"
            );
        }
        assert_eq!(RoundState::read(&followed).unwrap(), Some(whole));
    }

    #[test]
    fn a_draft_that_is_not_finished_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("round.state");
        let before = state(Bytes::from_static(b"before"));
        before.write(&path).unwrap();
        let mut draft = Draft::begin(&path);
        draft.follow(&vec![7; 2 * PIECE_BYTES]);
        drop(draft);
        assert_eq!(RoundState::read(&path).unwrap(), Some(before));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_goes_wrong_on_the_way_is_told_at_the_end_and_the_file_named() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        let mut draft = Draft::begin(&in_the_way.join("round.state"));
        draft.follow(&vec![7; 2 * PIECE_BYTES]);
        let said = draft.finish(&state(Bytes::new())).unwrap_err().to_string();
        assert!(
            said.contains("cannot write") && said.contains("round.state"),
            "{said}"
        );
    }
}
