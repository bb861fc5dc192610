//! Scenario S(N, X, K, R): N participants, one adapter of X MB in K equal tensors, R rounds.
//!
//! Participant i, from 0, answers with the global adapter plus `0.001 (i + 1)` and has weight `1 + i`. With deltas it adds
//! to each value what is drawn for it in the round ([`Moves`]), and of that a third, two thirds, the whole or four thirds.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aggregation::peft::{self, Sidecar};
use aggregation::{Adapter, AdapterLayout, Encoding, ModuleLayout};
use anyhow::{Context as _, ensure};
use protocol::plan::{CohortPlan, LimitsPlan, Participants, TrainingPlan, ValueEncoding};
use protocol::quic::TlsMaterial;
use protocol::{ParticipantName, RunId};

use super::moves::{Moves, STEP};
use crate::experiment::{Download, Sums, Transfer};

/// Largest rank of the made-up layout.
const RANK_MAX: usize = 16;
/// Nobody is given up: a machine that swaps is slow, and that is what is measured.
const PATIENCE: Duration = Duration::from_secs(3600);
const SEED: u64 = 7;
/// There is no base model; every party agrees on this in its place.
const BASE: (&str, [u8; 32]) = ("none", [7; 32]);

/// What is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, clap::Args, serde::Serialize)]
pub struct Scenario {
    /// Number of participants.
    #[arg(long, default_value = "4")]
    pub participants: NonZeroU32,
    /// Size of the adapter in f32, in 10^6 bytes.
    #[arg(long, default_value_t = 84.0)]
    pub megabytes: f64,
    /// Number of equal tensors that the adapter consists of; even, because a LoRA module has two.
    #[arg(long, default_value_t = 448)]
    pub tensors: usize,
    /// Number of rounds; the first is left out of the figures.
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// How values travel.
    #[arg(long, value_enum, default_value_t)]
    pub transfer: Transfer,
    /// How adapters are sent to participants. With deltas each value moves by its own number, drawn with the spread of an
    /// optimizer's steps, so that a delta is about as large as a real one.
    #[arg(long, value_enum, default_value_t)]
    pub download: Download,
    /// How updates are summed; `masked` is secure aggregation, for at least three participants.
    #[arg(long, value_enum, default_value_t)]
    pub sums: Sums,
}

impl Scenario {
    /// Gives the layout: square modules of the largest rank up to 16 that divides the tensors' size.
    ///
    /// # Errors
    /// If the size is not that many tensors, or the scenario is out of what Foedus holds.
    pub fn layout(&self) -> anyhow::Result<Arc<AdapterLayout>> {
        ensure!(
            self.tensors >= 2 && self.tensors.is_multiple_of(2),
            "--tensors {} is no even number from 2",
            self.tensors
        );
        let size = (self.megabytes * 1e6 / 4.0 / self.tensors as f64).round();
        ensure!(
            (1.0..=f64::from(u32::MAX)).contains(&size),
            "--megabytes {} in --tensors {} leaves {size} values a tensor",
            self.megabytes,
            self.tensors
        );
        let size = size as usize;
        let rank = (1..=RANK_MAX)
            .rev()
            .find(|&rank| size.is_multiple_of(rank))
            .unwrap_or(1);
        let modules = (0..self.tensors / 2).map(|index| ModuleLayout {
            name: format!("model.layers.{index}.self_attn.q_proj"),
            in_features: size / rank,
            out_features: size / rank,
        });
        let layout = AdapterLayout::new(rank, rank as f64, false, modules.collect())?;
        Ok(Arc::new(layout))
    }

    /// The largest relative error with which a result counts as right.
    pub(super) fn error_max(&self) -> f64 {
        match self.transfer {
            Transfer::Bf16 => Encoding::Bf16.error_max(),
            Transfer::F32 => 1e-5,
            // Of the adapter that an update is the difference to, and of the update.
            Transfer::Int8 => Encoding::Bf16.error_max() + Encoding::Int8.error_max(),
        }
    }

    /// The bytes of the adapter that a round starts from, as it travels whole.
    pub(super) fn adapter_bytes(&self) -> anyhow::Result<u64> {
        let values = self.layout()?.parameters() as u64;
        Ok(ValueEncoding::from(self.transfer)
            .of_adapters()
            .bytes(values))
    }

    /// What is moved in a round if adapters travel whole, in 10^9 bytes.
    pub(super) fn gigabytes_a_round(&self) -> anyhow::Result<f64> {
        Ok(f64::from(self.participants.get()) * self.bytes_a_round()? as f64 / 1e9)
    }

    /// Gives the bytes of all adapters and updates that the run moves.
    ///
    /// # Errors
    /// As [`Scenario::layout`].
    pub(super) fn content_bytes(&self) -> anyhow::Result<u64> {
        let last = ValueEncoding::F32.bytes(self.layout()?.parameters() as u64);
        let rounds = u64::from(self.rounds) * self.bytes_a_round()?;
        Ok(u64::from(self.participants.get()) * (rounds + last))
    }

    /// The bytes of one update and of the adapter that it starts from.
    fn bytes_a_round(&self) -> anyhow::Result<u64> {
        let (values, updates) = (
            self.layout()?.parameters() as u64,
            ValueEncoding::from(self.transfer),
        );
        Ok(updates.bytes(values) + updates.of_adapters().bytes(values))
    }

