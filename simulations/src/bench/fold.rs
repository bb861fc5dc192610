//! How fast a round's updates become the next adapter, without network and training: bytes folded a second, beside a memory copy.
//!
//! The updates lie in files, as in the server's spool, and are in the page cache: no disk is measured. Each strategy is measured in a
//! process of its own, so that its peak memory is its own.

mod figures;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use aggregation::admission::{AdmissionRules, admit};
use aggregation::encoded::{EncodedUpdate, ReadAt};
use aggregation::strategy::fedavg::{FedAvg, TOGETHER};
use aggregation::strategy::fixed_point::FixedPoint;
use aggregation::strategy::robust::RobustRule;
use aggregation::{Adapter, AdapterLayout, Encoding};
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

pub use self::figures::{FoldFigures, FoldReport};

use super::scenario::Scenario;
use crate::experiment::{Download, Sums, Transfer};
use crate::memory;

/// Tensors of the adapter: 32 layers with seven projections of two factors each.
const TENSORS: usize = 448;
/// Larger than any value that is drawn.
const NORM_MAX: f64 = 1e6;
/// Steps toward the geometric median, as the server takes.
const PASSES: u32 = 8;

/// What is folded.
#[derive(Clone, Copy, Debug, PartialEq, clap::Args, Serialize)]
pub struct FoldScenario {
    /// Number of participants.
    #[arg(long, default_value = "8")]
    pub participants: NonZeroU32,
    /// Size of the adapter in f32, in 10^6 bytes.
    #[arg(long, default_value_t = 84.0)]
    pub megabytes: f64,
    /// How updates travel and are kept in the spool.
    #[arg(long, value_enum, default_value_t = Transfer::F32)]
    pub transfer: Transfer,
    /// How often each strategy is measured; the median is reported.
    #[arg(long, default_value = "3")]
    pub repetitions: NonZeroU32,
}

/// The strategies, with the numbers that they are measured with: one hostile participant is to be borne.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The weighted mean.
    #[value(name = "fedavg")]
    #[serde(rename = "fedavg")]
    FedAvg,
    /// The coordinate-wise median.
    Median,
    /// The mean without the lowest and the highest value.
    TrimmedMean,
    /// The update closest to the others.
    Krum,
    /// The mean of all but one.
    MultiKrum,
    /// Eight steps toward the geometric median.
    GeometricMedian,
}

impl FoldScenario {
    fn layout(&self) -> anyhow::Result<Arc<AdapterLayout>> {
        Scenario {
            participants: self.participants,
            megabytes: self.megabytes,
            tensors: TENSORS,
            rounds: 1,
            transfer: self.transfer,
            download: Download::Whole,
            sums: Sums::Values,
        }
        .layout()
    }

    fn encoding(&self) -> Encoding {
        match self.transfer {
            Transfer::F32 => Encoding::F32,
            Transfer::Bf16 => Encoding::Bf16,
            Transfer::Int8 => Encoding::Int8,
        }
    }

    fn paths(&self, folder: &Path) -> Vec<PathBuf> {
        let indices = 0..self.participants.get();
        let paths = indices.map(|index| folder.join(format!("site-{index:04}.update")));
        paths.collect()
    }

    fn update_bytes(&self) -> anyhow::Result<u64> {
        let one = self.encoding().size(self.layout()?.parameters()) as u64;
        Ok(one * u64::from(self.participants.get()))
    }
}

