//! The writer of one update: takes pieces as they arrive, on a thread that may wait for the disk.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write as _};
use std::path::PathBuf;
use std::sync::PoisonError;

use bytes::Bytes;
use protocol::message::TransferHeader;
use protocol::{ParticipantName, TransferId};
use ring::digest::{Context, SHA256};
use tokio::sync::mpsc;

use super::kept::{digest, hash_from};
use super::{PART, Spool, Upload, open_at, remove};
use crate::error::ServerError;

/// A piece of an update, or what follows the last.
#[derive(Debug)]
pub(crate) enum Piece {
    /// The next bytes, as the packets brought them.
    Bytes(Vec<Bytes>),
    /// There are no more.
    End,
    /// The sender broke a rule: what was written is of no use.
    Spoiled,
}

/// What became of the pieces.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// They are the update that was announced, in a file of its own.
    Whole(Upload),
    /// They broke off; so many bytes of it are kept.
    Part(u64),
    /// They are another length or have another digest, or what they go on behind is not here any more. Nothing is kept.
    Other,
}

impl Spool {
    /// Writes what arrives of an update behind what is kept of it, until the sender of pieces is dropped.
    ///
    /// Waits for an earlier writer of the same participant. Blocks: for a thread of its own.
    pub(crate) fn receive(
        &self,
        name: &ParticipantName,
        header: &TransferHeader,
        mut pieces: mpsc::Receiver<Piece>,
    ) -> Result<Arrival, ServerError> {
        let _turn = Turn::take(self, name);
        let path = self.part_path(name, header.id);
        let mut receive = || -> io::Result<Arrival> {
            self.begin(name, header.id)?;
            let Some(mut part) = Part::open(path.clone(), header.offset)? else {
                remove(&path)?;
                self.begun().parts.remove(name);
                return Ok(Arrival::Other);
            };
            while let Some(piece) = pieces.blocking_recv() {
                match piece {
                    Piece::Bytes(bytes) => part.write(&bytes)?,
                    Piece::End if part.is(header) => {
                        let whole = part.finish(self.whole_path(name))?;
                        self.begun().parts.remove(name);
                        return Ok(whole);
                    }
                    Piece::End | Piece::Spoiled => {
                        let other = part.discard()?;
                        self.begun().parts.remove(name);
                        return Ok(other);
                    }
                }
            }
            Ok(Arrival::Part(part.length))
        };
        receive().map_err(ServerError::write(&path))
    }

    /// Takes note that a part of this update is about to be there, and removes that of another one.
    fn begin(&self, name: &ParticipantName, update: TransferId) -> io::Result<()> {
        let before = self.begun().parts.insert(name.clone(), update);
        match before.filter(|before| *before != update) {
            Some(other) => remove(&self.part_path(name, other)),
            None => Ok(()),
        }
    }
}

/// A file that grows.
struct Part {
    path: PathBuf,
    file: File,
    hash: Context,
    length: u64,
}

impl Part {
    /// Opens the part behind its first `offset` bytes, which are hashed again; nothing if they are not there.
    fn open(path: PathBuf, offset: u64) -> io::Result<Option<Self>> {
        debug_assert!(path.extension().is_some_and(|extension| extension == PART));
        let Some(file) = open_at(&path, offset)? else {
            return Ok(None);
        };
        let mut hash = Context::new(&SHA256);
        let length = hash_from(&file, &mut hash)?;
        Ok(Some(Self {
            path,
            file,
            hash,
            length,
        }))
    }

    fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        write_all(&self.file, &mut slices)?;
        for piece in pieces {
            self.hash.update(piece);
            self.length += piece.len() as u64;
        }
        Ok(())
    }

    fn is(&self, header: &TransferHeader) -> bool {
        self.length == header.bytes && digest(self.hash.clone()) == header.sha256
    }

    fn finish(self, whole: PathBuf) -> io::Result<Arrival> {
        fs::rename(&self.path, &whole)?;
        Ok(Arrival::Whole(Upload { path: whole }))
    }

    fn discard(self) -> io::Result<Arrival> {
        remove(&self.path)?;
        Ok(Arrival::Other)
    }
}

/// Writes all of the slices, with as few calls of the system as it takes.
fn write_all(mut file: &File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Without those that are empty: to them nothing can be written.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The right to write a participant's part.
struct Turn<'a>(&'a Spool, ParticipantName);

impl<'a> Turn<'a> {
    fn take(spool: &'a Spool, name: &ParticipantName) -> Self {
        let taken = spool
            .free
            .wait_while(spool.begun(), |begun| !begun.busy.insert(name.clone()));
        drop(taken.unwrap_or_else(PoisonError::into_inner));
        Self(spool, name.clone())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.begun().busy.remove(&self.1);
        self.0.free.notify_all();
    }
}
