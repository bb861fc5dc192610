//! The file in which private steps are counted.
//!
//! JSON lines: the format, then one entry for every batch of steps, oldest first, each with a SHA-256 over itself and what came before
//! it, so that a damaged or edited file is noticed. (Whoever may write the file can also write it anew: it is evidence for the
//! site, not against it.) A change replaces the whole file, durably, before it counts as made; the [`KeptHead`] beside it, which is
//! replaced next, tells an older file from it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aggregation::privacy::{Accountant, PrivacyError, SampledGaussian};
use protocol::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    durable,
    kept_head::{HeadError, KeptHead},
};

const FORMAT: &str = "foedus-privacy-ledger/1";
const OTHER_FORM: &str = "it is not written as this program writes it";

/// The largest ledger that is read: about half a million entries.
const BYTES_MAX: u64 = 256 << 20;

/// One batch of private steps, counted before it was done.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When it was counted.
    pub at: jiff::Timestamp,
    /// What for: the run's name, or "train".
    pub purpose: String,
    /// Which training: the digest of the run's plan; all zeros for a training alone.
    pub training: Digest,
    /// SHA-256 of the data that was read.
    pub data: Digest,
    /// What was protected: "record", or the field by which records were grouped.
    pub unit: String,
    /// How many of them there were.
    pub units: u64,
    /// With what probability each joined a step.
    pub sampling_rate: f64,
    /// Standard deviation of the noise over the clipping norm.
    pub noise_multiplier: f64,
    /// The training's step that the batch began with.
    pub first_step: u64,
    /// Steps.
    pub steps: u64,
    /// Whether these steps had been counted before, by a process that did not finish them.
    pub again: bool,
}

impl Entry {
    /// Gives what each of its steps was.
    ///
    /// # Errors
    /// [`PrivacyError`] if its numbers make no sense.
    pub fn step(&self) -> Result<SampledGaussian, PrivacyError> {
        SampledGaussian::new(self.sampling_rate, self.noise_multiplier)
    }
}

#[derive(Debug, Deserialize, Serialize)]
struct FirstLine {
    format: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct Line {
    entry: Entry,
    chain: Digest,
}

/// All that was counted at a site, for one body of data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    entries: Vec<Entry>,
}

/// A ledger that cannot be used; nothing private is trained then.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The operating system refused.
    #[error("cannot {verb} the privacy ledger {}: {source}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "the privacy ledger {}, line {line}, is damaged: {what}; restore it from a backup: without it nobody knows what was spent, and \
         what was spent since the backup is not in it: lower epsilon_max by that",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// It is an older one than was there, or another.
    #[error(
        "the privacy ledger {} has {} entries and the head beside it was kept when there were {}: it is an older one or another; put the \
         later one back, or, if that is lost, lower epsilon_max by what the missing entries may have spent and remove {}",
        path.display(), entries, kept.entries, KeptHead::path(path).display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// How many it has.
        entries: usize,
        /// What is kept of the later one.
        kept: KeptHead,
    },
    /// What is kept beside it, to notice that it is an older one.
    #[error(transparent)]
    Head(#[from] HeadError),
}

impl Ledger {
    /// Reads a ledger; one that is not there is empty.
    ///
    /// # Errors
    /// [`LedgerError`] names the file, and the line if one is damaged, or says how many entries are missing.
    pub fn read(path: &Path) -> Result<Self, LedgerError> {
        let head = KeptHead::beside(path)?;
        let ledger = Self::read_alone(path)?;
        match head {
            Some(kept) if ledger.head_after(kept.entries) != Some(kept.sha256) => {
                Err(LedgerError::Older {
                    path: path.to_owned(),
                    entries: ledger.entries.len(),
                    kept,
                })
            }
            _ => Ok(ledger),
        }
    }

