//! Watching a run: what clients and server tell becomes bars and the step records of the report.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use client::Event;
use server::RunEvent;

use super::FederatedRun;
use crate::progress::{Progress, Task};
use crate::summary::{Arm, StepRecord};

/// The watcher of one run.
pub(super) struct Watch {
    arm: Arm,
    tasks: BTreeMap<String, Arc<Task>>,
    rounds: Arc<Task>,
    local_steps: u64,
    progress: Progress,
    steps: Arc<Mutex<BTreeMap<(String, u64), f64>>>,
}

impl Watch {
    pub(super) fn new(run: &FederatedRun<'_>, progress: &Progress) -> Self {
        let rounds = u64::from(run.experiment.training.rounds);
        let total = run.experiment.total_steps();
        let task = |name: &String| (name.clone(), Arc::new(progress.task(name, total)));
        Self {
            arm: run.arm,
            rounds: Arc::new(progress.task("round", rounds)),
            tasks: run.institutions.iter().map(|one| task(&one.name)).collect(),
            local_steps: u64::from(run.experiment.training.local_steps),
            progress: progress.clone(),
            steps: Arc::default(),
        }
    }

    /// The observer of one client.
    pub(super) fn of(&self, name: &str) -> Arc<dyn client::Observer> {
        let (name, task) = (name.to_owned(), self.tasks.get(name).map(Arc::clone));
        let (steps, progress) = (Arc::clone(&self.steps), self.progress.clone());
        let local_steps = self.local_steps;
        let lost = Mutex::new(String::new());
        Arc::new(move |event: &Event| {
            let show = |done: u64, note: &str| {
                if let Some(task) = &task {
                    task.set(done, note);
                }
            };
            match event {
                Event::Step { report, .. } => {
                    show(report.step + 1, &report.loss_sentence());
                    let mut steps = steps.lock().unwrap_or_else(PoisonError::into_inner);
                    // A private step that drew no record has no loss.
                    if report.tokens > 0 {
                        steps.insert((name.clone(), report.step + 1), report.loss);
                    }
                }
                Event::Waiting { round } => {
                    show(
                        u64::from(round.0.saturating_sub(1)) * local_steps,
                        "waits for the device",
                    );
                }
                Event::Refused { round, reason } => {
                    progress.say(&format!(
                        "{name}: update of round {} refused: {reason:?}",
                        round.0
                    ));
                }
                // A connection that ends is news only if another is needed: every run ends with one.
                Event::Disconnected { reason, .. } => {
                    reason.clone_into(&mut lost.lock().unwrap_or_else(PoisonError::into_inner));
                }
                Event::Reconnecting { attempt } => {
                    let lost = lost.lock().unwrap_or_else(PoisonError::into_inner);
                    progress.say(&format!(
                        "{name}: connecting again, attempt {attempt} ({lost})"
                    ));
                }
                _ => {}
            }
        })
    }

    /// The observer of the server.
    pub(super) fn of_server(&self) -> Arc<dyn server::Observer> {
        let (rounds, progress) = (Arc::clone(&self.rounds), self.progress.clone());
        Arc::new(move |event: &RunEvent| {
            if let RunEvent::RoundFinished(record) = event {
                rounds.set(u64::from(record.round), "");
                progress.say(&format!("  round {} merged", record.round));
            }
        })
    }

    /// The steps seen, by institution and step.
    pub(super) fn steps(&self) -> Vec<StepRecord> {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps
            .iter()
            .map(|((participant, step), loss)| StepRecord {
                arm: self.arm,
                participant: participant.clone(),
                step: *step,
                loss: *loss,
            })
            .collect()
    }
}
