//! What a run leaves on disk: a line a round in `rounds.jsonl` and `transcript.jsonl`, and adapters as PEFT folders.
//!
//! A folder appears whole or not at all: it is written under a temporary name, synced and renamed. A line is written
//! after the folder it tells of; the journal makes it durable, see `lines.rs`.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aggregation::Adapter;
use aggregation::encoding::le_bytes;
use aggregation::peft::{self, PeftPieces, Sidecar};
use protocol::Digest;
use protocol::transcript::SealedRecord;
use serde::{Deserialize, Serialize};

use crate::durable::{self, sync_folder};
use crate::error::ServerError;
use crate::journal::JournalError;
use crate::lines::LineFile;
use crate::participant_privacy::NoiseKeyFile;
use crate::start::{CONFIG_FILE, MODEL_FILE, SIDECAR_FILE};

pub(crate) const ROUNDS_FILE: &str = "rounds.jsonl";
pub(crate) const TRANSCRIPT_FILE: &str = "transcript.jsonl";
/// The folder of the adapter that came out of the run.
pub(crate) const FINAL_FOLDER: &str = "adapter";
pub(crate) const JOURNAL_FILE: &str = "journal.redb";

/// One line of `rounds.jsonl`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RoundRecord {
    /// The round, from 1.
    pub round: u32,
    /// From its opening to the next adapter, which can then be formed again from what is on disk.
    pub seconds: f64,
    /// Whose updates were counted, by name.
    pub participants: Vec<CountedUpdate>,
    /// Whose updates were refused, by name.
    pub refused: Vec<RefusedUpdate>,
    /// Who was asked, or is named in the plan, and delivered nothing.
    pub missing: Vec<String>,
    /// Euclidean norm of the update by which the global adapter was moved.
    pub update_norm: f64,
    /// Relative error of averaging the factors apart; see `aggregation::inexactness`. Not known if updates were summed in a ring, nor
    /// under a robust rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inexactness: Option<f64>,
    /// The robust rule and its numbers; none if updates were summed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// How far the next global adapter moves by the encoding in which it is sent, relative to its norm.
    #[serde(default)]
    pub rounding: f64,
    /// Bulk bytes received since the round before.
    pub bytes_up: u64,
    /// Bulk bytes sent since the round before.
    pub bytes_down: u64,
    /// SHA-256 of the next global adapter's values as little-endian f32.
    pub adapter_sha256: String,
    /// What anchoring did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ewc: Option<EwcRecord>,
    /// What secure aggregation did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure: Option<SecureRecord>,
    /// What privacy of participants did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_privacy: Option<ParticipantPrivacyRecord>,
    /// Offers, updates, connections and handshakes refused since the round before, by whom and why. Counted by the process:
    /// after a restart they begin anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turned_away: Vec<TurnedAway>,
}

/// What was refused, how often.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TurnedAway {
    /// Whose; none for strangers, who were not let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The label of the reason.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// One update that was counted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CountedUpdate {
    /// Whose.
    pub name: String,
    /// Training examples used; 0 if it was under a mask.
    pub weight: u64,
    /// Length of the update in bytes.
    pub bytes: u64,
    /// Mean training loss in nats per response token, if the site reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_loss: Option<f32>,
    /// Rounds by which the update was late.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rounds_late: u32,
    /// Euclidean distance of the update from the one by which the global adapter was moved, if the round had a robust rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance: Option<f64>,
    /// Whether the rule left the update out of the result: it counted, and was not among those that Krum keeps.
    #[serde(
        default,
        rename = "left_out",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub is_left_out: bool,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
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

/// What secure aggregation did in a round.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SecureRecord {
    /// The attempt that succeeded; those before it did not.
    pub attempt: u32,
    /// How many members' shares opened the sum.
    pub threshold: u32,
    /// Members that shared their secrets and delivered nothing, by name.
    pub dropped: Vec<String>,
    /// The sum of the weights, each over the plan's largest.
    pub weight: f64,
    /// Values that participants cut off at the plan's largest.
    pub cut_off: u64,
}

/// What privacy of participants did in a round.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ParticipantPrivacyRecord {
    /// The norm that updates were within.
    pub clip_norm: f64,
    /// That of the next round: it follows from a count with noise, and tells no more than that.
    pub next_clip_norm: f64,
    /// What the sum was divided by.
    pub expected: u32,
    /// Standard deviation of the noise on each value of the mean.
    pub noise: f64,
    /// What the run has cost a participant after this round.
    pub epsilon: f64,
    /// The delta at which that is counted.
    pub delta: f64,
}

/// The folder of one run.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    rounds: LineFile,
    transcript: LineFile,
    base_name: String,
    dropout: f64,
    sidecar: Vec<u8>,
}

impl RunFolder {
    /// Opens the run's folder, or makes it. One with rounds and without a journal is another run's.
    pub(crate) fn open(path: &Path, sidecar: &Sidecar, dropout: f64) -> Result<Self, ServerError> {
        durable::create_folder(path).map_err(ServerError::write(path))?;
        let rounds = LineFile::open(path.join(ROUNDS_FILE))?;
        let transcript = LineFile::open(path.join(TRANSCRIPT_FILE))?;
        if !rounds.is_empty()? && !path.join(JOURNAL_FILE).exists() {
            return Err(ServerError::RunExists {
                folder: path.to_owned(),
            });
        }
        sync_folder(path).map_err(ServerError::write(path))?;
        Ok(Self {
            path: path.to_owned(),
            rounds,
            transcript,
            base_name: sidecar.base_name.clone(),
            dropout,
            sidecar: sidecar.to_json(),
        })
    }