    /// Gives the names of all participants, in order.
    pub(super) fn names(&self) -> Vec<String> {
        (0..self.participants.get())
            .map(|index| format!("site-{index:04}"))
            .collect()
    }

    /// The weight of participant `index`.
    pub(super) fn weight(index: u32) -> u64 {
        u64::from(index) + 1
    }

    /// Writes the PEFT folder that the run starts from.
    pub(super) fn write_start(&self, folder: &Path) -> anyhow::Result<()> {
        let start = Adapter::initial(self.layout()?, SEED);
        let files = peft::save(&start, BASE.0, 0.0);
        let sidecar = Sidecar {
            base_fingerprint: BASE.1,
            base_name: BASE.0.to_owned(),
        };
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
        for (name, bytes) in [
            ("adapter_config.json", &files.config_json),
            ("adapter_model.safetensors", &files.safetensors),
            ("foedus.json", &sidecar.to_json()),
        ] {
            let path = folder.join(name);
            std::fs::write(&path, bytes)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(())
    }

    /// Makes the server's configuration; everything it reads and writes is in `folder`.
    pub(super) fn server(&self, tls: TlsMaterial, folder: &Path) -> anyhow::Result<server::Config> {
        let parameters = self.layout()?.parameters() as f64;
        let name: RunId = "exchange".parse()?;
        let names = self.names();
        let names = names.iter().map(|name| name.parse::<ParticipantName>());
        let mut config = server::Config::new(tls, name, folder.join("start"));
        config.run.out = folder.join("runs");
        config.run.rounds = self.rounds;
        config.run.transfer = self.transfer.into();
        config.run.download = self.download.into();
        self.sums.configure(&mut config);
        config.adapter_bytes_max = u64::MAX;
        // All of them are behind one address.
        config.transport.handshakes_per_address = config.transport.handshakes;
        let weight_max = Self::weight(self.participants.get());
        // As many examples as the largest weight claims.
        config.training = TrainingPlan {
            local_steps: 1,
            batch_examples: u32::try_from(weight_max)?,
            ..config.training
        };
        config.cohort = CohortPlan {
            participants: Participants::Named(names.collect::<Result<_, _>>()?),
            quorum: self.participants.get(),
            soft_deadline: PATIENCE,
            hard_deadline: PATIENCE,
            stall_limit: PATIENCE,
            join_deadline: PATIENCE,
            ..config.cohort
        };
        let count = self.participants.get();
        config.limits = LimitsPlan {
            update_norm_max: 1.0 + STEP * f64::from(count) * 1.01 * parameters.sqrt(),
            weight_max,
            participants_max: count,
        };
        Ok(config)
    }

    /// Gives the final adapter's relative error in the L2 norm against the start plus, for each round, what that has for a value times
    /// the mean of the participants' shares by weight.
    pub(super) fn error(&self, folder: &Path) -> anyhow::Result<f64> {
        let start = Adapter::initial(self.layout()?, SEED);
        let read = |name: &str| {
            let path: PathBuf = folder.join("runs/exchange/adapter").join(name);
            std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))
        };
        let (config, tensors) = (
            read("adapter_config.json")?,
            read("adapter_model.safetensors")?,
        );
        let (found, _) = peft::load(&config, &tensors)?;
        let moves = Moves::of(self);
        let (mut weights, mut sum) = (0.0, 0.0);
        for index in 0..self.participants.get() {
            let weight = Self::weight(index) as f64;
            weights += weight;
            sum += weight * f64::from(moves.share(index));
        }
        let added = |place| {
            let units = (1..=self.rounds).map(|round| f64::from(moves.unit(round, place)));
            units.sum::<f64>() * sum / weights
        };
        let (mut difference, mut norm) = (0.0, 0.0);
        for (place, (&found, &start)) in found.values().iter().zip(start.values()).enumerate() {
            let expected = f64::from(start) + added(place);
            difference += (f64::from(found) - expected).powi(2);
            norm += expected.powi(2);
        }
        Ok((difference / norm).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(megabytes: f64, tensors: usize) -> Scenario {
        Scenario {
            participants: NonZeroU32::MIN,
            megabytes,
            tensors,
            rounds: 2,
            transfer: Transfer::F32,
            download: Download::Whole,
            sums: Sums::Values,
        }
    }

    #[test]
    fn the_layout_has_the_size_and_the_tensors_asked_for() {
        for (megabytes, tensors) in [(84.0, 448), (14.0, 128), (0.001, 2)] {
            let layout = scenario(megabytes, tensors).layout().unwrap();
            assert_eq!(layout.modules().len() * 2, tensors);
            let bytes = layout.parameters() as f64 * 4.0;
            assert!((bytes / (megabytes * 1e6) - 1.0).abs() < 1e-3, "{bytes}");
        }
    }

    #[test]
    fn a_scenario_that_cannot_be_is_refused_in_words() {
        for (megabytes, tensors, word) in [
            (84.0, 3, "even"),
            (0.0, 2, "leaves"),
            (f64::NAN, 2, "leaves"),
        ] {
            let said = scenario(megabytes, tensors)
                .layout()
                .unwrap_err()
                .to_string();
            assert!(said.contains(word), "{said}");
        }
    }
}
