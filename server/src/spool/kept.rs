//! The bytes of an update, read at any place by several threads: in memory, in a file of its own, or in a stretch of a batch's.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use aggregation::encoded::ReadAt;
use bytes::Bytes;
use protocol::Digest;
use protocol::message::Content;
use ring::digest::{Context, SHA256};

use crate::error::ServerError;

/// Bytes hashed at a time.
const BLOCK_BYTES: usize = 1 << 18;

/// The bytes of an update that is judged and folded.
#[derive(Clone, Debug)]
pub(crate) enum UpdateBytes {
    /// On disk.
    File(Arc<UpdateFile>),
    /// Held in memory since they arrived.
    Memory(Bytes),
}

impl UpdateBytes {
    /// Its file, if it is in one.
    pub(crate) fn file(&self) -> Option<&Arc<UpdateFile>> {
        match self {
            Self::File(file) => Some(file),
            Self::Memory(_) => None,
        }
    }

    /// The error for bytes that the system does not give back.
    pub(crate) fn unreadable(&self, source: io::Error) -> ServerError {
        match self {
            Self::File(file) => file.unreadable(source),
            Self::Memory(_) => ServerError::Internal {
                what: format!("an update in memory: {source}"),
            },
        }
    }
}

impl ReadAt for UpdateBytes {
    fn size(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => file.size(),
            Self::Memory(bytes) => bytes.as_ref().size(),
        }
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(buffer, offset),
            Self::Memory(bytes) => bytes.as_ref().read_exact_at(buffer, offset),
        }
    }
}

/// The file of an update, open.
#[derive(Debug)]
pub(crate) struct UpdateFile {
    file: File,
    /// Where it was when it was opened.
    place: KeptUpdate,
}

impl UpdateFile {
    /// Puts its bytes on disk.
    pub(crate) fn sync(&self) -> Result<(), ServerError> {
        let synced = self.file.sync_data();
        synced.map_err(ServerError::write(&self.place.path))
    }

    /// The error for bytes that the system does not give back.
    fn unreadable(&self, source: io::Error) -> ServerError {
        ServerError::Read {
            path: self.place.path.clone(),
            source,
        }
    }

    /// Reads it through for its length and digest.
    pub(super) fn content(&self) -> io::Result<Content> {
        let mut hash = Context::new(&SHA256);
        let Range { start, end } = self.place.stretch.clone().unwrap_or(0..u64::MAX);
        (&self.file).seek(SeekFrom::Start(start))?;
        let bytes = hash_from((&self.file).take(end - start), &mut hash)?;
        Ok(Content {
            bytes,
            sha256: digest(hash),
        })
    }
}

impl ReadAt for UpdateFile {
    fn size(&self) -> io::Result<u64> {
        match &self.place.stretch {
            Some(stretch) => Ok(stretch.end - stretch.start),
            None => Ok(self.file.metadata()?.len()),
        }
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let Some(stretch) = &self.place.stretch else {
            return self.file.read_exact_at(buffer, offset);
        };
        let start = stretch.start.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(buffer.len() as u64));
        match start.zip(end) {
            // What lies behind it is another's.
            Some((start, end)) if end <= stretch.end => self.file.read_exact_at(buffer, start),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Where an update was kept; its file is opened anew for each stretch that is read.
///
/// A round may have more updates than the process may have files open.
#[derive(Clone, Debug)]
pub(crate) struct KeptUpdate {
    pub(super) path: PathBuf,
    /// Where in the file it lies, if others lie there too.
    pub(super) stretch: Option<Range<u64>>,
}

impl KeptUpdate {
    /// In a file of its own.
    pub(super) fn alone(path: PathBuf) -> Self {
        let stretch = None;
        Self { path, stretch }
    }

    pub(super) fn open(&self) -> io::Result<UpdateFile> {
        Ok(UpdateFile {
            file: File::open(&self.path)?,
            place: self.clone(),
        })
    }
}

impl ReadAt for KeptUpdate {
    fn size(&self) -> io::Result<u64> {
        match &self.stretch {
            Some(stretch) => Ok(stretch.end - stretch.start),
            None => Ok(std::fs::metadata(&self.path)?.len()),
        }
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.open()?.read_exact_at(buffer, offset)
    }
}

/// Hashes all that can be read and gives its length.
pub(super) fn hash_from(mut from: impl Read, hash: &mut Context) -> io::Result<u64> {
    let mut buffer = vec![0; BLOCK_BYTES];
    let mut bytes = 0;
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(bytes),
            count => {
                hash.update(&buffer[..count]);
                bytes += count as u64;
            }
        }
    }
}

/// The finished hash as ours.
pub(super) fn digest(hash: Context) -> Digest {
    let mut digest = Digest::default();
    digest.0.copy_from_slice(hash.finish().as_ref());
    digest
}
