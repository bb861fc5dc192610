//! How long work shows that it goes on: a bar on a terminal, plain lines otherwise.
//!
//! Both on stderr. A plain line comes at most every few seconds, and always for the first and the last item, so that a log file
//! stays readable and nobody waits in silence.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

/// The shortest time between two plain lines.
const LINE_PAUSE: Duration = Duration::from_secs(5);

/// Says a line. Work does not end because nobody can be told how far it is.
pub(super) fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The progress of one piece of work.
#[derive(Debug)]
pub(super) struct Progress {
    label: String,
    bar: Option<ProgressBar>,
    begun: Instant,
    said: Option<Instant>,
}

impl Progress {
    /// Begins to show work of `total` items; 0 if that is not known yet.
    pub(super) fn begin(label: impl Into<String>, total: u64) -> Self {
        let label = label.into();
        let bar = io::stderr().is_terminal().then(|| bar(&label, total));
        let begun = Instant::now();
        let progress = Self {
            label,
            bar,
            begun,
            said: None,
        };
        if progress.bar.is_none() && total == 0 {
            tell(format_args!("{} ...", progress.label));
        }
        progress
    }

    /// Shows that `done` of `total` items are done, with a word on the current state.
    pub(super) fn show(&mut self, done: u64, total: u64, state: &str) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(state.to_owned());
            return;
        }
        let due = self.said.is_none_or(|said| said.elapsed() >= LINE_PAUSE);
        if due || done == total {
            self.said = Some(Instant::now());
            let seconds = self.begun.elapsed().as_secs_f64();
            let label = &self.label;
            tell(format_args!(
                "{label}: {done}/{total}  {state}  [{seconds:.0} s]"
            ));
        }
    }

    /// Gives the time since the beginning in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Ends the display.
    pub(super) fn end(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(label: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    bar.set_prefix(label.to_owned());
    bar.set_style(style());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{spinner} {prefix} [{bar:30}] {pos}/{len} {msg} ({elapsed}, {eta} left)",
    )
    .expect("the template is a constant and was tried")
    .progress_chars("=> ")
}

/// A bar for a whole run beside which the log is written: the bar moves down a line for each line of the log.
#[derive(Clone, Debug)]
pub(super) struct RunBar(Option<ProgressBar>);

impl RunBar {
    /// Makes the bar; nothing is drawn if stderr is no terminal.
    pub(super) fn new() -> Self {
        Self(io::stderr().is_terminal().then(|| bar("foedus", 0)))
    }

    /// Whether there is a bar.
    pub(super) fn is_drawn(&self) -> bool {
        self.0.is_some()
    }

    /// Shows that `done` of `total` items are done, with a word on the current state.
    pub(super) fn show(&self, label: String, done: u64, total: u64, state: String) {
        if let Some(bar) = &self.0 {
            bar.set_prefix(label);
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(state);
        }
    }

    /// Removes the bar.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl<'a> MakeWriter<'a> for RunBar {
    type Writer = BesideBar;

    fn make_writer(&'a self) -> BesideBar {
        BesideBar(self.0.clone())
    }
}

/// Writes to stderr while the bar is out of the way.
#[derive(Debug)]
pub(super) struct BesideBar(Option<ProgressBar>);

impl io::Write for BesideBar {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let write = || io::stderr().write_all(line);
        match &self.0 {
            Some(bar) => bar.suspend(write)?,
            None => write()?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_of_the_bar_is_accepted() {
        let _ = style();
    }
}
