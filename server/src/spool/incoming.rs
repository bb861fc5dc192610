//! The receiver of one update: takes pieces as they arrive, into memory or on disk, on a thread that may wait for the disk.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write as _};
use std::path::PathBuf;
use std::sync::PoisonError;

use bytes::Bytes;
use protocol::message::TransferHeader;
use protocol::{ParticipantName, TransferId};
use ring::digest::{Context, SHA256};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::flushing::Flushing;
use super::kept::{digest, hash_from};
use super::upload::WholeFile;
use super::{Spool, Upload, open_at, remove};
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
    /// They are the update that was announced.
    Whole(Upload),
    /// They broke off; so many bytes of it are kept.
    Part(u64),
    /// They are another length or have another digest, or what they go on behind is not here any more. Nothing is kept.
    Other,
}

impl Spool {
    /// Takes what arrives of an update behind what is kept of it, until the sender of pieces is dropped.
    ///
    /// A small update is held in memory, and its beginning written only if it breaks off; `room` is what it takes up there. Waits for
    /// an earlier writer of the same participant. Blocks: for a thread of its own.
    pub(crate) fn receive(
        &self,
        name: &ParticipantName,
        header: &TransferHeader,
        mut pieces: mpsc::Receiver<Piece>,
        room: OwnedSemaphorePermit,
    ) -> Result<Arrival, ServerError> {
        let _turn = Turn::take(self, name);
        let path = self.part_path(name, header.id);
        let receive = || -> io::Result<Arrival> {
            let Some(mut growing) = self.begin(name, header)? else {
                remove(&path)?;
                self.begun().parts.remove(name);
                return Ok(Arrival::Other);
            };
            while let Some(piece) = pieces.blocking_recv() {
                match piece {
                    Piece::Bytes(bytes) => growing.write(&bytes)?,
                    Piece::End if growing.is(header) => return self.finish(name, growing, room),
                    Piece::End | Piece::Spoiled => return self.discard(name, growing),
                }
            }
            self.leave(name, header.id, growing)
        };
        receive().map_err(ServerError::write(&path))
    }

    /// Begins in memory, or in the part that is about to be there; a part of another update is removed. Gives nothing if what it goes on
    /// behind is not there.
    fn begin(
        &self,
        name: &ParticipantName,
        header: &TransferHeader,
    ) -> io::Result<Option<Growing>> {
        // What is on disk of it already is gone on with there.
        let is_held = header.offset == 0 && header.bytes <= self.held_bytes_max;
        let before = match is_held {
            true => self.begun().parts.remove(name),
            false => self.begun().parts.insert(name.clone(), header.id),
        };
        if let Some(other) = before.filter(|before| is_held || *before != header.id) {
            remove(&self.part_path(name, other))?;
        }
        let place = match is_held {
            true => Place::Memory(Vec::with_capacity(to_usize(header.bytes))),
            false => match Place::file(self.part_path(name, header.id), header.offset, self.keeps)?
            {
                Some(place) => place,
                None => return Ok(None),
            },
        };
        Growing::behind(place, header.bytes).map(Some)
    }

    /// The update is whole.
    fn finish(
        &self,
        name: &ParticipantName,
        growing: Growing,
        room: OwnedSemaphorePermit,
    ) -> io::Result<Arrival> {
        let upload = match growing.place {
            Place::Memory(bytes) => Upload::held(bytes, room),
            Place::File { path, flushing, .. } => {
                flushing.map_or(Ok(()), Flushing::finish)?;
                let whole = self.whole_path(name);
                fs::rename(path, &whole)?;
                self.begun().parts.remove(name);
                Upload::File(WholeFile(whole))
            }
        };
        Ok(Arrival::Whole(upload))
    }

    /// What arrived is of no use.
    fn discard(&self, name: &ParticipantName, growing: Growing) -> io::Result<Arrival> {
        if let Place::File { path, .. } = growing.place {
            remove(&path)?;
            self.begun().parts.remove(name);
        }
        Ok(Arrival::Other)
    }

    /// It broke off: what is there is on disk from here on, and takes up no memory.
    fn leave(
        &self,
        name: &ParticipantName,
        update: TransferId,
        growing: Growing,
    ) -> io::Result<Arrival> {
        if let Place::Memory(bytes) = &growing.place
            && !bytes.is_empty()
        {
            self.begun().parts.insert(name.clone(), update);
            let file = File::create(self.part_path(name, update))?;
            write_all(&file, &mut [IoSlice::new(bytes)])?;
        }
        Ok(Arrival::Part(growing.length))
    }
}

/// An update of which there is more and more.
struct Growing {
    place: Place,
    hash: Context,
    length: u64,
    /// What it is to come to.
    announced: u64,
}

/// Where it grows.
enum Place {
    Memory(Vec<u8>),
    File {
        path: PathBuf,
        file: File,
        /// If it is to be on disk once it was judged.
        flushing: Option<Flushing>,
    },
}

impl Place {
    /// Opens a part behind its first `offset` bytes; nothing if they are not there.
    fn file(path: PathBuf, offset: u64, keeps: bool) -> io::Result<Option<Self>> {
        let file = open_at(&path, offset)?;
        let flushing = keeps.then(Flushing::default);
        Ok(file.map(|file| Self::File {
            path,
            file,
            flushing,
        }))
    }
}

impl Growing {
    /// Goes on behind what there is, which is hashed again.
    fn behind(place: Place, announced: u64) -> io::Result<Self> {
        let mut hash = Context::new(&SHA256);
        let length = match &place {
            Place::Memory(_) => 0,
            Place::File { file, .. } => hash_from(file, &mut hash)?,
        };
        Ok(Self {
            place,
            hash,
            length,
            announced,
        })
    }

    fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        match &mut self.place {
            Place::Memory(bytes) => {
                // As packets brought them, small pieces would hold large buffers.
                for piece in pieces {
                    let left = to_usize(self.announced).saturating_sub(bytes.len());
                    bytes.extend_from_slice(&piece[..left.min(piece.len())]);
                }
            }
            Place::File { file, flushing, .. } => {
                let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
                write_all(file, &mut slices)?;
                let bytes: usize = pieces.iter().map(Bytes::len).sum();
                if let Some(flushing) = flushing {
                    flushing.follow(file, self.length + bytes as u64)?;
                }
            }
        }
        for piece in pieces {
            self.hash.update(piece);
            self.length += piece.len() as u64;
        }
        Ok(())
    }

    fn is(&self, header: &TransferHeader) -> bool {
        self.length == header.bytes && digest(self.hash.clone()) == header.sha256
    }
}

/// A length that is at most `held_bytes_max`.
fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Writes all of the slices, with as few calls of the system as it takes.
pub(super) fn write_all(mut file: &File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
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