/// Measures strategies with updates in `folder`, which is there and empty.
///
/// # Errors
/// If the scenario is too small for a strategy, or files or processes fail.
pub fn run_fold(
    scenario: FoldScenario,
    strategies: &[Strategy],
    folder: &Path,
) -> anyhow::Result<FoldReport> {
    let values = scenario.layout()?.parameters();
    let mut last = Vec::new();
    for (index, path) in scenario.paths(folder).iter().enumerate() {
        last = scenario.encoding().encode(&drawn(index as u64, values));
        std::fs::write(path, &last)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (copy, copy_all) = (copied(&last, 1), copied(&last, cores));
    drop(last);
    let strategies = strategies.iter();
    let strategies = strategies.map(|&strategy| apart(scenario, strategy, folder));
    Ok(FoldReport {
        scenario,
        update_bytes: scenario.update_bytes()?,
        cores,
        copy_gb_per_s: copy,
        copy_all_cores_gb_per_s: copy_all,
        strategies: strategies.collect::<anyhow::Result<_>>()?,
    })
}

/// Measures a strategy in a process of its own.
fn apart(scenario: FoldScenario, strategy: Strategy, folder: &Path) -> anyhow::Result<FoldFigures> {
    let name = serde_json::to_string(&strategy)?.replace('"', "");
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["bench", "fold-one", "--strategy", &name, "--folder"])
        .arg(folder);
    for (option, value) in [
        ("--participants", scenario.participants.to_string()),
        ("--megabytes", scenario.megabytes.to_string()),
        ("--repetitions", scenario.repetitions.to_string()),
        (
            "--transfer",
            format!("{:?}", scenario.transfer).to_lowercase(),
        ),
    ] {
        command.args([option, &value]);
    }
    command.envs([super::SERVER_MEMORY]);
    command.stderr(std::process::Stdio::inherit());
    let done = command.output().context("this program cannot be started")?;
    ensure!(done.status.success(), "{name} ended with {}", done.status);
    serde_json::from_slice(&done.stdout).with_context(|| format!("{name} said nothing that counts"))
}

/// Measures a strategy in this process.
///
/// # Errors
/// If there are too few updates for it, or the files cannot be read.
pub fn fold_one(
    scenario: &FoldScenario,
    strategy: Strategy,
    folder: &Path,
) -> anyhow::Result<FoldFigures> {
    memory::avoid_huge_pages().context("the size of memory pages cannot be chosen")?;
    let global = Adapter::initial(scenario.layout()?, 1);
    let mut taken = Vec::new();
    for _ in 0..scenario.repetitions.get() {
        taken.push(match strategy.rule(scenario.participants.get() as usize) {
            None => summed(scenario, &global, folder)?,
            Some(rule) => ruled(scenario, rule, &global, folder)?,
        });
    }
    taken.sort_by(|one, other| (one[1] + one[2]).total_cmp(&(other[1] + other[2])));
    let [admit_seconds, fold_seconds, close_seconds] = taken[taken.len() / 2];
    let bytes = scenario.update_bytes()? as f64 / 1e9;
    let folding = fold_seconds + close_seconds;
    Ok(FoldFigures {
        strategy,
        admit_seconds,
        fold_seconds,
        close_seconds,
        gb_per_s: bytes / folding,
        gb_per_s_with_admission: bytes / (admit_seconds + folding),
        peak_rss_mb: memory::peak_bytes().unwrap_or(0) as f64 / 1e6,
    })
}

impl Strategy {
    /// The rule, if updates are not summed.
    fn rule(self, participants: usize) -> Option<RobustRule> {
        let krum = |keep| RobustRule::Krum { byzantine: 1, keep };
        match self {
            Self::FedAvg => None,
            Self::Median => Some(RobustRule::Median),
            Self::TrimmedMean => Some(RobustRule::TrimmedMean { trim: 1 }),
            Self::Krum => Some(krum(1)),
            Self::MultiKrum => Some(krum(participants.saturating_sub(1))),
            Self::GeometricMedian => Some(RobustRule::GeometricMedian { passes: PASSES }),
        }
    }
}

/// An update as the server reads it under a robust rule: opened for each stretch.
struct Spooled(PathBuf);

