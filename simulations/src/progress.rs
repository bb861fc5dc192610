//! What a person sees while a simulation works: bars on a terminal, plain or JSON lines elsewhere.
//!
//! Never silent: without a terminal a line says every few seconds what is going on and how long it has
//! taken. It is not a log; what went wrong is an error.

mod task;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use indicatif::MultiProgress;
use serde_json::json;

pub use self::task::Task;

/// Longest silence of the line displays.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Display {
    /// Bars, redrawn in place, on standard error.
    Bars,
    /// One line at a time with the elapsed time, on standard error.
    Lines,
    /// One JSON object per line, on standard output.
    JsonLines,
    /// Nothing.
    Quiet,
}

impl Display {
    /// Bars on a terminal, lines elsewhere.
    #[must_use]
    pub fn detect() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Bars
        } else {
            Self::Lines
        }
    }
}

/// The display of one simulation; clones show on the same one.
#[derive(Clone)]
pub struct Progress {
    shared: Arc<Shared>,
}

struct Shared {
    display: Display,
    started: Instant,
    bars: MultiProgress,
    state: Mutex<State>,
}

struct State {
    phase: String,
    tasks: BTreeMap<String, Done>,
    last_line: Instant,
}

/// How far a task is.
#[derive(Clone, Debug, Default, PartialEq)]
struct Done {
    done: u64,
    total: u64,
    note: String,
}

impl Progress {
    /// A display; `now` is when the simulation began.
    #[must_use]
    pub fn new(display: Display, now: Instant) -> Self {
        let state = State {
            phase: String::new(),
            tasks: BTreeMap::new(),
            last_line: now,
        };
        let shared = Arc::new(Shared {
            display,
            started: now,
            bars: MultiProgress::new(),
            state: Mutex::new(state),
        });
        if matches!(display, Display::Lines | Display::JsonLines) {
            heartbeat(Arc::downgrade(&shared));
        }
        Self { shared }
    }

    /// Announces a phase.
    pub fn phase(&self, name: &str) {
        self.shared.state().phase = name.to_owned();
        self.say(name);
    }

    /// Says one sentence.
    pub fn say(&self, sentence: &str) {
        self.shared.say(sentence);
    }

    /// A task of the present phase, with its bar or its share of the lines.
    #[must_use]
    pub fn task(&self, label: &str, total: u64) -> Task {
        Task::new(self.clone(), label, total)
    }

    /// Seconds since the simulation began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.started.elapsed()
    }
}

impl Shared {
    /// The state; a panic elsewhere does not silence the display.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, sentence: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        self.state().last_line = Instant::now();
        match self.display {
            Display::Quiet => {}
            // A display that cannot be written to is no reason to stop the work.
            Display::Bars => drop(self.bars.println(format!("[{seconds:6.1} s] {sentence}"))),
            Display::Lines => {
                drop(writeln!(std::io::stderr(), "[{seconds:6.1} s] {sentence}"));
            }
            Display::JsonLines => {
                let line =
                    json!({"seconds": seconds, "phase": self.state().phase, "message": sentence});
                drop(writeln!(std::io::stdout(), "{line}"));
            }
        }
    }

    /// The line that breaks a silence.
    fn beat(&self) {
        let sentence = {
            let state = self.state();
            if state.last_line.elapsed() < SILENCE_MAX || state.phase.is_empty() {
                return;
            }
            beat_sentence(&state.phase, &state.tasks)
        };
        self.say(&sentence);
    }
}

fn beat_sentence(phase: &str, tasks: &BTreeMap<String, Done>) -> String {
    let tasks: Vec<String> = tasks
        .iter()
        .map(
            |(label, Done { done, total, note })| match (total, note.is_empty()) {
                (0, true) => label.clone(),
                (0, false) => format!("{label} {note}"),
                (_, true) => format!("{label} {done}/{total}"),
                (_, false) => format!("{label} {done}/{total} {note}"),
            },
        )
        .collect();
    if tasks.is_empty() {
        format!("{phase} ...")
    } else {
        format!("  {phase}: {}", tasks.join(", "))
    }
}

/// Breaks silences until the display is gone.
fn heartbeat(shared: Weak<Shared>) {
    std::thread::spawn(move || {
        while let Some(shared) = shared.upgrade() {
            shared.beat();
            drop(shared);
            std::thread::sleep(Duration::from_millis(500));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_broken_by_what_every_task_is_at() {
        let mut tasks = BTreeMap::new();
        tasks.insert(
            "bank".to_owned(),
            Done {
                done: 3,
                total: 16,
                note: "loss 1.20".to_owned(),
            },
        );
        tasks.insert(
            "download".to_owned(),
            Done {
                done: 0,
                total: 0,
                note: "12 MiB".to_owned(),
            },
        );
        let said = beat_sentence("training", &tasks);
        assert_eq!(said, "  training: bank 3/16 loss 1.20, download 12 MiB");
        assert_eq!(beat_sentence("loading", &BTreeMap::new()), "loading ...");
    }

    #[test]
    fn tasks_are_listed_while_they_last() {
        let progress = Progress::new(Display::Quiet, Instant::now());
        progress.phase("evaluate");
        let task = progress.task("bank", 24);
        task.set(5, "");
        assert_eq!(progress.shared.state().tasks["bank"].done, 5);
        drop(task);
        assert!(progress.shared.state().tasks.is_empty());
    }
}