    fn read_alone(path: &Path) -> Result<Self, LedgerError> {
        let length = match fs::metadata(path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed("read", path)(error)),
        };
        if length > BYTES_MAX {
            let source = io::Error::other(format!("it has {length} bytes, more than any ledger"));
            return Err(failed("read", path)(source));
        }
        let bytes = fs::read(path).map_err(failed("read", path))?;
        Self::parse(&bytes).map_err(|(line, what)| LedgerError::Damaged {
            path: path.to_owned(),
            line,
            what,
        })
    }

    /// Adds an entry and writes the file, durably and whole, or what was there stays; then its head.
    ///
    /// # Errors
    /// [`LedgerError::Io`]; the ledger is then as it was. [`LedgerError::Head`]; then the entry is in it.
    pub(super) fn append(&mut self, path: &Path, entry: Entry) -> Result<(), LedgerError> {
        self.entries.push(entry);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            durable::replace(path, self.to_text().as_bytes())
        };
        let written = write().map_err(failed("write", path));
        if written.is_err() {
            self.entries.pop();
        }
        written?;
        let head = KeptHead {
            entries: self.entries.len() as u64,
            sha256: self.head(),
        };
        Ok(head.keep(path)?)
    }

    /// Gives all entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Gives how far one training was counted: the step after the last one that was.
    pub fn counted_until(&self, training: Digest) -> u64 {
        let ours = self.entries.iter();
        let ours = ours.filter(|entry| entry.training == training);
        let ends = ours.map(|entry| entry.first_step.saturating_add(entry.steps));
        ends.max().unwrap_or(0)
    }

    /// Gives the SHA-256 over everything: who keeps it, and how many entries there were, can tell later whether a ledger is an older one.
    pub fn head(&self) -> Digest {
        chain(&self.entries)
    }

    /// The head that it had when there were so many entries, if there were.
    fn head_after(&self, entries: u64) -> Option<Digest> {
        let entries = usize::try_from(entries).ok()?;
        self.entries.get(..entries).map(chain)
    }

    /// Adds up the entries that `counts` says.
    ///
    /// # Errors
    /// [`PrivacyError`] if an entry's numbers make no sense.
    pub fn accountant(&self, counts: impl Fn(&Entry) -> bool) -> Result<Accountant, PrivacyError> {
        let mut accountant = Accountant::default();
        for entry in self.entries.iter().filter(|entry| counts(entry)) {
            accountant.add(entry.step()?, entry.steps);
        }
        Ok(accountant)
    }

    /// Each line has one form, so that no change of the file goes unnoticed but for lines that are missing at its end.
    fn parse(bytes: &[u8]) -> Result<Self, (usize, String)> {
        let line_of =
            |place: usize| 1 + bytes[..place].iter().filter(|&&byte| byte == b'\n').count();
        let text = std::str::from_utf8(bytes)
            .map_err(|error| (line_of(error.valid_up_to()), "it is not text".to_owned()))?;
        let whole = text
            .strip_suffix('\n')
            .ok_or_else(|| (line_of(text.len()), "it is cut off".to_owned()))?;
        let mut lines = (1..).zip(whole.split('\n'));
        let (_, head) = lines.next().ok_or_else(|| (1, "it is empty".to_owned()))?;
        let read: FirstLine = serde_json::from_str(head).map_err(|error| (1, error.to_string()))?;
        if read.format != FORMAT {
            return Err((
                1,
                format!("its format is {:?}, not {FORMAT:?}", read.format),
            ));
        }
        if json(&read) != head {
            return Err((1, OTHER_FORM.to_owned()));
        }
        let (mut entries, mut chain) = (Vec::new(), Digest::of(head.as_bytes()));
        for (number, line) in lines {
            let damaged = |what: String| (number, what);
            let read: Line =
                serde_json::from_str(line).map_err(|error| damaged(error.to_string()))?;
            if json(&read) != line {
                return Err(damaged(OTHER_FORM.to_owned()));
            }
            let Line { entry, chain: said } = read;
            chain = link(chain, &entry);
            if said != chain {
                return Err(damaged(
                    "it is not the line that was written here".to_owned(),
                ));
            }
            entry.step().map_err(|error| damaged(error.to_string()))?;
            entries.push(entry);
        }
        Ok(Self { entries })
    }

    fn to_text(&self) -> String {
        let head = json(&FirstLine {
            format: FORMAT.to_owned(),
        });
        let mut chain = Digest::of(head.as_bytes());
        let mut text = head + "\n";
        for entry in &self.entries {
            chain = link(chain, entry);
            let line = Line {
                entry: entry.clone(),
                chain,
            };
            text += &json(&line);
            text.push('\n');
        }
        text
    }
}

fn chain(entries: &[Entry]) -> Digest {
    let head = json(&FirstLine {
        format: FORMAT.to_owned(),
    });
    entries.iter().fold(Digest::of(head.as_bytes()), link)
}

fn link(before: Digest, entry: &Entry) -> Digest {
    Digest::of(&[before.0.as_slice(), json(entry).as_bytes()].concat())
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain values have a JSON form")
}

pub(super) fn failed<'a>(
    verb: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> LedgerError + 'a {
    move |source| LedgerError::Io {
        verb,
        path: path.to_owned(),
        source,
    }
}
