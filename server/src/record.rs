//! What a run leaves on disk: a line a round in `rounds.jsonl`, and adapters as PEFT folders.
//!
//! A folder appears whole or not at all: it is written under a temporary name, synced and renamed. A line is written
//! after the folder it tells of, and synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aggregation::Adapter;
use aggregation::peft::{self, Sidecar};
use serde::{Deserialize, Serialize};

use crate::error::ServerError;
use crate::start::{CONFIG_FILE, MODEL_FILE, SIDECAR_FILE};

/// One line of `rounds.jsonl`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RoundRecord {
    /// The round, from 1.
    pub round: u32,
    /// From its opening to the next adapter on disk.
    pub seconds: f64,
    /// Whose updates were counted, by name.
    pub participants: Vec<CountedUpdate>,
    /// Whose updates were refused, by name.
    pub refused: Vec<RefusedUpdate>,
    /// Who was asked, or is named in the plan, and delivered nothing.
    pub missing: Vec<String>,
    /// Euclidean norm of the mean update.
    pub update_norm: f64,
    /// Relative error of averaging the factors apart; see `aggregation::inexactness`.
    pub inexactness: f64,
    /// Bulk bytes received since the round before.
    pub bytes_up: u64,
    /// Bulk bytes sent since the round before.
    pub bytes_down: u64,
    /// SHA-256 of the next global adapter's values as little-endian f32.
    pub adapter_sha256: String,
    /// What anchoring did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ewc: Option<EwcRecord>,
}

/// One update that was counted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CountedUpdate {
    /// Whose.
    pub name: String,
    /// Training examples used.
    pub weight: u64,
    /// Length of the update in bytes.
    pub bytes: u64,
    /// Mean training loss in nats per response token, if the site reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_loss: Option<f32>,
}

/// One update that was refused.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RefusedUpdate {
    /// Whose.
    pub name: String,
    /// The label of the reason, as in metrics: `not-finite`.
    pub reason: String,
    /// What exactly was found, if the update was looked into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What anchoring did in a round.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct EwcRecord {
    /// `client` or `server`.
    pub place: String,
    /// The plan's strength.
    pub lambda: f64,
    /// Penalty of the mean adapter, in nats a token, before the server's step if it takes one.
    pub penalty_before: f64,
    /// Penalty of the next global adapter, in nats a token.
    pub penalty: f64,
}

/// The folder of one run.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    rounds: File,
    base_name: String,
    dropout: f64,
    sidecar: Vec<u8>,
}

impl RunFolder {
    /// Makes the run's folder. One with a finished round, or of a server that is running, is refused.
    pub(crate) fn create(
        path: &Path,
        sidecar: &Sidecar,
        dropout: f64,
    ) -> Result<Self, ServerError> {
        fs::create_dir_all(path).map_err(ServerError::write(path))?;
        let lines = path.join("rounds.jsonl");
        let rounds = open_rounds(&lines).map_err(ServerError::write(&lines))?;
        // A run that ended before its first round has nothing to lose, and starts again under its name.
        let Some(rounds) = rounds else {
            return Err(ServerError::RunExists {
                folder: path.to_owned(),
            });
        };
        sync_folder(path).map_err(ServerError::write(path))?;
        Ok(Self {
            path: path.to_owned(),
            rounds,
            base_name: sidecar.base_name.clone(),
            dropout,
            sidecar: sidecar.to_json(),
        })
    }

    /// Writes the adapter that came out of a round.
    pub(crate) fn write_round(
        &self,
        round: u32,
        adapter: &Adapter,
    ) -> Result<PathBuf, ServerError> {
        self.write_adapter(&format!("round-{round:04}"), adapter)
    }

    /// Writes the adapter that came out of the run.
    pub(crate) fn write_final(&self, adapter: &Adapter) -> Result<PathBuf, ServerError> {
        self.write_adapter("adapter", adapter)
    }

    /// Adds a line to `rounds.jsonl`.
    pub(crate) fn append(&mut self, record: &RoundRecord) -> Result<(), ServerError> {
        let mut line = serde_json::to_vec(record).map_err(|error| ServerError::Internal {
            what: format!("a round's record is not JSON: {error}"),
        })?;
        line.push(b'\n');
        let written = self
            .rounds
            .write_all(&line)
            .and_then(|()| self.rounds.sync_data());
        written.map_err(ServerError::write(&self.path.join("rounds.jsonl")))
    }

    fn write_adapter(&self, name: &str, adapter: &Adapter) -> Result<PathBuf, ServerError> {
        let folder = peft::save(adapter, &self.base_name, self.dropout);
        let files = [
            (CONFIG_FILE, &folder.config_json),
            (MODEL_FILE, &folder.safetensors),
            (SIDECAR_FILE, &self.sidecar),
        ];
        let target = self.path.join(name);
        write_folder(&self.path, &target, &files).map_err(ServerError::write(&target))?;
        Ok(target)
    }
}

/// Opens `rounds.jsonl` for this process alone; none if it has lines or another process has it.
fn open_rounds(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    match file.try_lock() {
        Ok(()) if file.metadata()?.len() == 0 => Ok(Some(file)),
        Ok(()) | Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Writes a folder of files so that it is there whole or not at all.
fn write_folder(parent: &Path, target: &Path, files: &[(&str, &Vec<u8>)]) -> io::Result<()> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.part"));
    if temporary.exists() {
        fs::remove_dir_all(&temporary)?;
    }
    fs::create_dir(&temporary)?;
    for (name, content) in files {
        let mut file = File::create_new(temporary.join(name))?;
        file.write_all(content)?;
        file.sync_all()?;
    }
    sync_folder(&temporary)?;
    fs::rename(&temporary, target)?;
    sync_folder(parent)
}

/// Makes the names in a folder durable. Only Unix can open a folder.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(path)?.sync_all()
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