    /// The run's journal.
    pub(crate) fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL_FILE)
    }

    /// The file with the key of the noise of the round that is being made.
    pub(crate) fn noise_key(&self) -> NoiseKeyFile {
        NoiseKeyFile::at(self.path.join("noise.key"))
    }

    /// The folder of updates that count in the open round.
    pub(crate) fn updates(&self) -> PathBuf {
        self.path.join("updates")
    }

    /// Makes the files of lines say what the journal says: a crash may have come between the two.
    ///
    /// # Errors
    /// Also if they tell of more rounds than the journal, which had each before they did: it is an older one, and what they say is not
    /// to be lost.
    pub(crate) fn restore(
        &mut self,
        records: &[RoundRecord],
        transcript: &[SealedRecord],
    ) -> Result<(), ServerError> {
        for lines in [&self.rounds, &self.transcript] {
            let count = lines.count()?;
            if records.len() < count {
                let (path, done) = (lines.path().display(), records.len());
                let what = format!("{path} tells of {count} rounds and the journal of {done}");
                return Err(JournalError::damaged(&self.journal(), what).into());
            }
        }
        self.rounds.restore(records)?;
        self.transcript.restore(transcript)
    }

    /// Reads the adapter that came out of a round, which is the one that its record names.
    pub(crate) fn read_round(
        &self,
        record: &RoundRecord,
        like: &Adapter,
    ) -> Result<Adapter, ServerError> {
        let folder = self.path.join(round_folder(record.round));
        let lost = |what: String| ServerError::AdapterLost {
            folder: folder.clone(),
            what,
        };
        let read = |name: &str| {
            fs::read(folder.join(name)).map_err(|error| lost(format!("{name}: {error}")))
        };
        let (adapter, _) = peft::load(&read(CONFIG_FILE)?, &read(MODEL_FILE)?)
            .map_err(|error| lost(error.to_string()))?;
        let found = Digest(adapter.sha256()).to_string();
        if adapter.layout() != like.layout() || found != record.adapter_sha256 {
            return Err(lost(
                "it is not the adapter that the round came to".to_owned(),
            ));
        }
        Ok(adapter)
    }

    /// Writes the adapter that came out of a round.
    pub(crate) fn write_round(
        &self,
        round: u32,
        adapter: &Adapter,
    ) -> Result<PathBuf, ServerError> {
        self.write_adapter(&round_folder(round), adapter)
    }

    /// Writes the adapter that came out of the run.
    pub(crate) fn write_final(&self, adapter: &Adapter) -> Result<PathBuf, ServerError> {
        self.write_adapter(FINAL_FOLDER, adapter)
    }

    /// Adds a round's lines.
    pub(crate) fn append(
        &self,
        record: &RoundRecord,
        sealed: &SealedRecord,
    ) -> Result<(), ServerError> {
        self.rounds.append(record)?;
        self.transcript.append(sealed)
    }

    /// Makes every line durable, before the journal calls the run finished.
    pub(crate) fn finish(&self) -> Result<(), ServerError> {
        self.rounds.sync()?;
        self.transcript.sync()
    }

    fn write_adapter(&self, name: &str, adapter: &Adapter) -> Result<PathBuf, ServerError> {
        let PeftPieces {
            config_json,
            head,
            tensors,
        } = peft::pieces(adapter, &self.base_name, self.dropout);
        let mut model = vec![Cow::Owned(head)];
        model.extend(tensors.into_iter().map(le_bytes));
        let files = [
            (CONFIG_FILE, vec![Cow::Owned(config_json)]),
            (MODEL_FILE, model),
            (SIDECAR_FILE, vec![Cow::Borrowed(self.sidecar.as_slice())]),
        ];
        let target = self.path.join(name);
        write_folder(&self.path, &target, &files).map_err(ServerError::write(&target))?;
        Ok(target)
    }
}

pub(crate) fn round_folder(round: u32) -> String {
    format!("round-{round:04}")
}

/// A file's name and its bytes in pieces.
type Pieces<'a> = (&'a str, Vec<Cow<'a, [u8]>>);

/// Writes a folder of files so that it is there whole or not at all.
fn write_folder(parent: &Path, target: &Path, files: &[Pieces<'_>]) -> io::Result<()> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.part"));
    if temporary.exists() {
        fs::remove_dir_all(&temporary)?;
    }
    fs::create_dir(&temporary)?;
    for (name, pieces) in files {
        let mut file = File::create_new(temporary.join(name))?;
        for piece in pieces {
            file.write_all(piece)?;
        }
        file.sync_all()?;
    }
    sync_folder(&temporary)?;
    // What a crash left there is no round's yet: the journal did not know it.
    if target.exists() {
        fs::remove_dir_all(target)?;
    }
    fs::rename(&temporary, target)?;
    sync_folder(parent)
}

#[cfg(test)]
pub(crate) mod tests;
