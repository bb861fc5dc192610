//! What can be wrong with a journal.

use std::io;
use std::path::{Path, PathBuf};

/// A journal that cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it open.
    #[error("another server has {} open; a run has one server at a time", path.display())]
    Busy {
        /// The journal.
        path: PathBuf,
    },
    /// It was begun for another run.
    #[error(
        "{} was begun with another {what} than the configuration has now; put the configuration back to go on with that run, or choose another run.name", path.display()
    )]
    OtherRun {
        /// The journal.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// The file system or the database failed.
    #[error("the journal {}: {source}", path.display())]
    Storage {
        /// The journal.
        path: PathBuf,
        /// What the database said.
        source: Box<redb::Error>,
    },
    /// It holds what no server of this version wrote.
    #[error(
        "the journal {} is damaged or of another version ({what}); restore the run's folder from a backup, or choose another run.name to begin anew", path.display()
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What was found.
        what: String,
    },
}

impl JournalError {
    /// A journal in which this was found.
    pub(crate) fn damaged(path: &Path, what: String) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            what,
        }
    }
}

pub(super) fn of_file(path: &Path) -> impl FnOnce(io::Error) -> JournalError + '_ {
    move |error| storage(path)(redb::Error::Io(error))
}

/// Tells what is wrong with the file from what is wrong with the disk.
pub(super) fn storage(path: &Path) -> impl FnOnce(redb::Error) -> JournalError + '_ {
    move |source| match source {
        redb::Error::Corrupted(what) => JournalError::damaged(path, what),
        redb::Error::UpgradeRequired(version) => {
            JournalError::damaged(path, format!("its file format is redb's version {version}"))
        }
        redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            JournalError::damaged(path, error.to_string())
        }
        source => JournalError::Storage {
            path: path.to_owned(),
            source: Box::new(source),
        },
    }
}
