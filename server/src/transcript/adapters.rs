//! The adapters of a run's folder against the transcript, and against each other.
//!
//! A record has the digest of an adapter's values. What else decides how a model with it behaves (scale, modules, base model) is
//! in the run plan, which the folder does not hold; so that is compared between the folders.

use std::fs;
use std::path::{Path, PathBuf};

use aggregation::peft::{self, PeftConfig, Sidecar};
use protocol::Digest;

use super::AuditError;
use super::audit::AuditedRound;
use crate::record::{FINAL_FOLDER, round_folder};
use crate::start::{CONFIG_FILE, MODEL_FILE, SIDECAR_FILE};

/// Compares the adapters that are on disk, the final one with the last record; ones that were moved away are not missed. Gives the names
/// of their folders.
pub(super) fn compare(run: &Path, rounds: &[AuditedRound]) -> Result<Vec<String>, AuditError> {
    let of_rounds = rounds.iter().map(|of| (round_folder(of.round()), of));
    let last = rounds.last().map(|of| (FINAL_FOLDER.to_owned(), of));
    let mut first: Option<AdapterOnDisk> = None;
    let mut compared = Vec::new();
    for (name, of) in of_rounds.chain(last) {
        let folder = run.join(&name);
        if !folder.exists() {
            continue;
        }
        let found = AdapterOnDisk::read(folder, of)?;
        match &first {
            Some(first) => found.check_like(first, of)?,
            None => first = Some(found),
        }
        compared.push(name);
    }
    Ok(compared)
}

/// What a folder says beside its values, which are those on record.
struct AdapterOnDisk {
    folder: PathBuf,
    config: PeftConfig,
    sidecar: Sidecar,
}

impl AdapterOnDisk {
    /// Reads a folder that should hold the adapter of this record.
    fn read(folder: PathBuf, of: &AuditedRound) -> Result<Self, AuditError> {
        let read = |name: &str| {
            let file = folder.join(name);
            fs::read(&file).map_err(AuditError::read(&file))
        };
        let other = |what: String| of.contradicted_by(&folder, what);
        let loaded = peft::load(&read(CONFIG_FILE)?, &read(MODEL_FILE)?);
        let (adapter, config) = loaded.map_err(|error| other(error.to_string()))?;
        let sidecar = Sidecar::from_json(&read(SIDECAR_FILE)?);
        let sidecar = sidecar.map_err(|error| other(error.to_string()))?;
        let found = Digest(adapter.sha256());
        if found != of.record.heading.adapter {
            return Err(other(format!("it holds the adapter {found}")));
        }
        Ok(Self {
            folder,
            config,
            sidecar,
        })
    }

    /// Refuses a folder that says something else than another of the same run.
    fn check_like(&self, first: &Self, of: &AuditedRound) -> Result<(), AuditError> {
        let file = if self.config != first.config {
            CONFIG_FILE
        } else if self.sidecar != first.sidecar {
            SIDECAR_FILE
        } else {
            return Ok(());
        };
        let what = format!(
            "its {file} says something else than that of {}, and all adapters of a run are alike but for their values",
            first.folder.display()
        );
        Err(of.contradicted_by(&self.folder, what))
    }
}
