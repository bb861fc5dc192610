//! A transcript's file, record by record, each in its one form.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use protocol::transcript::SealedRecord;

use super::AuditError;

/// The longest line that is read: a record of tens of thousands of participants.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// An open file and how far it was read.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    line: u32,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, AuditError> {
        let file = File::open(path).map_err(AuditError::read(path))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::new(file),
            line: 0,
        })
    }

    /// The number of the last line that was read, from 1.
    pub(super) fn line(&self) -> u32 {
        self.line
    }

    /// The next record; none after the last.
    ///
    /// # Errors
    /// [`AuditError`] if the line is none, or is written otherwise than this program writes it: a record has one form, so that
    /// no change to the file goes unnoticed.
    pub(super) fn next(&mut self) -> Result<Option<SealedRecord>, AuditError> {
        let mut line = Vec::new();
        let mut limited = self.file.by_ref().take(LINE_BYTES_MAX);
        let read = limited.read_until(b'\n', &mut line);
        if read.map_err(AuditError::read(&self.path))? == 0 {
            return Ok(None);
        }
        self.line = self.line.saturating_add(1);
        let bad = |what: &str| self.bad(what);
        let Some(text) = line.strip_suffix(b"\n") else {
            return Err(bad("the line is cut off, or longer than any record"));
        };
        let record: SealedRecord =
            serde_json::from_slice(text).map_err(|error| bad(&error.to_string()))?;
        let again = serde_json::to_vec(&record).map_err(|error| bad(&error.to_string()))?;
        if again != text {
            return Err(bad("the line is not written as a server writes it"));
        }
        Ok(Some(record))
    }

    /// Blames the line that was read last.
    pub(super) fn bad(&self, what: &str) -> AuditError {
        AuditError::Record {
            path: self.path.clone(),
            line: self.line,
            what: what.to_owned(),
        }
    }
}
