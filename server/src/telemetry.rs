//! Where the program's log goes: standard error, as text or JSON, around a progress bar if there is one.
//!
//! Installed by [`cli`](crate::cli) alone, never by the library path: a process has one subscriber, and it belongs to
//! whoever owns the process.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogFormat, RawLog};
use crate::observer::{Observer, RunEvent};

/// Installs the process's log.
///
/// # Errors
/// A sentence, if the level is no filter.
pub fn install(log: &RawLog, bar: Option<ProgressBar>) -> Result<(), String> {
    let filter = EnvFilter::try_new(&log.level)
        .map_err(|error| format!("log.level {:?} is no filter: {error}", log.level))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Or a log that cannot be written would be complained of where it cannot be written either, by a panic.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(AroundBar(bar));
    // A second installation in one process is refused; the first stays.
    let _ = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// Standard error, with the bar out of the way while a line is written.
#[derive(Clone, Debug)]
struct AroundBar(Option<ProgressBar>);

impl Write for AroundBar {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Some(bar) => bar.suspend(|| io::stderr().write_all(line))?,
            None => io::stderr().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for AroundBar {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Shows the rounds of a run as a progress bar.
#[derive(Debug)]
pub struct RoundsBar(ProgressBar);

impl RoundsBar {
    /// Makes a bar over so many rounds, if standard error is a terminal and the log is text.
    pub fn for_terminal(rounds: u32, log: &RawLog) -> Option<Self> {
        (io::stderr().is_terminal() && log.format == LogFormat::Text).then(|| {
            let bar = ProgressBar::new(u64::from(rounds));
            let style =
                ProgressStyle::with_template("{bar:24} round {pos}/{len} {elapsed} {wide_msg}");
            // The template is ours and constant; the default one is as good if it were wrong.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message("waiting for participants");
            Self(bar)
        })
    }

    /// Gives a handle to the same bar.
    pub fn handle(&self) -> ProgressBar {
        self.0.clone()
    }
}

impl Observer for RoundsBar {
    fn observe(&self, event: &RunEvent) {
        match event {
            RunEvent::Joined { participant, .. } => {
                self.0.set_message(format!("{participant} joined"))
            }
            RunEvent::RoundOpened { round, asked } => {
                self.0
                    .set_message(format!("round {round}: {} training", asked.len()));
            }
            RunEvent::Progress {
                participant,
                step,
                steps,
                ..
            } => {
                self.0
                    .set_message(format!("{participant}: step {step}/{steps}"));
            }
            RunEvent::Receiving {
                participant,
                received,
                total,
            } => {
                let share = received * 100 / (*total).max(1);
                self.0
                    .set_message(format!("receiving from {participant}: {share} %"));
            }
            RunEvent::Accepted { participant, .. } => {
                self.0.set_message(format!("{participant} delivered"))
            }
            RunEvent::Refused {
                participant,
                reason,
                ..
            } => {
                self.0
                    .set_message(format!("{participant} refused: {}", reason.label()));
            }
            RunEvent::RoundFinished(record) => self.0.set_position(u64::from(record.round)),
            RunEvent::Finished { .. } => self.0.finish_with_message("finished"),
            _ => {}
        }
    }
}
