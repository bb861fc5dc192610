//! Wall-clock time per phase.

use std::time::Instant;

use crate::progress::Progress;
use crate::summary::PhaseSummary;

/// Announces phases and keeps how long each took.
pub(super) struct Clock<'a> {
    progress: &'a Progress,
    running: Option<(String, Instant)>,
    done: Vec<PhaseSummary>,
}

impl<'a> Clock<'a> {
    pub(super) fn new(progress: &'a Progress) -> Self {
        Self {
            progress,
            running: None,
            done: Vec::new(),
        }
    }

    /// Ends the phase that runs, and begins the next.
    pub(super) fn phase(&mut self, name: &str) {
        self.end();
        self.progress.phase(name);
        self.running = Some((name.to_owned(), Instant::now()));
    }

    /// Ends the last phase, and gives the seconds in all and those of each phase.
    pub(super) fn finish(&mut self) -> (f64, Vec<PhaseSummary>) {
        self.end();
        (
            self.progress.elapsed().as_secs_f64(),
            std::mem::take(&mut self.done),
        )
    }

    fn end(&mut self) {
        if let Some((name, began)) = self.running.take() {
            self.done.push(PhaseSummary {
                name,
                seconds: began.elapsed().as_secs_f64(),
            });
        }
    }
}
