//! What a site keeps over the death of its process: the last finished update, the optimizer behind it and what rounding cut off of
//! updates, in one file.
//!
//! It is on disk before the last bytes of the update leave, and replaced by the next round's. So a client that was killed delivers an
//! update that it had finished without training again, and trains the rounds after it as if nothing had happened. A round that was
//! not finished goes on from a file of its own beside it (`training_file`), to the same bytes. They hold no text; nothing in them leaves
//! the site but the update, by the protocol.

mod draft;
mod training_file;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use protocol::{Digest, message::Content, participant::Spooled};
use serde::{Deserialize, Serialize};

use serde::de::DeserializeOwned;

pub(crate) use self::{
    draft::Draft,
    training_file::{TrainingFile, TrainingOf},
};
use crate::durable;

/// The room of the file's first line; more is not looked through for its end.
const HEADER_BYTES: usize = 4096;

/// The state of one run at a site.
#[derive(Clone, PartialEq)]
pub(crate) struct RoundState {
    /// The update as it is offered.
    pub(crate) spooled: Spooled,
    /// Its bytes.
    pub(crate) update: Bytes,
    /// The trainer after the round, as `Trainer::checkpoint` gives it.
    pub(crate) trainer: Bytes,
    /// What rounding cut off, if updates are rounded to blocks of int8.
    pub(crate) left_over: Option<LeftOver>,
}

/// What updates left over of what was to be sent, as little-endian f32.
#[derive(Clone, PartialEq)]
pub(crate) struct LeftOver {
    /// All before this one that count; empty before the first.
    pub(crate) before: Bytes,
    /// If this one counts too.
    pub(crate) after: Bytes,
}

/// The first line of the file.
#[derive(Debug, Deserialize, Serialize)]
struct Header {
    spooled: Spooled,
    trainer: Content,
    /// Before and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_over: Option<[Content; 2]>,
}

/// A site's state that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The operating system refused.
    #[error("cannot {verb} the state {}: {source}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file that says which sum this site helped to open is not what was written.
    #[error(
        "{} is damaged: {what}; it keeps this site from helping to open two sums of one round, whose difference would be somebody's \
         update: leave it there, and have the run repeated under another run.name", path.display()
    )]
    OpenedDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The file is not what was written.
    #[error("the state {} is damaged: {what}; remove it to train the round again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl StateError {
    /// Names what was tried on which file.
    pub(crate) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            verb,
            path: path.to_owned(),
            source,
        }
    }
}

impl fmt::Debug for RoundState {
    /// Shows lengths and digests, no byte of an update or an optimizer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoundState")
            .field("spooled", &self.spooled)
            .field("trainer", &format_args!("{} bytes", self.trainer.len()))
            .field("left_over", &self.left_over)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LeftOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (self.before.len(), self.after.len());
        write!(f, "LeftOver({before} bytes before, {after} after)")
    }
}

impl RoundState {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// [`StateError`] names the file.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, StateError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StateError::io("read", path)(error)),
        };
        Self::parse(&bytes)
            .map(Some)
            .map_err(|what| StateError::Damaged {
                path: path.to_owned(),
                what,
            })
    }

    /// Writes the file at once.
    #[cfg(test)]
    pub(crate) fn write(&self, path: &Path) -> Result<(), StateError> {
        Draft::begin(path).finish(self)
    }

    fn header(&self) -> Header {
        Header {
            spooled: self.spooled.clone(),
            trainer: Content::of(&self.trainer),
            left_over: self.left_over.as_ref().map(LeftOver::contents),
        }
    }

    /// Removes the file, and that of a training under way: their run is over.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub(crate) fn remove(path: &Path) -> Result<(), StateError> {
        TrainingFile::remove(path)?;
        let removed = fs::remove_file(path).and_then(|()| durable::sync_folder_of(path));
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StateError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    fn parse(bytes: &Bytes) -> Result<Self, String> {
        let (header, mut rest) = first_line(bytes)?;
        let Header {
            spooled,
            trainer,
            left_over,
        } = header;
        let update = take(&mut rest, "update", spooled.update)?;
        let trainer = take(&mut rest, "optimizer", trainer)?;
        let mut next = |content| take(&mut rest, "remainder of rounding", content);
        let left_over = match left_over {
            Some([before, after]) => Some(LeftOver {
                before: next(before)?,
                after: next(after)?,
            }),
            None => None,
        };
        if !rest.is_empty() {
            return Err(format!("{} bytes are behind its end", rest.len()));
        }
        Ok(Self {
            spooled,
            update,
            trainer,
            left_over,
        })
    }
}

