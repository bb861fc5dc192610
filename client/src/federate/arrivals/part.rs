//! One content while its bytes come: in memory, and in a file if there is a folder and they take their time.

use std::{
    fs::File,
    io::{self, ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::message::TransferHeader;
use ring::digest::{Context, SHA256};

/// How far a file may be behind what came. What comes whole in less is asked for again sooner than it could be written.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// The first bytes of a content, and their hash.
pub(super) struct Part {
    bytes: Vec<u8>,
    hash: Context,
    disk: Option<OnDisk>,
}

/// The file of a part, made when there is something to be written.
struct OnDisk {
    path: PathBuf,
    file: Option<File>,
    /// Of the part's bytes.
    written: usize,
    /// When all that had come was in it.
    even_at: Instant,
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

    /// Goes on behind the first bytes of a file, if there is one; nothing if they are too few.
    pub(super) fn on_disk(header: &TransferHeader, path: &Path) -> io::Result<Option<Self>> {
        let mut file = match File::options().read(true).write(true).open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let kept = match &file {
            Some(file) => file.metadata()?.len(),
            None => 0,
        };
        if kept < header.offset {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        reserve(&mut bytes, header)?;
        if let Some(file) = &mut file {
            file.set_len(header.offset)?;
            file.read_to_end(&mut bytes)?;
        }
        let disk = OnDisk {
            path: path.to_owned(),
            file,
            written: bytes.len(),
            even_at: Instant::now(),
        };
        Ok(Some(Self::behind(bytes, Some(disk))))
    }

    fn behind(bytes: Vec<u8>, disk: Option<OnDisk>) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(&bytes);
        Self { bytes, hash, disk }
    }

    /// Takes the next bytes in and gives their number.
    pub(super) fn write(&mut self, pieces: &[Bytes]) -> io::Result<usize> {
        let held = self.bytes.len();
        for piece in pieces {
            self.bytes.extend_from_slice(piece);
        }
        let new = &self.bytes[held..];
        self.hash.update(new);
        let count = new.len();
        let is_behind = |disk: &OnDisk| BEHIND_MAX <= disk.even_at.elapsed();
        if self.disk.as_ref().is_some_and(is_behind) {
            self.keep()?;
        }
        Ok(count)
    }

    /// Writes what is not in the file yet, if there is a folder for it.
    pub(super) fn keep(&mut self) -> io::Result<()> {
        match &mut self.disk {
            Some(disk) => disk.write(&self.bytes),
            None => Ok(()),
        }
    }

    /// Writes the rest of a content that is whole if some of it is in the file.
    pub(super) fn keep_rest(&mut self) -> io::Result<()> {
        let is_begun = self.disk.as_ref().is_some_and(|disk| disk.file.is_some());
        if is_begun { self.keep() } else { Ok(()) }
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

impl OnDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::create(&self.path)?),
        };
        file.write_all(&bytes[self.written..])?;
        self.written = bytes.len();
        self.even_at = Instant::now();
        Ok(())
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
