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

pub(super) fn of_file(path: &Path) -> impl FnOnce(io::Error) -> JournalError + '_ {
    move |error| storage(path)(redb::Error::Io(error))
}

pub(super) fn storage(path: &Path) -> impl FnOnce(redb::Error) -> JournalError + '_ {
    move |source| JournalError::Storage {
        path: path.to_owned(),
        source: Box::new(source),
    }
}
