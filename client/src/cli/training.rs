//! The stretches of a training alone: steps, then an evaluation or a checkpoint, then steps again.

use std::{
    fs,
    io::ErrorKind,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use aggregation::Adapter;
use anyhow::Context as _;
use finetune::{
    base::BaseModel,
    data::Dataset,
    train::{Best, Course, StepReport, Verdict},
};

use super::{arguments::TrainArguments, evaluate::measure, failure::Failure, progress::Progress};
use crate::{
    durable,
    error::ClientError,
    privacy::{Account, STEPS_AT_ONCE},
};

/// A training under way.
pub(super) struct Training<'a> {
    course: Course,
    held_out: Option<(&'a Dataset, u64)>,
    checkpoint: Option<(PathBuf, u64)>,
    /// Where private steps are counted before they are taken.
    account: Option<Account>,
    summary: Summary,
}

/// What this process's part of a training came to.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// Steps of the whole training, those of an earlier process included.
    pub(super) steps: u64,
    /// The step that this process began with.
    pub(super) resumed_at: u64,
    /// The best evaluation, where early stopping looked for it.
    pub(super) best: Option<Best>,
    /// What private training has cost.
    pub(super) privacy: Option<PrivacySummary>,
    seconds: f64,
    rows: u64,
    tokens: u64,
    nats: f64,
}

/// What private training came to.
#[derive(Debug)]
pub(super) struct PrivacySummary {
    /// Of everything that was ever counted in the ledger.
    pub(super) epsilon: f64,
    pub(super) delta: f64,
    pub(super) noise_multiplier: f64,
    pub(super) sampling_rate: f64,
    /// Whether the next step would have exceeded the budget.
    pub(super) stopped: bool,
    ledger: PathBuf,
}

impl Summary {
    pub(super) fn tokens_per_second(&self) -> f64 {
        self.rows as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Nats per response token over the steps of this process; 0 if there were none.
    pub(super) fn mean_loss(&self) -> f64 {
        self.nats / self.tokens.max(1) as f64
    }

    pub(super) fn sentence(&self) -> String {
        let mut sentence = format!(
            "trained {} steps at {:.0} tokens/s, mean loss {:.4}",
            self.steps,
            self.tokens_per_second(),
            self.mean_loss()
        );
        if self.resumed_at > 0 {
            sentence += &format!("; resumed at step {}", self.resumed_at);
        }
        if let Some(best) = self.best {
            sentence += &format!(
                "; lowest held-out loss {:.4} after step {}, whose adapter is kept",
                best.loss, best.step
            );
        }
        if let Some(privacy) = &self.privacy {
            let (epsilon, delta) = (privacy.epsilon, privacy.delta);
            let (noise, ledger) = (privacy.noise_multiplier, privacy.ledger.display());
            sentence += &format!(
                "; noise multiplier {noise:.4}; epsilon {epsilon:.4} at delta {delta} was spent on this data in all (ledger {ledger})"
            );
            if privacy.stopped {
                sentence += "; stopped early, because the next step would have exceeded the budget (E_DP_BUDGET)";
            }
        }
        sentence
    }
}

impl<'a> Training<'a> {
    /// Begins, or goes on from the checkpoint if its file is there.
    pub(super) fn begin(
        mut course: Course,
        arguments: &TrainArguments,
        held_out: Option<&'a Dataset>,
        account: Option<Account>,
    ) -> Result<Self, Failure> {
        if let Some(file) = &arguments.checkpoint {
            resume(&mut course, file)?;
        }
        let every = arguments.eval_every;
        let checkpoint = arguments.checkpoint.clone();
        Ok(Self {
            held_out: held_out.zip(every.map(std::num::NonZeroU64::get)),
            checkpoint: checkpoint.map(|file| (file, arguments.checkpoint_every.get())),
            account,
            summary: Summary {
                resumed_at: course.step(),
                ..Summary::default()
            },
            course,
        })
    }

    /// Takes all steps left, with progress on stderr.
    pub(super) fn run(&mut self, base: &BaseModel) -> Result<(), Failure> {
        while self.course.steps_left() > 0 {
            let stretch = self.pay(self.stretch())?;
            if stretch == 0 {
                break;
            }
            self.advance(stretch)?;
            let step = self.course.step();
            if let Some((data, every)) = self.held_out
                && (step.is_multiple_of(every) || self.course.steps_left() == 0)
            {
                let loss = measure("held out", base, Some(self.course.adapter()), data)?.mean();
                match self.course.judge(loss) {
                    Verdict::Improved => tracing::info!(step, loss, "held-out loss"),
                    Verdict::Waiting(since) => {
                        tracing::info!(step, loss, since, "held-out loss: no improvement");
                    }
                    Verdict::Stop => tracing::info!(step, loss, "held-out loss: stopping early"),
                }
            }
            if let Some((file, every)) = &self.checkpoint
                && step.is_multiple_of(*every)
            {
                store(file, &self.course.checkpoint())?;
                tracing::info!(step, "checkpoint written");
            }
        }
        Ok(())
    }

