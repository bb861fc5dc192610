//! The offline check: needs the file and the authority's certificate, no key and no network.
//!
//! Of a run's folder also the other files are compared: `rounds.jsonl` names the same adapters, and the adapters on disk are
//! those ([`super::adapters`]). What no check of one file can find is a transcript that ends too early: compare the last hash with a
//! participant's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use protocol::identity::Identity;
use protocol::quic::{Authorities, MaterialError, signer};
use protocol::transcript::{Chain, Record, SealedRecord, participant_digest};
use protocol::{Digest, ParticipantName};

use super::adapters;
use super::reader::Reader;
use crate::record::{ROUNDS_FILE, RoundRecord, TRANSCRIPT_FILE};

/// A transcript that was read and found right.
#[derive(Debug)]
pub struct Audit {
    /// Whose it is.
    pub server: Identity,
    /// The digest of the run plan.
    pub plan: Digest,
    /// Its records, in order.
    pub rounds: Vec<AuditedRound>,
    /// The hash of the last record.
    pub last: Digest,
    /// Names by the digests under which they appear, as far as the run's folder tells.
    pub names: BTreeMap<Digest, ParticipantName>,
    /// The folders of adapters that were compared, by name: those of rounds in order, then the final one.
    pub adapters: Vec<String>,
}

/// One record that was found right.
#[derive(Debug)]
pub struct AuditedRound {
    /// The record.
    pub record: Record,
    /// The serial number of the certificate that it was signed with, in hexadecimal.
    pub serial: String,
}

impl AuditedRound {
    pub(super) fn round(&self) -> u32 {
        self.record.heading.round.0
    }

    /// A file or folder that says something else than this record.
    pub(super) fn contradicted_by(&self, path: &Path, what: String) -> AuditError {
        AuditError::Other {
            round: self.round(),
            path: path.to_owned(),
            what,
        }
    }
}

/// A transcript that cannot be believed, or not be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The authority's certificate cannot be used.
    #[error("{}: {source}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: MaterialError,
    },
    /// A record is bad; those before it are right.
    #[error("record {line} of {} is bad: {what}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Its place, from 1.
        line: u32,
        /// Why.
        what: String,
    },
    /// There is no record at all.
    #[error("{} holds no record: no round is done", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Another file of the run's folder says something else than the transcript.
    #[error("round {round}: {} is not what the transcript says: {what}", path.display())]
    Other {
        /// The first such round.
        round: u32,
        /// The file or folder.
        path: PathBuf,
        /// What differs.
        what: String,
    },
}

impl AuditError {
    pub(super) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Read {
            path: path.to_owned(),
            source,
        }
    }
}

/// Checks a transcript's file, or the transcript of a run's folder and the folder against it.
///
/// # Errors
/// [`AuditError`] names the first record that is bad, and why.
pub fn audit(path: &Path, authority: &Path) -> Result<Audit, AuditError> {
    let pem = fs::read_to_string(authority).map_err(AuditError::read(authority))?;
    let authorities = Authorities::from_pem(&pem).map_err(|source| AuditError::Authority {
        path: authority.to_owned(),
        source,
    })?;
    if !path.is_dir() {
        return audit_file(path, &authorities);
    }
    let mut audit = audit_file(&path.join(TRANSCRIPT_FILE), &authorities)?;
    audit.compare_rounds(&path.join(ROUNDS_FILE))?;
    audit.adapters = adapters::compare(path, &audit.rounds)?;
    Ok(audit)
}

fn audit_file(path: &Path, authorities: &Authorities) -> Result<Audit, AuditError> {
    let mut reader = Reader::open(path)?;
    let mut found: Option<(Identity, Chain)> = None;
    let mut rounds = Vec::new();
    while let Some(SealedRecord { record, seal }) = reader.next()? {
        let bad = |what: &dyn ToString| reader.bad(&what.to_string());
        let bytes = record.heading.signed_bytes();
        let certificate = signer(authorities, &bytes, &seal).map_err(|fault| bad(&fault))?;
        record.check_lines().map_err(|fault| bad(&fault))?;
        let (server, chain) = found.get_or_insert_with(|| {
            let chain = Chain::new(record.heading.plan);
            (certificate.identity.clone(), chain)
        });
        if certificate.identity != *server {
            let other = certificate.identity;
            return Err(bad(&format!(
                "it is signed by {other}, and those before it by {server}"
            )));
        }
        chain.extend(&record.heading).map_err(|fault| bad(&fault))?;
        rounds.push(AuditedRound {
            record,
            serial: certificate.serial,
        });
    }
    debug_assert_eq!(reader.line() as usize, rounds.len());
    let Some((server, chain)) = found else {
        return Err(AuditError::Empty {
            path: path.to_owned(),
        });
    };
    Ok(Audit {
        server,
        plan: chain.plan(),
        last: chain.last(),
        rounds,
        names: BTreeMap::new(),
        adapters: Vec::new(),
    })
}

impl Audit {
    /// Compares with the lines about the rounds, and learns the names in them.
    fn compare_rounds(&mut self, path: &Path) -> Result<(), AuditError> {
        let text = fs::read_to_string(path).map_err(AuditError::read(path))?;
        let other = |round, what: &str| AuditError::Other {
            round,
            path: path.to_owned(),
            what: what.to_owned(),
        };
        let mut names = BTreeSet::new();
        let mut lines = text.lines();
        for AuditedRound { record, .. } in &self.rounds {
            let round = record.heading.round.0;
            let line = lines.next().ok_or_else(|| other(round, "it ends before"))?;
            let said: RoundRecord =
                serde_json::from_str(line).map_err(|error| other(round, &error.to_string()))?;
            if said.round != round || said.adapter_sha256 != record.heading.adapter.to_string() {
                return Err(other(round, "it names another adapter"));
            }
            names.extend(said.participants.into_iter().map(|one| one.name));
            names.extend(said.refused.into_iter().map(|one| one.name));
            names.extend(said.missing);
        }
        if lines.next().is_some() {
            let after = u32::try_from(self.rounds.len()).unwrap_or(u32::MAX);
            return Err(other(
                after.saturating_add(1),
                "it has a round that is not on record",
            ));
        }
        let names = names
            .iter()
            .filter_map(|name| name.parse::<ParticipantName>().ok());
        let known = names.map(|name| (participant_digest(self.plan, &name), name));
        self.names = known.collect();
        Ok(())
    }
}
