//! Follows one round's training: tells of each step, passes a stop on, and has a checkpoint kept from time to time.

use std::sync::atomic::{AtomicBool, Ordering};

use finetune::train::StepReport;
use protocol::Round;
use tokio::sync::mpsc::UnboundedSender;

use super::happening::Happening;
use crate::{
    error::ClientError,
    observer::{Event, Observer},
    site::{Follower, Next},
    state::TrainingFile,
};

/// The follower of a round.
pub(super) struct Following<'a> {
    pub(super) round: Round,
    pub(super) stop: &'a AtomicBool,
    pub(super) observer: &'a dyn Observer,
    pub(super) happenings: &'a UnboundedSender<Happening>,
    /// Where the training is kept; none keeps it in memory only.
    pub(super) file: Option<TrainingFile>,
}

impl Follower for Following<'_> {
    fn begun(&mut self) -> Option<Vec<u8>> {
        let begun = self.file.as_ref().and_then(TrainingFile::begun);
        begun.map(Vec::from)
    }

    fn step(&mut self, report: &StepReport) -> Next {
        self.observer.observe(&Event::Step {
            round: self.round,
            report: report.clone(),
        });
        let done = u32::try_from(report.done).unwrap_or(u32::MAX);
        let stepped = Happening::Stepped(self.round, done);
        let is_heard = self.happenings.send(stepped).is_ok();
        if !is_heard || self.stop.load(Ordering::Relaxed) {
            Next::Stop
        } else if self.file.as_ref().is_some_and(TrainingFile::is_due) {
            Next::Keep
        } else {
            Next::Step
        }
    }

    fn keep(&mut self, checkpoint: &[u8]) -> Result<(), ClientError> {
        match &mut self.file {
            Some(file) => Ok(file.keep(checkpoint)?),
            None => Ok(()),
        }
    }
}