    /// Counts the next private steps, at most `stretch`, before they are taken; gives how many the budget allows.
    fn pay(&mut self, stretch: u64) -> Result<u64, Failure> {
        let Some(account) = &self.account else {
            return Ok(stretch);
        };
        let wanted = stretch.min(STEPS_AT_ONCE).min(self.course.steps_left());
        let allowed = account.steps_left(wanted).map_err(ClientError::from)?;
        if allowed > 0 {
            account
                .spend(self.course.step(), allowed)
                .map_err(ClientError::from)?;
        }
        Ok(allowed)
    }

    fn privacy(&self) -> Result<Option<PrivacySummary>, Failure> {
        let Some(account) = &self.account else {
            return Ok(None);
        };
        Ok(Some(PrivacySummary {
            epsilon: account.cost().map_err(ClientError::from)?.epsilon,
            delta: account.budget().delta(),
            noise_multiplier: account.step().noise_multiplier(),
            sampling_rate: account.step().sampling_rate(),
            stopped: self.course.steps_left() > 0,
            ledger: account.ledger().to_owned(),
        }))
    }

    /// Steps until the next evaluation or checkpoint.
    fn stretch(&self) -> u64 {
        let step = self.course.step();
        let evaluation = self.held_out.map(|(_, every)| every);
        let checkpoint = self.checkpoint.as_ref().map(|(_, every)| *every);
        let to_next = [evaluation, checkpoint]
            .into_iter()
            .flatten()
            .map(|every| every - step % every);
        to_next.min().unwrap_or(u64::MAX)
    }

    fn advance(&mut self, steps: u64) -> Result<(), Failure> {
        let Self {
            course, summary, ..
        } = self;
        let end = course.step() + course.steps_left();
        let mut progress = Progress::begin("training", end);
        let mut rows = 0;
        let trained = course.advance(steps, &mut |report: &StepReport| {
            rows += report.rows;
            let speed = rows as f64 / progress.seconds().max(f64::MIN_POSITIVE);
            let state = format!("{}, {speed:.0} tokens/s", report.loss_sentence());
            progress.show(report.step + 1, end, &state);
            ControlFlow::Continue(())
        });
        summary.seconds += progress.seconds();
        progress.end();
        let trained = trained.map_err(anyhow::Error::from)?;
        summary.rows += rows;
        summary.tokens += trained.tokens;
        summary.nats += trained.mean_loss * trained.tokens as f64;
        Ok(())
    }

    /// Ends: the adapter to keep, and what happened. The checkpoint stays until [`forget`].
    pub(super) fn finish(self) -> Result<(Adapter, Summary), Failure> {
        let privacy = self.privacy()?;
        let mut summary = self.summary;
        summary.privacy = privacy;
        summary.steps = self.course.step();
        summary.best = self.course.best();
        Ok((self.course.finish(), summary))
    }
}

/// Removes the checkpoint of a training whose adapter is on disk.
pub(super) fn forget(file: &Path) -> Result<(), Failure> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            let what = || format!("cannot remove {}", file.display());
            Err(anyhow::Error::from(error).context(what()).into())
        }
        _ => Ok(()),
    }
}

/// The noise that the training of a checkpoint was begun with, if there is one and it is private.
///
/// The same command goes on with that: what was spent since would lead to another.
pub(super) fn noise_begun_with(file: &Path) -> Result<Option<f64>, Failure> {
    let Some(bytes) = read(file)? else {
        return Ok(None);
    };
    let noise = Course::noise_multiplier(&bytes).with_context(|| no_use(file))?;
    Ok(noise)
}

fn resume(course: &mut Course, file: &Path) -> Result<(), Failure> {
    let Some(bytes) = read(file)? else {
        return Ok(());
    };
    course.resume(&bytes).with_context(|| no_use(file))?;
    tracing::info!(step = course.step(), "going on from {}", file.display());
    Ok(())
}

fn read(file: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => {
            Ok(Some(read.with_context(|| {
                format!("cannot read {}", file.display())
            })?))
        }
    }
}

fn no_use(file: &Path) -> String {
    let file = file.display();
    format!("cannot go on from {file}; move it away to begin anew")
}

/// Writes the whole file or leaves what was there.
fn store(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = durable::replace(file, bytes);
    Ok(written.with_context(|| format!("cannot write the checkpoint {}", file.display()))?)
}
