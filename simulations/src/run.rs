//! The order of a simulation, from an experiment to its report.
//!
//! Base, federated without EWC, anchor, federated with EWC, the same under differential privacy if that is
//! asked for, each institution alone, and every model on every institution's held-out text and on general
//! text. Nothing of it depends on the clock but the seconds reported.

mod clock;
mod output;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aggregation::Adapter;
use anyhow::Context as _;
use finetune::base::BaseModel;
use finetune::device::{self, DeviceChoice};
use finetune::fisher::fisher;
use finetune::lora::LoraConfig;

use self::clock::Clock;
use self::output::Output;
use crate::alone::Baseline;
use crate::base_model::ModelChoice;
use crate::experiment::Experiment;
use crate::federation::{FederatedOutcome, FederatedRun, Federation};
use crate::measure::{self, Measured};
use crate::memory;
use crate::privacy::PrivateRun;
use crate::progress::Progress;
use crate::summary::{
    Arm, GeneralSummary, MeanSummary, ParticipantPrivacySummary, ParticipantSummary,
    PrivacySummary, StepRecord, Summary,
};
use crate::text::Text;

/// The anchor of both runs with EWC.
const ANCHOR_FILE: &str = "anchor.safetensors";

/// A simulation to be run.
pub struct Simulation {
    /// What it depends on.
    pub experiment: Experiment,
    /// The folder its results go to.
    pub out: PathBuf,
    /// Where it shows how far it is.
    pub progress: Progress,
}

/// A simulation that was run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its figures.
    pub summary: Summary,
    /// The adapter of the run with EWC.
    pub adapter: Adapter,
    /// Each institution's adapter after training alone, in the order of the summary.
    pub alone: Vec<Adapter>,
    /// The folder with its results.
    pub folder: PathBuf,
}

/// The adapter's configuration of an experiment.
///
/// # Errors
/// If a target module is none.
pub fn lora(experiment: &Experiment) -> anyhow::Result<LoraConfig> {
    let adapter = &experiment.adapter;
    Ok(LoraConfig {
        rank: adapter.rank,
        alpha: adapter.alpha,
        dropout: adapter.dropout,
        rslora: false,
        target_modules: adapter
            .target_modules
            .iter()
            .map(|name| name.parse())
            .collect::<Result<_, _>>()?,
    })
}

/// Losses of every model.
struct Measurements {
    base: Measured,
    without_ewc: Measured,
    federated: Measured,
    /// Each institution's own adapter on its own held-out text.
    alone: Vec<finetune::model::LossSum>,
}

/// What the simulation works with once it has begun.
struct Stage<'a> {
    simulation: &'a Simulation,
    base: Arc<BaseModel>,
    text: Text,
    start: Adapter,
    output: Output,
}

impl Simulation {
    /// Runs it.
    ///
    /// # Errors
    /// The first thing that goes wrong, with what it was about.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let mut clock = Clock::new(&self.progress);
        clock.phase("load");
        let choice = self.experiment.device.parse::<DeviceChoice>()?;
        let device = device::open(choice)?;
        let path = ModelChoice::parse(&self.experiment.model).locate(&self.progress)?;
        let base = {
            let _task = self.progress.task("base model", 0);
            BaseModel::open(&path, &device)
                .with_context(|| format!("base model {} cannot be used", path.display()))?
        };
        let output = Output::create(&self.out)?;
        let text = Text::prepare(&self.experiment, &base.tokenizer, &output.path("data"))?;
        let layout = Arc::new(base.adapter_layout(&lora(&self.experiment)?)?);
        let start = Adapter::initial(layout, self.experiment.seed);
        let stage = Stage {
            simulation: self,
            base: Arc::new(base),
            text,
            start,
            output,
        };
        stage.announce();
        stage.run(&mut clock)
    }
}

