//! An update that arrived whole and that nobody has judged: in a file, or in memory if it is small.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::kept::{KeptUpdate, UpdateBytes};
use crate::error::ServerError;

/// An update that arrived whole; what it takes up goes with it unless it is kept.
#[derive(Debug)]
pub(crate) enum Upload {
    /// On disk.
    File(WholeFile),
    /// In memory.
    Memory(Bytes),
}

/// An update in memory, with what it takes up of the room for updates on their way: both are given back with the last who has it.
struct Held {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The file of an update that arrived whole; removed with this unless it has another name by then.
#[derive(Debug)]
pub(crate) struct WholeFile(pub(super) PathBuf);

impl Upload {
    /// An update in memory that takes up this room.
    pub(super) fn held(bytes: Vec<u8>, room: OwnedSemaphorePermit) -> Self {
        let held = Held { bytes, _room: room };
        Self::Memory(Bytes::from_owner(held))
    }

    /// Opens its bytes.
    pub(crate) fn open(&self) -> Result<UpdateBytes, ServerError> {
        match self {
            Self::File(WholeFile(path)) => KeptUpdate::alone(path.clone())
                .open()
                .map(|file| UpdateBytes::File(Arc::new(file)))
                .map_err(|source| ServerError::Read {
                    path: path.clone(),
                    source,
                }),
            Self::Memory(bytes) => Ok(UpdateBytes::Memory(bytes.clone())),
        }
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        // Kept under another name by now, or of no use; what stays after an error is removed with its round.
        let _ = fs::remove_file(&self.0);
    }
}
