//! The head that is kept beside a ledger: how many entries it had, and the SHA-256 that stood for all of them.
//!
//! A chain says nothing about entries that are missing at its end. The file beside it does. It is written after the entries that it counts
//! are on disk, so a crash leaves it behind the ledger and never ahead of it; for the same reason, whoever reads both without a lock
//! reads it first. It keeps nobody from putting both files back: who must be sure of that keeps a head elsewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use protocol::Digest;
use serde::{Deserialize, Serialize};

use crate::durable;

/// How far a ledger had come.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeptHead {
    /// Its entries.
    pub entries: u64,
    /// The SHA-256 that the last of them ends its chain with.
    pub sha256: Digest,
}

/// A head that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The operating system refused.
    #[error("cannot {verb} {}, the head of the ledger beside it: {source}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "{} is not the head of a ledger: {what}; see by a head that you kept whether the ledger beside it is whole, and remove this file \
         to go on", path.display()
    )]
    NoHead {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl KeptHead {
    /// Where the head of the ledger at this path is kept.
    pub fn path(ledger: &Path) -> PathBuf {
        ledger.with_added_extension("head")
    }

    /// Reads the head of the ledger at this path, if one is kept.
    ///
    /// # Errors
    /// [`HeadError`] names the head's file.
    pub fn beside(ledger: &Path) -> Result<Option<Self>, HeadError> {
        let path = Self::path(ledger);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let verb = "read";
                return Err(HeadError::Io { verb, path, source });
            }
        };
        let head = serde_json::from_slice(&bytes);
        head.map(Some).map_err(|error| HeadError::NoHead {
            path,
            what: error.to_string(),
        })
    }

    /// Keeps the head beside the ledger at this path, whose entries are on disk by now.
    ///
    /// # Errors
    /// [`HeadError::Io`].
    pub(crate) fn keep(&self, ledger: &Path) -> Result<(), HeadError> {
        let path = Self::path(ledger);
        let text = serde_json::to_string(self).expect("a number and a string have a JSON form");
        durable::replace(&path, (text + "\n").as_bytes()).map_err(|source| HeadError::Io {
            verb: "write",
            path,
            source,
        })
    }
}
