//! A round whose training is under way, kept from time to time in a file beside the `state`: the process that follows goes on from there
//! instead of from the round's beginning.
//!
//! It is of use to one round from one global adapter. What is of another round, or damaged, costs time and nothing else: the round is
//! trained from its beginning, to the same bytes.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{Digest, Round, message::Content};
use serde::{Deserialize, Serialize};

use super::{StateError, first_line, private_file, take};
use crate::durable;

/// A checkpoint may take this share of the time.
const SHARE: u32 = 50;

/// Which training it is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct TrainingOf {
    pub(crate) plan: Digest,
    pub(crate) round: Round,
    /// The adapter that it starts from, as it was sent.
    pub(crate) global: Digest,
}

/// The first line of the file.
#[derive(Debug, Deserialize, Serialize)]
struct Header {
    #[serde(flatten)]
    of: TrainingOf,
    checkpoint: Content,
}

/// The file of one training.
#[derive(Debug)]
pub(crate) struct TrainingFile {
    path: PathBuf,
    of: TrainingOf,
    every: Duration,
    /// When a checkpoint was written last, or the training began.
    kept_at: Instant,
    took: Duration,
}

impl TrainingFile {
    /// The file beside `state`; a checkpoint is due once this time has passed.
    pub(crate) fn beside(state: &Path, of: TrainingOf, every: Duration) -> Self {
        Self {
            path: path(state),
            of,
            every,
            kept_at: Instant::now(),
            took: Duration::ZERO,
        }
    }

    /// Gives what an earlier process kept of this training.
    pub(crate) fn begun(&self) -> Option<Bytes> {
        match self.read() {
            Ok(begun) => begun,
            Err(what) => {
                let path = self.path.display();
                tracing::warn!(%path, %what, "the round is trained from its beginning");
                None
            }
        }
    }

    fn read(&self) -> Result<Option<Bytes>, String> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let (header, mut rest): (Header, _) = first_line(&bytes)?;
        if header.of != self.of {
            return Ok(None);
        }
        take(&mut rest, "training", header.checkpoint).map(Some)
    }

    /// Whether it is time for a checkpoint: those of a slow disk are fewer.
    pub(crate) fn is_due(&self) -> bool {
        self.every.max(self.took * SHARE) <= self.kept_at.elapsed()
    }

    /// Keeps a checkpoint in the place of the last one, whole.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub(crate) fn keep(&mut self, checkpoint: &[u8]) -> Result<(), StateError> {
        let began = Instant::now();
        self.write(checkpoint)
            .map_err(StateError::io("write", &self.path))?;
        (self.kept_at, self.took) = (Instant::now(), began.elapsed());
        Ok(())
    }

    fn write(&self, checkpoint: &[u8]) -> io::Result<()> {
        let part = part(&self.path);
        let mut line = serde_json::to_vec(&Header {
            of: self.of.clone(),
            checkpoint: Content::of(checkpoint),
        })?;
        line.push(b'\n');
        let mut file = private_file(&part)?;
        file.write_all(&line)?;
        file.write_all(checkpoint)?;
        file.sync_all()?;
        durable::rename(&part, &self.path)
    }

    /// Removes the file beside `state`, and one that was being written, if they are there: what they began is finished.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub(crate) fn remove(state: &Path) -> Result<(), StateError> {
        let whole = path(state);
        for path in [part(&whole), whole] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StateError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn path(state: &Path) -> PathBuf {
    state.with_added_extension("training")
}

/// Where it is written, until it is whole.
fn part(path: &Path) -> PathBuf {
    path.with_added_extension("part")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(round: u32) -> TrainingOf {
        TrainingOf {
            plan: Digest([1; 32]),
            round: Round(round),
            global: Digest([2; 32]),
        }
    }

    #[test]
    fn what_was_kept_is_there_for_the_same_round_only_and_a_damaged_file_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("adapter.state");
        let file = |round| TrainingFile::beside(&state, of(round), Duration::ZERO);
        assert_eq!(file(3).begun(), None);
        file(3).keep(b"an older one").unwrap();
        file(3).keep(b"moments\nand an adapter").unwrap();
        assert_eq!(file(3).begun().unwrap(), "moments\nand an adapter");
        assert_eq!(file(4).begun(), None);
        let whole = fs::read(path(&state)).unwrap();
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            fs::write(path(&state), &damaged).unwrap();
            let begun = file(3).begun();
            assert!(
                begun.is_none_or(|begun| begun == "moments\nand an adapter"),
                "a flipped bit at {place}"
            );
            fs::write(path(&state), &whole[..place]).unwrap();
            assert_eq!(file(3).begun(), None, "cut off at {place}");
        }
        // Of a process that was killed while it wrote the next one.
        fs::write(part(&path(&state)), "half of").unwrap();
        TrainingFile::remove(&state).unwrap();
        TrainingFile::remove(&state).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn checkpoints_are_as_far_apart_as_asked_and_further_on_a_slow_disk() {
        let state = Path::new("adapter.state");
        let mut file = TrainingFile::beside(state, of(1), Duration::from_secs(3600));
        assert!(!file.is_due());
        file.every = Duration::ZERO;
        assert!(file.is_due());
        file.took = Duration::from_secs(3600);
        assert!(!file.is_due());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("missing/adapter.state");
        let kept = TrainingFile::beside(&state, of(1), Duration::ZERO).keep(b"x");
        let said = kept.unwrap_err().to_string();
        assert!(said.contains("adapter.state.training"), "{said}");
    }
}
