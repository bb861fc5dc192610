//! An experiment: everything a simulation depends on, as a TOML file or as the built-in defaults.
//!
//! The defaults are the quickstart; `experiments/quickstart.toml` spells them out, and a test holds the
//! two together. Options of the command line win over the file.

mod sections;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use protocol::plan::{
    COHORT_MIN, RingBits, RingPlan, SecureAggregationPlan, ServerTrust, ValueEncoding,
};
use serde::{Deserialize, Serialize};
use server::config::{RawParticipantPrivacy, RawStrategy};

pub use self::sections::{
    AdapterSection, Course, EwcSection, PrivacySection, TextSection, TrainingSection,
};

/// A simulation as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Experiment {
    /// The seed of everything drawn: text, adapter, order of the data, dropout, Fisher labels.
    pub seed: u64,
    /// The base model: `smollm2`, `hf:ORG/NAME`, or a path to a folder or GGUF file.
    pub model: String,
    /// `auto`, `cpu` or `cuda:N`.
    pub device: String,
    /// A folder with one JSONL file per institution, instead of the generated text.
    pub data: Option<PathBuf>,
    /// A text file of general paragraphs, instead of the built-in ones.
    pub general: Option<PathBuf>,
    /// How values travel.
    pub transfer: Transfer,
    /// How adapters come to institutions.
    pub download: Download,
    /// How updates are summed.
    pub sums: Sums,
    /// Institutions, the last ones, that send the opposite of what they learnt, as large as is let through.
    pub hostile: usize,
    /// How updates become the next global adapter.
    pub strategy: RawStrategy,
    /// Privacy of whole institutions in all federated runs, as `[participant_privacy]` of server.toml; among so few as a simulation has
    /// only with `force`.
    pub participant_privacy: RawParticipantPrivacy,
    /// How much text.
    pub text: TextSection,
    /// The adapter.
    pub adapter: AdapterSection,
    /// How everybody trains.
    pub training: TrainingSection,
    /// The anchor.
    pub ewc: EwcSection,
    /// One more federated run with EWC under differential privacy, and what it costs.
    pub privacy: Option<PrivacySection>,
}

impl Default for Experiment {
    fn default() -> Self {
        Self {
            seed: 7,
            model: "smollm2".to_owned(),
            device: "auto".to_owned(),
            data: None,
            general: None,
            transfer: Transfer::default(),
            download: Download::default(),
            sums: Sums::default(),
            hostile: 0,
            strategy: RawStrategy::default(),
            participant_privacy: RawParticipantPrivacy::default(),
            text: TextSection::default(),
            adapter: AdapterSection::default(),
            training: TrainingSection::default(),
            ewc: EwcSection::default(),
            privacy: None,
        }
    }
}

/// How the values of updates, and of the adapters that rounds start from, travel.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transfer {
    /// In two bytes, each within 1/256 of itself.
    #[default]
    Bf16,
    /// In four bytes, exactly.
    F32,
    /// Updates in about one byte a value, with what rounding cut off added to the next update; adapters as with `bf16`.
    Int8,
}

impl From<Transfer> for ValueEncoding {
    fn from(transfer: Transfer) -> Self {
        match transfer {
            Transfer::Bf16 => Self::Bf16,
            Transfer::F32 => Self::F32,
            Transfer::Int8 => Self::Int8,
        }
    }
}

/// How adapters come to institutions; what comes is the same.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Download {
    /// Whole.
    #[default]
    Whole,
    /// As the difference from the previous one.
    Delta,
}

impl From<Download> for protocol::plan::Download {
    fn from(download: Download) -> Self {
        match download {
            Download::Whole => Self::Whole,
            Download::Delta => Self::Delta,
        }
    }
}

/// How the server sums updates.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sums {
    /// As plain values, which the server can read.
    #[default]
    Values,
    /// As fixed point in a ring of 32 bits.
    Ring,
    /// In the same ring under masks: secure aggregation.
    Masked,
}

impl Sums {
    /// Has a server sum so.
    pub fn configure(self, config: &mut server::Config) {
        config.ring = (self != Self::Values).then_some(RingPlan {
            bits: RingBits::Bits32,
            value_max: RING_VALUE_MAX,
        });
        config.secure_aggregation = (self == Self::Masked).then_some(SecureAggregationPlan {
            cohort_min: COHORT_MIN,
            trust: ServerTrust::Malicious,
        });
    }
}

