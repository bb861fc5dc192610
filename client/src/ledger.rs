//! The egress ledger: what this site has sent, written down before it leaves.
//!
//! One file, one JSON object a line, only ever appended to. Each line holds the SHA-256 of the one before it and is signed by
//! the key of the site's certificate, so that a line that was changed, taken out or put in is noticed ([`verify()`]). So are lines
//! that are missing at the end, by the [`KeptHead`] that is kept beside the file after each transfer and each connection.
//!
//! What is counted: every byte that the program hands to a QUIC stream (the greeting, each message with its length, each
//! transfer with its header), by purpose, before it is handed over and after the line is on disk. So a crash, or a transfer
//! that breaks off, can only make the ledger say more than left, never less. And, once a connection is over, one line with the
//! datagrams that its socket sent, which has what QUIC and TLS added. Headers of UDP and IP are not counted.

mod entry;
mod line;
mod reading;
mod table;
mod totals;
mod verify;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use protocol::{Digest, Round, quic::TlsMaterial};

pub use self::{
    entry::{Entry, Fact, Purpose, RunReference},
    reading::{Reading, Tail},
    table::{is_csv, to_csv},
    totals::Totals,
    verify::{Flaw, Verified, verify},
};
use crate::{
    durable,
    kept_head::{HeadError, KeptHead},
};

/// The ledger of one site, open for appending; nobody else can open it meanwhile.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    tls: TlsMaterial,
    /// Bytes of whole lines in the file.
    length: u64,
    next: u64,
    previous: Digest,
    totals: Totals,
}

impl Ledger {
    /// Opens the ledger, makes it if there is none, and writes down who writes from here on.
    ///
    /// A line that a crash cut off is taken away: its bytes had not left. That, and connections of an earlier process whose
    /// datagrams were never counted, are written down too.
    ///
    /// # Errors
    /// [`LedgerError`] if the file cannot be used, is in use, or is damaged otherwise than by a line that is cut off at its end.
    pub fn open(
        path: &Path,
        tls: &TlsMaterial,
        software: &str,
        now: Timestamp,
    ) -> Result<Self, LedgerError> {
        let failed = |verb| failed(verb, path);
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
        }
        let mut file = create(path).map_err(failed("open"))?;
        // It may be new: what is written to it must not be in a file without a name.
        durable::sync_folder_of(path).map_err(failed("make durable"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LedgerError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
        }
        let head = KeptHead::beside(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("read"))?;
        let reading = Reading::whole(&bytes, head.as_ref()).map_err(damaged(path))?;
        let length = bytes.len() as u64 - reading.tail.as_ref().map_or(0, |tail| tail.bytes);
        file.set_len(length).map_err(failed("cut"))?;
        file.seek(io::SeekFrom::End(0)).map_err(failed("read"))?;
        let unclosed = reading.totals.open_connections();
        let mut ledger = Self {
            path: path.to_owned(),
            file,
            tls: tls.clone(),
            length,
            next: reading.entries.len() as u64,
            previous: reading.head,
            totals: reading.totals,
        };
        ledger.record(Fact::opened(tls, software), now)?;
        if let Some(tail) = reading.tail {
            ledger.record(
                Fact::Torn {
                    bytes: tail.bytes,
                    sha256: tail.sha256,
                },
                now,
            )?;
        }
        for connection in unclosed {
            ledger.record(Fact::Uncounted { connection }, now)?;
        }
        ledger.keep_head()?;
        Ok(ledger)
    }

    /// Writes a line; when this returns it is on disk.
    ///
    /// # Errors
    /// [`LedgerError::Io`], also if the file was moved away or replaced, or its head cannot be kept; then the line does not count as
    /// written, and nothing may leave for it.
    pub fn record(&mut self, fact: Fact, now: Timestamp) -> Result<(), LedgerError> {
        let entry = Entry {
            number: self.next,
            at: now,
            previous: self.previous,
            fact,
        };
        durable::check_is_there(&self.file, &self.path).map_err(failed("find", &self.path))?;
        let line = line::write(&entry, |message| self.tls.sign(message));
        let written = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What is half written would be taken for damage by the next line.
            let _ = self.file.set_len(self.length);
            let _ = self.file.seek(io::SeekFrom::End(0));
            return Err(failed("write", &self.path)(error));
        }
        self.length += line.len() as u64;
        self.next += 1;
        self.previous = line::digest(&line);
        self.totals.add(&entry);
        match entry.fact {
            Fact::Transfer { .. } | Fact::Closed { .. } => self.keep_head(),
            _ => Ok(()),
        }
    }

    /// From here on it is noticed if lines up to this one are cut off.
    fn keep_head(&self) -> Result<(), LedgerError> {
        let head = KeptHead {
            entries: self.next,
            sha256: self.previous,
        };
        Ok(head.keep(&self.path)?)
    }

    /// Bytes that left in the 24 hours before `now`, over all runs.
    pub fn day_bytes(&self, now: Timestamp) -> u64 {
        self.totals.day_bytes(now)
    }

    /// Bytes that left for this round of the run with this plan.
    pub fn round_bytes(&self, plan: Digest, round: Round) -> u64 {
        self.totals.round_bytes(plan, round)
    }

    /// A number for a connection, not used before in this file.
    pub fn next_connection(&self) -> u64 {
        self.totals.next_connection()
    }

    /// Everything so far, added up.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The SHA-256 of the last line: who keeps it can tell later whether lines were cut off.
    pub fn head(&self) -> Digest {
        self.previous
    }
}

/// A ledger that cannot be used. Without one nothing leaves.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The operating system refused.
    #[error("cannot {verb} the egress ledger {}: {source}; nothing leaves without it", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Another process writes it.
    #[error("the egress ledger {} is being written by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// What is kept beside it, to notice lines that are missing at its end.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// It is not what was written.
    #[error("the egress ledger {} is damaged: {flaw}; keep it as evidence, and name another file to begin a new one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and how.
        flaw: Flaw,
    },
}

fn failed<'a>(verb: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LedgerError + 'a {
    move |source| LedgerError::Io {
        verb,
        path: path.to_owned(),
        source,
    }
}

fn damaged(path: &Path) -> impl FnOnce(Flaw) -> LedgerError + '_ {
    move |flaw| LedgerError::Damaged {
        path: path.to_owned(),
        flaw,
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}
