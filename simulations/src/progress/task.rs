//! One task of a phase: a bar on a terminal, a share of the line elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Display, Done, Progress};

/// A task on the display; it leaves the display when it is dropped.
pub struct Task {
    progress: Progress,
    label: String,
    bar: Option<ProgressBar>,
}

impl Task {
    pub(super) fn new(progress: Progress, label: &str, total: u64) -> Self {
        let done = Done {
            total,
            ..Done::default()
        };
        progress.shared.state().tasks.insert(label.to_owned(), done);
        let bar = (progress.shared.display == Display::Bars).then(|| {
            let bar = if total == 0 {
                ProgressBar::new_spinner()
            } else {
                ProgressBar::new(total)
            };
            let bar = progress.shared.bars.add(bar.with_style(style(total)));
            bar.set_prefix(label.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self {
            progress,
            label: label.to_owned(),
            bar,
        }
    }

    /// Sets how far the task is, and a note beside it.
    pub fn set(&self, done: u64, note: &str) {
        if let Some(entry) = self.progress.shared.state().tasks.get_mut(&self.label) {
            entry.done = done;
            note.clone_into(&mut entry.note);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(note.to_owned());
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.progress.shared.state().tasks.remove(&self.label);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(total: u64) -> ProgressStyle {
    let template = if total == 0 {
        "  {prefix:22} {spinner} {elapsed} {msg}"
    } else {
        "  {prefix:22} [{bar:32}] {pos}/{len} {elapsed} {msg}"
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
