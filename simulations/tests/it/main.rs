//! Whole simulations with a model that is written in milliseconds: real server, real clients, real TLS.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests may, and they print their seed"
)]

mod bench;
mod closed_reader;
mod deltas;
mod hostile;
mod links;
mod sameness;
mod whole;

use std::path::{Path, PathBuf};
use std::time::Instant;

use finetune::tiny;
use simulations::experiment::Experiment;
use simulations::progress::{Display, Progress};
use simulations::run::{Outcome, Simulation};

/// The seed of every test here.
const SEED: u64 = 5;

/// A folder with a tiny base model in `model/`.
fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    tiny::write(&model, &tiny::shape(), SEED).unwrap();
    folder
}

/// A small experiment on that model.
fn experiment(folder: &Path) -> Experiment {
    println!("seed {SEED}");
    let mut experiment = Experiment {
        seed: SEED,
        model: folder.join("model").display().to_string(),
        device: "cpu".to_owned(),
        ..Experiment::default()
    };
    experiment.text.train_records = 12;
    experiment.text.held_out_records = 4;
    experiment.text.max_tokens = 256;
    experiment.text.anchor_paragraphs = 4;
    experiment.text.general_paragraphs = 4;
    experiment.adapter.rank = 4;
    experiment.adapter.alpha = 8.0;
    experiment.training.rounds = 3;
    experiment.training.local_steps = 2;
    experiment.training.batch_examples = 2;
    experiment.training.learning_rate = 1e-2;
    experiment
}

fn run(experiment: Experiment, out: PathBuf) -> Outcome {
    let progress = Progress::new(Display::Quiet, Instant::now());
    Simulation {
        experiment,
        out,
        progress,
    }
    .run()
    .unwrap()
}
