//! `foedus-sim bench`: the exchange without training.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand, ValueEnum as _};

use crate::answer::say;
use crate::bench::{self, FoldScenario, Hardship, Processes, Scenario, Strategy};
use crate::experiment::{Download, Sums, Transfer};

#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Moves adapters in both directions without training, with one process per party, over mutual TLS.
    Exchange(Exchange),
    /// Measures rounds that move almost no data.
    Rounds(Rounds),
    /// Moves adapters over a link that is slow, loses datagrams, goes dark and changes its address.
    Link(Link),
    /// Measures each strategy's aggregation of updates on disk, next to a plain memory copy.
    Fold(Fold),
    /// One strategy for `fold`, which starts it.
    #[command(hide = true)]
    FoldOne(FoldOne),
    /// A server for `exchange`, which starts it.
    #[command(hide = true)]
    Server(Server),
    /// A participant for `exchange`, which starts it.
    #[command(hide = true)]
    Participant(Participant),
}

#[derive(Debug, Args)]
pub(super) struct Exchange {
    #[command(flatten)]
    scenario: Scenario,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Rounds {
    /// Participants.
    #[arg(long, default_value = "4")]
    participants: NonZeroU32,
    /// Rounds; the first is left out of the figures.
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Link {
    /// Size of the adapter in f32, in 10^6 bytes.
    #[arg(long, default_value_t = 84.0)]
    megabytes: f64,
    /// Rounds.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// How values travel.
    #[arg(long, value_enum, default_value_t)]
    transfer: Transfer,
    #[command(flatten)]
    hardship: Hardship,
    /// Prints the figures as one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Fold {
    #[command(flatten)]
    scenario: FoldScenario,
    /// Strategies to measure; all of them unless given.
    #[arg(long, value_enum, value_delimiter = ',')]
    strategy: Vec<Strategy>,
    /// Prints the figures as one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct FoldOne {
    #[command(flatten)]
    scenario: FoldScenario,
    #[arg(long, value_enum)]
    strategy: Strategy,
    #[arg(long)]
    folder: PathBuf,
}

#[derive(Debug, Args)]
struct Output {
    /// Runs all parties in this process, as a simulation does.
    #[arg(long)]
    in_process: bool,
    /// Runs all participants in one process, and the server in its own.
    #[arg(long, conflicts_with = "in_process")]
    participants_together: bool,
    /// Prints the figures as one line of JSON.
    #[arg(long)]
    json: bool,
    /// Works in this new folder instead of a temporary one, and keeps it.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Server {
    #[command(flatten)]
    scenario: Scenario,
    #[arg(long)]
    folder: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Participant {
    #[command(flatten)]
    scenario: Scenario,
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    server: String,
    /// Without it, all of them.
    #[arg(long)]
    index: Option<u32>,
}

impl Bench {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Exchange(Exchange { scenario, output }) => output.of(*scenario),
            Self::Rounds(Rounds {
                participants,
                rounds,
                output,
            }) => output.of(Scenario {
                participants: *participants,
                megabytes: 0.001,
                tensors: 2,
                rounds: *rounds,
                transfer: Transfer::F32,
                download: Download::Whole,
                sums: Sums::Values,
            }),
            Self::Link(link) => link.run(),
            Self::Fold(fold) => fold.run(),
            Self::FoldOne(one) => one.run(),
            Self::Server(Server { scenario, folder }) => bench::serve(scenario, folder),
            Self::Participant(Participant {
                scenario,
                folder,
                server,
                index,
            }) => bench::take_part(scenario, folder, server, *index),
        }
    }
}

impl Link {
    fn run(&self) -> anyhow::Result<()> {
        let scenario = Scenario {
            participants: NonZeroU32::MIN,
            megabytes: self.megabytes,
            tensors: 2,
            rounds: self.rounds,
            transfer: self.transfer,
            download: Download::Whole,
            sums: Sums::Values,
        };
        let figures = in_temporary(|folder| bench::run_link(scenario, self.hardship, folder))?;
        if self.json {
            say!("{}", serde_json::to_string(&figures)?)?;
        } else {
            say!("{}", figures.in_words().trim_end())?;
        }
        ensure!(figures.correct, "the result is not the closed form's");
        Ok(())
    }
}

impl Fold {
    fn run(&self) -> anyhow::Result<()> {
        let strategies = match self.strategy.as_slice() {
            [] => Strategy::value_variants(),
            some => some,
        };
        let report = in_temporary(|folder| bench::run_fold(self.scenario, strategies, folder))?;
        if self.json {
            say!("{}", serde_json::to_string(&report)?)?;
        } else {
            say!("{}", report.in_words().trim_end())?;
        }
        Ok(())
    }
}

impl FoldOne {
    fn run(&self) -> anyhow::Result<()> {
        let figures = bench::fold_one(&self.scenario, self.strategy, &self.folder)?;
        say!("{}", serde_json::to_string(&figures)?)?;
        Ok(())
    }
}

impl Output {
    fn processes(&self) -> Processes {
        if self.in_process {
            Processes::One
        } else if self.participants_together {
            Processes::Two
        } else {
            Processes::OnePerParty
        }
    }

    fn of(&self, scenario: Scenario) -> anyhow::Result<()> {
        let figures = match &self.out {
            Some(folder) => {
                ensure!(
                    !folder.exists(),
                    "{} is there already; give a new folder",
                    folder.display()
                );
                bench::run(scenario, folder, self.processes())?
            }
            None => in_temporary(|folder| bench::run(scenario, folder, self.processes()))?,
        };
        if self.json {
            say!("{}", serde_json::to_string(&figures)?)?;
        } else {
            say!("{}", figures.in_words().trim_end())?;
        }
        ensure!(figures.correct, "the result is not the closed form's");
        Ok(())
    }
}

/// Works in a folder of its own that is gone afterwards.
fn in_temporary<T>(work: impl FnOnce(&Path) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let folder = tempfile::Builder::new()
        .prefix("foedus-exchange-")
        .tempdir()
        .context("a temporary folder cannot be made; give one with --out")?;
    work(folder.path())
}