/// No value of an update is expected to be larger.
const RING_VALUE_MAX: f64 = 0.25;

impl Experiment {
    /// Reads an experiment file; relative paths in it are relative to the working folder.
    ///
    /// # Errors
    /// If it cannot be read, or with line and column if it is not an experiment.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("experiment {} cannot be read", path.display()))?;
        toml::from_str(&text)
            .with_context(|| format!("experiment {} is not usable", path.display()))
    }

    /// Checks what no other part checks.
    ///
    /// # Errors
    /// A sentence that names the key and the rule.
    pub fn check(&self) -> anyhow::Result<()> {
        let at_least_one = [
            ("training.rounds", self.training.rounds as usize),
            ("training.local_steps", self.training.local_steps as usize),
            (
                "training.batch_examples",
                self.training.batch_examples as usize,
            ),
            ("text.train_records", self.text.train_records),
            ("text.held_out_records", self.text.held_out_records),
            ("text.anchor_paragraphs", self.text.anchor_paragraphs),
            ("text.general_paragraphs", self.text.general_paragraphs),
            ("adapter.rank", self.adapter.rank),
            (
                "privacy.accumulation",
                self.privacy
                    .as_ref()
                    .map_or(1, |section| section.accumulation as usize),
            ),
        ];
        for (key, found) in at_least_one {
            ensure!(found >= 1, "{key} is 0; it must be at least 1");
        }
        ensure!(
            self.text.max_tokens >= 8,
            "text.max_tokens is below 8, too short for a record"
        );
        ensure!(
            self.training.learning_rate > 0.0 && self.training.learning_rate.is_finite(),
            "training.learning_rate is {}; it must be above nought",
            self.training.learning_rate
        );
        ensure!(
            self.ewc.lambda > 0.0 && self.ewc.lambda.is_finite(),
            "ewc.lambda is {}; it must be above nought (the run without EWC is made anyway)",
            self.ewc.lambda
        );
        ensure!(
            (1..=5_000).contains(&self.text.train_records) && self.text.held_out_records <= 1_000,
            "text.train_records and text.held_out_records are at most 5000 and 1000"
        );
        ensure!(
            self.sums == Sums::Values || !self.strategy.plan()?.is_robust(),
            "strategy.rule looks at every update by itself, which only sums = \"values\" shows it"
        );
        Ok(())
    }

    /// Optimizer steps of the whole run.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        u64::from(self.training.rounds) * u64::from(self.training.local_steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickstart_file_is_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/quickstart.toml");
        let experiment = Experiment::open(&path).unwrap();
        assert_eq!(experiment, Experiment::default());
        experiment.check().unwrap();
    }

    #[test]
    fn every_experiment_of_the_repository_is_usable() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
        for entry in std::fs::read_dir(folder).unwrap() {
            Experiment::open(&entry.unwrap().path())
                .unwrap()
                .check()
                .unwrap();
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        std::fs::write(&path, "seed = 1\n[training]\nlocal_step = 3\n").unwrap();
        let said = format!("{:#}", Experiment::open(&path).unwrap_err());
        assert!(said.contains("x.toml") && said.contains("line 3"), "{said}");
        assert!(said.contains("local_step"), "{said}");
    }

    #[test]
    fn a_strategy_is_read_with_its_numbers_and_refused_over_sums() {
        let mut experiment: Experiment =
            toml::from_str("[strategy]\nrule = \"trimmed-mean\"\ntrim = 1\n").unwrap();
        experiment.check().unwrap();
        let plan = experiment.strategy.plan().unwrap();
        assert_eq!(plan, protocol::plan::StrategyPlan::TrimmedMean { trim: 1 });
        experiment.sums = Sums::Masked;
        let said = experiment.check().unwrap_err().to_string();
        assert!(said.contains("sums = \"values\""), "{said}");
    }

    #[test]
    fn values_out_of_bounds_are_named() {
        let mut experiment = Experiment::default();
        experiment.training.rounds = 0;
        assert!(
            experiment
                .check()
                .unwrap_err()
                .to_string()
                .contains("training.rounds")
        );
        let mut experiment = Experiment::default();
        experiment.ewc.lambda = f64::NAN;
        assert!(
            experiment
                .check()
                .unwrap_err()
                .to_string()
                .contains("ewc.lambda")
        );
    }
}