impl ReadAt for Spooled {
    fn size(&self) -> io::Result<u64> {
        Ok(std::fs::metadata(&self.0)?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        File::open(&self.0)?.read_exact_at(buffer, offset)
    }
}

const RULES: AdmissionRules = AdmissionRules {
    norm_max: NORM_MAX,
    weight_max: 100_000,
};

/// Seconds of judging, adding up and forming the next adapter.
fn summed(scenario: &FoldScenario, global: &Adapter, folder: &Path) -> anyhow::Result<[f64; 3]> {
    let fixed = FixedPoint::for_bounds(
        scenario.participants.get(),
        RULES.weight_max,
        RULES.norm_max,
    )?;
    let (mut admitting, mut folding) = (0.0, 0.0);
    let mut sum = FedAvg::new(Arc::clone(global.layout()), fixed);
    let mut waiting = Vec::new();
    for path in scenario.paths(folder) {
        if waiting.len() == TOGETHER {
            let begun = Instant::now();
            let together: Vec<_> = waiting.iter().collect();
            sum.fold_together(&together, f64::INFINITY)?;
            folding += begun.elapsed().as_secs_f64();
            waiting.clear();
        }
        let begun = Instant::now();
        let update = EncodedUpdate::new(Spooled(path), scenario.encoding());
        waiting.push(admit(global.layout(), update, 10, &RULES)?);
        admitting += begun.elapsed().as_secs_f64();
    }
    let begun = Instant::now();
    let last: Vec<_> = waiting.iter().collect();
    let next = sum.into_next(&last, f64::INFINITY, global)?;
    let closing = begun.elapsed().as_secs_f64();
    ensure!(next.update_norm > 0.0, "the mean of the updates is nothing");
    Ok([admitting, folding, closing])
}

/// Seconds of judging and of forming the next adapter.
fn ruled(
    scenario: &FoldScenario,
    rule: RobustRule,
    global: &Adapter,
    folder: &Path,
) -> anyhow::Result<[f64; 3]> {
    let files: BTreeMap<_, _> = scenario
        .paths(folder)
        .into_iter()
        .map(|path| (path.display().to_string(), Spooled(path)))
        .collect();
    let begun = Instant::now();
    for file in files.values() {
        let update = EncodedUpdate::new(file, scenario.encoding());
        admit(global.layout(), update, 10, &RULES)?;
    }
    let admitting = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let updates: BTreeMap<_, _> = files
        .iter()
        .map(|(name, file)| (name, EncodedUpdate::new(file, scenario.encoding())))
        .collect();
    let outcome = rule.apply(global.layout(), &updates)?;
    let mut next = Adapter::from_values(Arc::clone(global.layout()), outcome.update)?;
    let norm = next.norm();
    next.add(global)?;
    let closing = begun.elapsed().as_secs_f64();
    ensure!(norm > 0.0, "the rule's update is nothing");
    Ok([admitting, 0.0, closing])
}

/// Values between -0.001 and 0.001, the same for the same participant.
fn drawn(participant: u64, values: usize) -> Vec<f32> {
    // Knuth's multiplier and increment (MMIX); its upper bits are random enough to be sorted.
    let mut state = participant.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d;
    let draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / 8_388_608.0 - 1.0) * 0.001
    };
    std::iter::repeat_with(draw).take(values).collect()
}

/// Copies bytes on so many threads, and gives 10^9 bytes a second; the fastest of five.
fn copied(bytes: &[u8], threads: usize) -> f64 {
    let mut target = vec![1_u8; bytes.len()];
    let share = bytes.len().div_ceil(threads).max(1);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for (target, bytes) in target.chunks_mut(share).zip(bytes.chunks(share)) {
                scope.spawn(|| target.copy_from_slice(bytes));
            }
        });
        best = best.min(begun.elapsed().as_secs_f64());
    }
    std::hint::black_box(&target);
    bytes.len() as f64 / 1e9 / best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_forms_an_adapter_from_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let scenario = FoldScenario {
            participants: NonZeroU32::new(5).unwrap(),
            megabytes: 0.1,
            transfer: Transfer::Bf16,
            repetitions: NonZeroU32::MIN,
        };
        let values = scenario.layout().unwrap().parameters();
        for (index, path) in scenario.paths(folder.path()).iter().enumerate() {
            let update = drawn(index as u64, values);
            assert!(update.iter().all(|value| value.abs() <= 0.001));
            std::fs::write(path, Encoding::Bf16.encode(&update)).unwrap();
        }
        for strategy in [
            Strategy::FedAvg,
            Strategy::Median,
            Strategy::TrimmedMean,
            Strategy::Krum,
            Strategy::MultiKrum,
            Strategy::GeometricMedian,
        ] {
            let figures = fold_one(&scenario, strategy, folder.path()).unwrap();
            assert!(figures.gb_per_s_with_admission <= figures.gb_per_s);
            assert!(0.0 < figures.close_seconds, "{figures:?}");
        }
    }
}