impl LeftOver {
    fn contents(&self) -> [Content; 2] {
        [&self.before, &self.after].map(|bytes| Content::of(bytes))
    }
}

/// Reads the file's first line, and gives what is behind it.
fn first_line<T: DeserializeOwned>(bytes: &Bytes) -> Result<(T, Bytes), String> {
    let end = bytes
        .iter()
        .take(HEADER_BYTES)
        .position(|&byte| byte == b'\n')
        .ok_or("it has no first line")?;
    let header = serde_json::from_slice(&bytes[..end]).map_err(|error| error.to_string())?;
    Ok((header, bytes.slice(end + 1..)))
}

/// Opens a file anew, for nobody else's eyes: an update in it is without masks.
fn private_file(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

/// Cuts the content off the beginning of what is left of the file.
fn take(rest: &mut Bytes, what: &str, expected: Content) -> Result<Bytes, String> {
    let length = usize::try_from(expected.bytes).map_err(|error| error.to_string())?;
    if rest.len() < length {
        return Err("it is cut off".to_owned());
    }
    let bytes = rest.split_to(length);
    if Digest::of(&bytes) != expected.sha256 {
        return Err(format!("the {what} is not the one that was written"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use protocol::{Round, message::Metrics};

    use super::*;

    fn small() -> RoundState {
        state(Bytes::from_static(b"an update\nof two lines"))
    }

    /// Of a round with this update.
    pub(super) fn state(update: Bytes) -> RoundState {
        let metrics = Metrics {
            train_loss: Some(0.1),
        };
        let spooled = Spooled {
            plan: Digest([1; 32]),
            round: Round(3),
            global: Digest([2; 32]),
            update: Content::of(&update),
            weight: 7,
            metrics,
        };
        RoundState {
            spooled,
            update,
            trainer: Bytes::from_static(b"moments"),
            left_over: Some(LeftOver {
                before: Bytes::new(),
                after: Bytes::from_static(b"crumbs"),
            }),
        }
    }

    #[test]
    fn a_file_without_what_rounding_cut_off_is_as_before_there_was_any() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("round.state");
        let plain = RoundState {
            left_over: None,
            ..small()
        };
        plain.write(&path).unwrap();
        assert_eq!(RoundState::read(&path).unwrap(), Some(plain));
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(
            !text.contains("left_over") && text.ends_with("moments"),
            "{text}"
        );
    }

    #[test]
    fn no_byte_of_an_update_or_an_optimizer_is_printed() {
        let said = format!("{:?}", small());
        for hidden in ["an update", "moments", "crumbs"] {
            assert!(!said.contains(hidden), "{said}");
        }
        assert!(
            said.contains("7 bytes") && said.contains("6 after"),
            "{said}"
        );
    }

    #[test]
    fn what_was_written_reads_back_and_can_be_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("round.state");
        assert_eq!(RoundState::read(&path).unwrap(), None);
        small().write(&path).unwrap();
        assert_eq!(RoundState::read(&path).unwrap(), Some(small()));
        RoundState::remove(&path).unwrap();
        RoundState::remove(&path).unwrap();
        assert_eq!(RoundState::read(&path).unwrap(), None);
    }

    #[test]
    fn any_changed_or_missing_byte_is_noticed_and_the_file_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("round.state");
        small().write(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            fs::write(&path, &changed).unwrap();
            // A changed digit in the header is another header; it can only be noticed where it contradicts the bytes.
            if let Ok(Some(found)) = RoundState::read(&path) {
                assert_eq!(
                    (found.update, found.trainer, found.left_over),
                    (small().update, small().trainer, small().left_over)
                );
            }
            fs::write(&path, &whole[..place]).unwrap();
            let error = RoundState::read(&path).unwrap_err().to_string();
            assert!(
                error.contains("round.state") && error.contains("remove it"),
                "{error}"
            );
        }
    }
}
