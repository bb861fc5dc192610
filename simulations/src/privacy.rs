//! The run under differential privacy: its plan, and what the institutions' ledgers say afterwards.

use std::path::{Path, PathBuf};

use aggregation::privacy::{Accountant, Budget, noise_within};
use anyhow::Context as _;
use client::privacy::{Ledger, PrivacySettings};
use protocol::plan::{PrivacyPlan, PrivacyUnit};

use crate::experiment::{Experiment, PrivacySection};
use crate::measure::Measured;
use crate::summary::{PrivacySummary, PrivateParticipant};
use crate::text::InstitutionText;

/// A private run's plan, with room for its ledgers.
#[derive(Clone, Debug)]
pub struct PrivateRun {
    /// The plan's section.
    pub plan: PrivacyPlan,
    /// Micro-batches in a step.
    pub accumulation: u32,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// The folder of the institutions' ledgers.
    pub ledgers: PathBuf,
}

impl PrivateRun {
    /// Finds the noise that keeps the institution with the fewest records within the experiment's epsilon.
    ///
    /// # Errors
    /// If the section's numbers make no sense or no noise is enough.
    pub fn new(
        experiment: &Experiment,
        section: &PrivacySection,
        institutions: &[InstitutionText],
        ledgers: PathBuf,
    ) -> anyhow::Result<Self> {
        let budget = Budget::new(section.epsilon, section.delta).context("[privacy]")?;
        let batch = f64::from(experiment.training.batch_examples * section.accumulation);
        let fewest = institutions
            .iter()
            .map(|one| one.train.examples.len())
            .min();
        let rate = finetune::privacy::sampling_rate(batch, fewest.unwrap_or(1));
        let nothing = Accountant::default();
        let noise = noise_within(budget, rate, experiment.total_steps(), &nothing)
            .context("[privacy] epsilon")?;
        Ok(Self {
            plan: PrivacyPlan {
                unit: PrivacyUnit::Record,
                clip_norm: section.clip_norm,
                noise_multiplier: noise,
                epsilon_max: section.epsilon,
                delta: section.delta,
            },
            accumulation: section.accumulation,
            learning_rate: section.learning_rate,
            ledgers,
        })
    }

    /// What an institution allows: just the plan's epsilon, counted in a ledger of its own.
    ///
    /// # Errors
    /// None that the plan's check has not found before.
    pub fn settings(&self, institution: &str) -> anyhow::Result<PrivacySettings> {
        Ok(PrivacySettings {
            ledger: self.ledger(institution),
            budget: Budget::new(self.plan.epsilon_max, self.plan.delta)?,
            group_by: None,
            records_max: 1,
            required: None,
        })
    }

    /// What the run promised and cost, by the ledgers and the losses of its adapter.
    ///
    /// # Errors
    /// If a ledger cannot be read.
    pub fn summary(
        &self,
        batch_examples: u32,
        institutions: &[InstitutionText],
        measured: &Measured,
        adapter_sha256: String,
    ) -> anyhow::Result<PrivacySummary> {
        let people = institutions.iter().zip(&measured.institutions);
        let participants: Vec<PrivateParticipant> = people
            .map(|(one, loss)| self.participant(&one.name, loss.mean()))
            .collect::<anyhow::Result<_>>()?;
        let sum: f64 = participants.iter().map(|one| one.loss).sum();
        Ok(PrivacySummary {
            delta: self.plan.delta,
            noise_multiplier: self.plan.noise_multiplier,
            clip_norm: self.plan.clip_norm,
            batch: batch_examples * self.accumulation,
            mean_loss: sum / participants.len() as f64,
            participants,
            general_loss: measured.general.mean(),
            adapter_sha256,
        })
    }

    fn participant(&self, name: &str, loss: f64) -> anyhow::Result<PrivateParticipant> {
        let ledger = Ledger::read(&self.ledger(name))?;
        let last = ledger
            .entries()
            .last()
            .context("a private run counts its steps")?;
        Ok(PrivateParticipant {
            name: name.to_owned(),
            epsilon: ledger.accountant(|_| true)?.cost(self.plan.delta).epsilon,
            sampling_rate: last.sampling_rate,
            steps: ledger.entries().iter().map(|entry| entry.steps).sum(),
            loss,
        })
    }

    fn ledger(&self, institution: &str) -> PathBuf {
        self.ledgers
            .join(Path::new(institution))
            .with_added_extension("privacy")
    }
}