impl Stage<'_> {
    fn run(&self, clock: &mut Clock<'_>) -> anyhow::Result<Outcome> {
        let progress = &self.simulation.progress;
        let start = self.output.start_folder(
            &self.start,
            &self.base,
            self.simulation.experiment.adapter.dropout,
        )?;
        let federation = Federation::create(&self.text.institutions)?;
        clock.phase("base");
        let base = measure::everything(&self.base, None, &self.text, progress)?;
        clock.phase("federated");
        let without = federation.run(&self.run_of(Arm::WithoutEwc, &start, None), progress)?;
        clock.phase("anchor");
        let (anchor, anchor_tokens) = self.anchor()?;
        clock.phase("fed. + EWC");
        let federated =
            federation.run(&self.run_of(Arm::Federated, &start, Some(anchor)), progress)?;
        let private = self.private(&federation, &start, clock)?;
        clock.phase("alone");
        let mut steps = Vec::new();
        let alone = self.alone(&federated, &mut steps)?;
        clock.phase("evaluate");
        let measurements = Measurements {
            base,
            without_ewc: self.measured(&without)?,
            federated: self.measured(&federated)?,
            alone: self
                .text
                .institutions
                .iter()
                .zip(&alone)
                .map(|(one, own)| {
                    measure::loss(&self.base, Some(own), &one.held_out, &one.name, progress)
                })
                .collect::<anyhow::Result<_>>()?,
        };
        let mut summary = self.summary(&measurements, &without, &federated, anchor_tokens);
        if let Some((private, run)) = &private {
            steps.extend(run.steps.iter().cloned());
            summary.privacy = Some(self.privacy(private, run)?);
        }
        steps.extend(without.steps.iter().cloned());
        steps.extend(federated.steps.iter().cloned());
        (summary.seconds, summary.phases) = clock.finish();
        summary.peak_memory_bytes = memory::peak_bytes();
        self.output
            .write(&summary, &without, &federated, &steps, &self.text)?;
        progress.say(&format!("written to {}", self.output.folder().display()));
        Ok(Outcome {
            summary,
            adapter: federated.server.adapter,
            alone,
            folder: self.output.folder().to_owned(),
        })
    }

    /// Says what is about to happen.
    fn announce(&self) {
        let Experiment { training, seed, .. } = &self.simulation.experiment;
        let examples: Vec<String> = self
            .text
            .institutions
            .iter()
            .map(|one| format!("{} ({} records)", one.name, one.train.examples.len()))
            .collect();
        self.simulation.progress.say(&format!(
            "{}, seed {seed}, {} rounds of {} steps: {}",
            self.base.name,
            training.rounds,
            training.local_steps,
            examples.join(", ")
        ));
    }

    fn run_of(&self, arm: Arm, start: &Path, anchor: Option<PathBuf>) -> FederatedRun<'_> {
        FederatedRun {
            experiment: &self.simulation.experiment,
            arm,
            base: &self.base,
            institutions: &self.text.institutions,
            start: start.to_owned(),
            runs: self.output.path("runs"),
            anchor,
            private: None,
        }
    }

    /// The run under differential privacy, if the experiment asks for one.
    fn private(
        &self,
        federation: &Federation,
        start: &Path,
        clock: &mut Clock<'_>,
    ) -> anyhow::Result<Option<(PrivateRun, FederatedOutcome)>> {
        let experiment = &self.simulation.experiment;
        let Some(section) = &experiment.privacy else {
            return Ok(None);
        };
        clock.phase("private");
        let ledgers = self.output.path("ledgers");
        let private = PrivateRun::new(experiment, section, &self.text.institutions, ledgers)?;
        let run = FederatedRun {
            private: Some(&private),
            ..self.run_of(Arm::Private, start, Some(self.output.path(ANCHOR_FILE)))
        };
        let outcome = federation.run(&run, &self.simulation.progress)?;
        Ok(Some((private, outcome)))
    }

    fn privacy(
        &self,
        private: &PrivateRun,
        run: &FederatedOutcome,
    ) -> anyhow::Result<PrivacySummary> {
        let batch = self.simulation.experiment.training.batch_examples;
        let digest = run.server.adapter_sha256.to_string();
        let measured = self.measured(run)?;
        private.summary(batch, &self.text.institutions, &measured, digest)
    }

    /// The Fisher information on general text, as a file, and the tokens it was measured on.
    fn anchor(&self) -> anyhow::Result<(PathBuf, u64)> {
        let experiment = &self.simulation.experiment;
        let dataset = &self.text.anchor;
        let task = self
            .simulation
            .progress
            .task("anchor", dataset.examples.len() as u64);
        let mut tokens = 0;
        let anchor = fisher(
            &self.base,
            &lora(experiment)?,
            dataset,
            experiment.seed,
            &mut |report| {
                tokens = report.tokens;
                task.set(report.done as u64, "");
            },
        )?;
        let path = self.output.path(ANCHOR_FILE);
        std::fs::write(&path, anchor.to_bytes())
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok((path, tokens))
    }

    /// Trains each institution by itself, by the recipe of the run's plan.
    fn alone(
        &self,
        run: &FederatedOutcome,
        steps: &mut Vec<StepRecord>,
    ) -> anyhow::Result<Vec<Adapter>> {
        let baseline = Baseline {
            base: &self.base,
            recipe: &client::recipe_of(&run.plan),
            seed: run.plan.seed,
            start: &self.start,
        };
        self.text
            .institutions
            .iter()
            .map(|one| baseline.train(one, &self.simulation.progress, steps))
            .collect()
    }

    fn measured(&self, run: &FederatedOutcome) -> anyhow::Result<Measured> {
        let adapter = Some(&run.server.adapter);
        measure::everything(&self.base, adapter, &self.text, &self.simulation.progress)
    }

    fn summary(
        &self,
        measured: &Measurements,
        without: &FederatedOutcome,
        federated: &FederatedOutcome,
        anchor_tokens: u64,
    ) -> Summary {
        let experiment = &self.simulation.experiment;
        let participants: Vec<ParticipantSummary> = (0..self.text.institutions.len())
            .map(|at| self.participant(at, measured))
            .collect();
        Summary {
            model: self.base.name.clone(),
            model_fingerprint: hex::encode(self.base.fingerprint),
            seed: experiment.seed,
            rounds: experiment.training.rounds,
            local_steps: experiment.training.local_steps,
            learning_rate: experiment.training.learning_rate,
            ewc_lambda: experiment.ewc.lambda,
            mean: MeanSummary::of(&participants),
            participants,
            hostile: self.hostile(),
            general: GeneralSummary::of(
                measured.base.general.mean(),
                measured.federated.general.mean(),
                measured.without_ewc.general.mean(),
                measured.base.general.tokens,
                anchor_tokens,
            ),
            privacy: None,
            participant_privacy: participant_privacy(federated),
            bytes_up: federated.server.bytes_up,
            bytes_down: federated.server.bytes_down,
            seconds: 0.0,
            phases: Vec::new(),
            peak_memory_bytes: None,
            device: experiment.device.clone(),
            adapter_sha256: federated.server.adapter_sha256.to_string(),
            adapter_sha256_without_ewc: without.server.adapter_sha256.to_string(),
        }
    }

    /// The names of the institutions that were told to attack.
    fn hostile(&self) -> Vec<String> {
        let names = self.text.institutions.iter().map(|one| one.name.clone());
        let honest = names
            .len()
            .saturating_sub(self.simulation.experiment.hostile);
        names.skip(honest).collect()
    }

    fn participant(&self, at: usize, measured: &Measurements) -> ParticipantSummary {
        let institution = &self.text.institutions[at];
        let base = measured.base.institutions[at];
        let alone = measured.alone[at].mean();
        let federated = measured.federated.institutions[at].mean();
        let without = measured.without_ewc.institutions[at].mean();
        ParticipantSummary {
            name: institution.name.clone(),
            examples: institution.train.examples.len(),
            held_out_examples: institution.held_out.examples.len(),
            held_out_tokens: base.tokens,
            loss_base: base.mean(),
            loss_alone: alone,
            loss_federated: federated,
            loss_federated_without_ewc: without,
            perplexity_base: base.mean().exp(),
            perplexity_alone: alone.exp(),
            perplexity_federated: federated.exp(),
            perplexity_federated_without_ewc: without.exp(),
        }
    }
}

/// What the run has told of whether an institution took part, by the server's last record.
fn participant_privacy(run: &FederatedOutcome) -> Option<ParticipantPrivacySummary> {
    let last = run.server.records.last()?.participant_privacy.as_ref()?;
    Some(ParticipantPrivacySummary {
        epsilon: last.epsilon,
        delta: last.delta,
        expected: last.expected,
    })
}
