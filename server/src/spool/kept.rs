//! An update in a file, read at any place by several threads.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use aggregation::encoded::ReadAt;
use protocol::Digest;
use protocol::message::Content;
use ring::digest::{Context, SHA256};

use crate::error::ServerError;

/// Bytes hashed at a time.
const BLOCK_BYTES: usize = 1 << 18;

/// The file of an update.
#[derive(Debug)]
pub(crate) struct UpdateFile {
    file: File,
    /// Under which name it was opened.
    path: PathBuf,
}

impl UpdateFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            path: path.to_owned(),
        })
    }

    /// Puts its bytes on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The error for bytes that the system does not give back.
    pub(crate) fn unreadable(&self, source: io::Error) -> ServerError {
        ServerError::Read {
            path: self.path.clone(),
            source,
        }
    }

    /// Reads it through for its length and digest.
    pub(super) fn content(&self) -> io::Result<Content> {
        let mut hash = Context::new(&SHA256);
        (&self.file).rewind()?;
        let bytes = hash_from(&self.file, &mut hash)?;
        Ok(Content {
            bytes,
            sha256: digest(hash),
        })
    }
}

impl ReadAt for UpdateFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

/// An update that was kept under its own name, opened anew for each stretch that is read.
///
/// A round may have more updates than the process may have files open.
#[derive(Debug)]
pub(crate) struct KeptUpdate {
    path: PathBuf,
}

impl KeptUpdate {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }
}

impl ReadAt for KeptUpdate {
    fn size(&self) -> io::Result<u64> {
        Ok(std::fs::metadata(&self.path)?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        UpdateFile::open(&self.path)?.read_exact_at(buffer, offset)
    }
}

/// Hashes what is left of a file and gives its length.
pub(super) fn hash_from(mut file: &File, hash: &mut Context) -> io::Result<u64> {
    let mut buffer = vec![0; BLOCK_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
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
