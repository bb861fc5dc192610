//! The whole file read: its entries, its chain, and what a crash may have left at its end.

use std::{fs, io, path::Path};

use protocol::Digest;

use super::{
    LedgerError, damaged,
    entry::{Entry, Fact},
    failed,
    line::{self, Line},
    totals::Totals,
    verify::Flaw,
};
use crate::kept_head::KeptHead;

/// A ledger whose chain holds. Signatures are [`verify()`](super::verify())'s business, but for [`Reading::check_end`].
#[derive(Clone, Debug)]
pub struct Reading {
    /// The entries of whole lines.
    pub entries: Vec<Entry>,
    /// SHA-256 of the last whole line; zeros without one.
    pub head: Digest,
    /// The entries added up.
    pub totals: Totals,
    /// What follows the last whole line, if anything does.
    pub tail: Option<Tail>,
    lines: Vec<Line>,
}

/// The beginning of a line that a crash cut off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tail {
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

impl Reading {
    /// Reads the file's bytes.
    ///
    /// # Errors
    /// [`Flaw`] names the first line that is not one, or does not follow from the one before it.
    pub fn of(bytes: &[u8]) -> Result<Self, Flaw> {
        let whole = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        let (whole, tail) = bytes.split_at(whole);
        let mut reading = Self {
            entries: Vec::new(),
            head: Digest::default(),
            totals: Totals::default(),
            tail: (!tail.is_empty()).then(|| Tail {
                bytes: tail.len() as u64,
                sha256: Digest::of(tail),
            }),
            lines: Vec::new(),
        };
        for text in whole.split_inclusive(|&byte| byte == b'\n') {
            reading.take(text)?;
        }
        Ok(reading)
    }

    /// Reads the ledger at a path, with nothing missing since its head was kept. One that never was is empty.
    ///
    /// # Errors
    /// [`LedgerError`] if it cannot be read, is damaged, or is gone though a head is kept.
    pub fn at(path: &Path) -> Result<Self, LedgerError> {
        let head = KeptHead::beside(path)?;
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(failed("read", path))?,
        };
        Self::whole(&bytes, head.as_ref()).map_err(damaged(path))
    }

    /// Reads a ledger's bytes, whose end must be as it was written, and whose lines must be all that this head counts.
    pub(super) fn whole(bytes: &[u8], head: Option<&KeptHead>) -> Result<Self, Flaw> {
        let reading = Self::of(bytes)?;
        reading.check_end()?;
        reading.check_head(head)?;
        Ok(reading)
    }

    /// Looks whether the last line is signed by the key that the ledger was opened with: a change of any other line breaks the chain, and
    /// a change of the last one only its signature.
    ///
    /// # Errors
    /// [`Flaw`] if it is not.
    pub fn check_end(&self) -> Result<(), Flaw> {
        let Some(last) = self.lines.last() else {
            return Ok(());
        };
        let opened = self
            .entries
            .iter()
            .rev()
            .find_map(|entry| match &entry.fact {
                Fact::Opened { public_key, .. } => Some(public_key),
                _ => None,
            });
        let what = match opened {
            None => "no line before it says whose key signs it",
            Some(key) if !last.is_signed_by(key) => {
                "its signature does not fit: it was changed, or somebody else wrote it"
            }
            Some(_) => return Ok(()),
        };
        Err(Flaw {
            line: self.lines.len() as u64,
            what: what.to_owned(),
        })
    }

    /// Looks whether the file still has the lines that it had when this head was kept. The head must have been read first: another process
    /// may be writing.
    ///
    /// # Errors
    /// [`Flaw`] if lines are missing at its end, or others stand in their place.
    pub fn check_head(&self, head: Option<&KeptHead>) -> Result<(), Flaw> {
        let Some(KeptHead { entries, sha256 }) = head else {
            return Ok(());
        };
        let there = self.entries.len() as u64;
        if there < *entries {
            let what = format!(
                "the head beside it was kept when there were {entries} lines: those after it are missing"
            );
            return Err(Flaw { line: there, what });
        }
        let next = self.entries.iter().find(|entry| entry.number == *entries);
        if *sha256 == next.map_or(self.head, |next| next.previous) {
            return Ok(());
        }
        let what = format!(
            "it is not the one that was there when the head beside it was kept, whose SHA-256 was {sha256}"
        );
        Err(Flaw {
            line: *entries,
            what,
        })
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    fn take(&mut self, text: &[u8]) -> Result<(), Flaw> {
        let number = self.lines.len() as u64;
        let flaw = |what: String| Flaw {
            line: number + 1,
            what,
        };
        let text = std::str::from_utf8(text).map_err(|_| flaw("it is not text".to_owned()))?;
        let line = Line::read(text.trim_end_matches('\n')).map_err(flaw)?;
        let entry = &line.entry;
        if entry.number != number {
            return Err(flaw(format!(
                "it has number {}, and {number} is due: lines are missing or were put in",
                entry.number
            )));
        }
        if entry.previous != self.head {
            return Err(flaw(
                "the line before it is not the one that was there when it was written".to_owned(),
            ));
        }
        self.head = line::digest(text);
        self.totals.add(entry);
        self.entries.push(entry.clone());
        self.lines.push(line);
        Ok(())
    }
}
