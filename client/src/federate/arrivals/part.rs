//! One content while its bytes come: in memory, and in a file if there is one.

use std::{
    fs::File,
    io::{self, ErrorKind, Read as _, Write as _},
    path::Path,
};

use bytes::Bytes;
use protocol::message::TransferHeader;
use ring::digest::{Context, SHA256};

/// The first bytes of a content, and their hash.
pub(super) struct Part {
    bytes: Vec<u8>,
    hash: Context,
    file: Option<File>,
}

impl Part {
    /// Goes on behind the first bytes of what was kept; nothing if they are too few.
    pub(super) fn in_memory(
        header: &TransferHeader,
        mut kept: Vec<u8>,
    ) -> io::Result<Option<Self>> {
        let offset = length(header.offset)?;
        if kept.len() < offset {
            return Ok(None);
        }
        kept.truncate(offset);
        reserve(&mut kept, header)?;
        Ok(Some(Self::behind(kept, None)))
    }

    /// Goes on behind the first bytes of a file, which is made if it is not there; nothing if they are too few.
    pub(super) fn on_disk(header: &TransferHeader, path: &Path) -> io::Result<Option<Self>> {
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        if file.metadata()?.len() < header.offset {
            return Ok(None);
        }
        file.set_len(header.offset)?;
        let mut bytes = Vec::new();
        reserve(&mut bytes, header)?;
        file.read_to_end(&mut bytes)?;
        Ok(Some(Self::behind(bytes, Some(file))))
    }

    fn behind(bytes: Vec<u8>, file: Option<File>) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(&bytes);
        Self { bytes, hash, file }
    }

    /// Takes the next bytes in and gives their number.
    pub(super) fn write(&mut self, pieces: &[Bytes]) -> io::Result<usize> {
        let held = self.bytes.len();
        for piece in pieces {
            self.bytes.extend_from_slice(piece);
        }
        let new = &self.bytes[held..];
        self.hash.update(new);
        if let Some(file) = &mut self.file {
            file.write_all(new)?;
        }
        Ok(new.len())
    }

    /// Whether these are all bytes of the content.
    pub(super) fn is(&self, header: &TransferHeader) -> bool {
        self.bytes.len() as u64 == header.bytes
            && self.hash.clone().finish().as_ref() == header.sha256.0
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Makes room for the whole content at once.
fn reserve(bytes: &mut Vec<u8>, header: &TransferHeader) -> io::Result<()> {
    let room = length(header.remaining())?;
    let room = room.saturating_add(length(header.offset)?);
    bytes
        .try_reserve_exact(room.saturating_sub(bytes.len()))
        .map_err(|_| io::Error::from(ErrorKind::OutOfMemory))
}

fn length(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))
}
