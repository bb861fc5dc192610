//! One round's training: waits for the device, trains on a blocking thread, and hands the trainer back.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aggregation::{Adapter, AdapterError, Encoding, masking::FixedRing};
use bytes::Bytes;
use finetune::train::Trained;
use protocol::{Digest, Round, message::Content};
use tokio::{sync::mpsc::UnboundedSender, task::JoinHandle};

use super::{following::Following, happening::Happening};
use crate::{
    error::ClientError,
    observer::{Event, Observer, RoundDone},
    settings::DeviceTurn,
    site::Learner,
    state::{Draft, TrainingFile},
};

/// What a round asks for.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) round: Round,
    /// Of the global adapter as it was sent.
    pub(super) digest: Digest,
    /// Of the update.
    pub(super) form: UpdateForm,
    /// The norm within which the update must be when it leaves.
    pub(super) clip: Option<f64>,
    pub(super) global: Adapter,
    pub(super) first_step: u32,
    pub(super) steps: u32,
    /// The file in which the finished update is kept.
    pub(super) state: Option<PathBuf>,
    /// The file in which the training is kept meanwhile.
    pub(super) file: Option<TrainingFile>,
}

/// How an update travels.
#[derive(Clone, Debug)]
pub(super) enum UpdateForm {
    /// Each value by itself.
    Values(Encoding),
    /// In blocks of int8, rounded at random.
    Blocks {
        /// What earlier updates left over.
        left_over: Option<Arc<Adapter>>,
        /// What the random numbers follow from, beside the values.
        context: Vec<u8>,
    },
    /// As fixed point in the plan's ring.
    Ring(RingForm),
}

impl UpdateForm {
    /// In blocks of int8, as the update of this round of the plan.
    ///
    /// Rounded by numbers that follow from the plan's lots, round and values: a round that is trained again gives the same bytes, and
    /// equal data give equal updates.
    pub(super) fn blocks(lots: Digest, round: Round, left_over: Option<Arc<Adapter>>) -> Self {
        let context = [&lots.0[..], &round.0.to_le_bytes()].concat();
        Self::Blocks { left_over, context }
    }
}

/// How an update is put into the ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingForm {
    pub(super) fixed: FixedRing,
    /// The plan's largest weight.
    pub(super) weight_max: u64,
    /// The plan's largest norm.
    pub(super) norm_max: f64,
}

impl RingForm {
    /// The update's values, weight and count of cut-off values as they are summed.
    fn encode(
        &self,
        adapter: &Adapter,
        global: &Adapter,
        weight: u64,
    ) -> Result<Encoded, AdapterError> {
        let weights = (weight, self.weight_max);
        let made = self
            .fixed
            .encode_difference((adapter, global), weights, self.norm_max)?;
        if 0 < made.cut_off || made.shrunk_by < 1.0 {
            let (cut_off, shrunk_by) = (made.cut_off, made.shrunk_by);
            tracing::warn!(
                cut_off,
                shrunk_by,
                "the update is over the plan's bounds and was brought within them"
            );
        }
        Ok(aggregation::adapter::Update {
            bytes: made.hashed.bytes,
            sha256: made.hashed.sha256,
            norm: made.norm,
        }
        .into())
    }
}

/// A training under way.
#[derive(Debug)]
pub(super) struct Training {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// The end of a training: the learner comes back for the next round.
pub(super) struct TrainingEnd {
    pub(super) round: Round,
    /// Of the global adapter that it started from.
    pub(super) global: Digest,
    pub(super) learner: Box<dyn Learner>,
    /// The update, or none if the training was stopped.
    pub(super) outcome: Result<Option<Update>, ClientError>,
}

/// A finished update.
pub(super) struct Update {
    pub(super) content: Content,
    pub(super) bytes: Bytes,
    /// What it leaves over, if it is in blocks of int8.
    pub(super) left_over: Option<Adapter>,
    pub(super) done: RoundDone,
    /// As far as it is written down already.
    pub(super) draft: Option<Draft>,
}

impl Training {
    /// Begins a training as soon as it is its turn on the device.
    pub(super) fn begin(
        task: Task,
        learner: Box<dyn Learner>,
        turn: DeviceTurn,
        observer: Arc<dyn Observer>,
        happenings: UnboundedSender<Happening>,
    ) -> Self {
        let (round, stop) = (task.round, Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        observer.observe(&Event::Waiting { round });
        let thread = tokio::spawn(async move {
            let permit = turn.take().await;
            let steps_told = happenings.clone();
            let work = move || {
                let end = train(task, learner, &stopped, observer.as_ref(), &steps_told);
                // The device is free before anybody hears that it is.
                drop(permit);
                end
            };
            let happening = match tokio::task::spawn_blocking(work).await {
                Ok(end) => Happening::Trained(Box::new(end)),
                Err(error) => Happening::Lost(format!("the training thread: {error}")),
            };
            // Without a receiver the run is over and nobody wants the update.
            let _ = happenings.send(happening);
        });
        Self { stop, thread }
    }

    /// Asks the training to stop after its current step.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until the thread is done with the device.
    pub(super) async fn ended(self) {
        self.stop();
        // What it ended with was reported as a happening.
        let _ = self.thread.await;
    }
}

fn train(
    task: Task,
    mut learner: Box<dyn Learner>,
    stop: &AtomicBool,
    observer: &dyn Observer,
    happenings: &UnboundedSender<Happening>,
) -> TrainingEnd {
    let Task {
        round,
        digest,
        form,
        clip,
        global,
        first_step,
        steps,
        state,
        file,
    } = task;
    let mut follower = Following {
        round,
        stop,
        observer,
        happenings,
        file,
    };
    // A stop while waiting for the device means no step at all.
    let trained = if stop.load(Ordering::Relaxed) {
        Ok(None)
    } else {
        let first_step = u64::from(first_step);
        let learned = learner.learn(&global, first_step, u64::from(steps), &mut follower);
        learned.map(Some)
    };
    let outcome = trained.and_then(|trained| {
        let Some(trained) = trained.filter(|trained| u64::from(steps) <= trained.steps) else {
            return Ok(None);
        };
        let last_step = u64::from(first_step) + u64::from(steps).saturating_sub(1);
        let mut draft = state.as_deref().map(Draft::begin);
        let encoded = encoded(&trained, &global, (&form, clip), draft.as_mut());
        let encoded = encoded.map_err(|source| ClientError::Diverged {
            round,
            last_step,
            source,
        })?;
        let done = RoundDone {
            round,
            weight: trained.examples_used,
            train_loss: trained.mean_loss,
            steps: trained.steps,
            update_norm: encoded.norm,
            rounding: encoded.rounding,
        };
        Ok(Some(Update {
            content: encoded.content,
            bytes: encoded.bytes,
            left_over: encoded.left_over,
            done,
            draft,
        }))
    });
    TrainingEnd {
        round,
        global: digest,
        learner,
        outcome,
    }
}

/// An update as it travels.
struct Encoded {
    content: Content,
    bytes: Bytes,
    /// Of its values before they were encoded.
    norm: f64,
    left_over: Option<Adapter>,
    rounding: Option<f64>,
}

impl Encoded {
    fn of(bytes: Vec<u8>, norm: f64) -> Self {
        let bytes = Bytes::from(bytes);
        Self {
            content: Content::of(&bytes),
            bytes,
            norm,
            left_over: None,
            rounding: None,
        }
    }
}

impl From<aggregation::adapter::Update> for Encoded {
    fn from(update: aggregation::adapter::Update) -> Self {
        Self {
            content: Content {
                bytes: update.bytes.len() as u64,
                sha256: Digest(update.sha256),
            },
            bytes: Bytes::from(update.bytes),
            norm: update.norm,
            left_over: None,
            rounding: None,
        }
    }
}

/// A training that diverged has an adapter, or a difference, that is not finite: nothing of it may leave.
fn encoded(
    trained: &Trained,
    global: &Adapter,
    (form, clip): (&UpdateForm, Option<f64>),
    mut draft: Option<&mut Draft>,
) -> Result<Encoded, AdapterError> {
    let adapter = &trained.adapter;
    match (form, clip) {
        (UpdateForm::Values(encoding), None) => {
            let made = |bytes: &[u8]| {
                if let Some(draft) = &mut draft {
                    draft.follow(bytes);
                }
            };
            Ok(adapter.update(global, *encoding, made)?.into())
        }
        (UpdateForm::Values(encoding), Some(clip)) => {
            let mut delta = adapter.difference(global)?;
            let norm = clip_to(&mut delta, clip * (1.0 - ENCODING_SPARE));
            Ok(Encoded::of(encoding.encode(delta.values()), norm))
        }
        // The plan has no clipping with it.
        (UpdateForm::Blocks { left_over, context }, _) => {
            let made = adapter.compressed_update(global, left_over.as_deref(), context)?;
            Ok(Encoded {
                left_over: Some(made.left_over),
                rounding: Some(made.rounding),
                ..made.update.into()
            })
        }
        // Within the norm by the ring's own encoding.
        (UpdateForm::Ring(ring), _) => ring.encode(adapter, global, trained.examples_used),
    }
}

/// Shrinks an update to this norm if it is longer; gives what its norm was.
fn clip_to(delta: &mut Adapter, limit: f64) -> f64 {
    let norm = delta.norm();
    if limit < norm {
        delta.scale(limit / norm);
    }
    norm
}

/// The share by which bf16 may lengthen a vector is half of this.
const ENCODING_SPARE: f64 = 1.0 / 256.0;

#[cfg(test)]
mod tests {
    use super::*;

    use aggregation::{AdapterLayout, ModuleLayout};

    #[test]
    fn clipped_update_is_within_the_norm_as_it_travels_and_a_short_one_is_what_it_was() {
        let module = ModuleLayout {
            name: "model.layers.0.self_attn.q_proj".to_owned(),
            in_features: 700,
            out_features: 900,
        };
        let layout = Arc::new(AdapterLayout::new(2, 1.0, false, vec![module]).unwrap());
        let long = Adapter::initial(layout, 3);
        for encoding in [Encoding::F32, Encoding::Bf16] {
            let mut clipped = long.clone();
            let before = clip_to(&mut clipped, 0.25 * (1.0 - ENCODING_SPARE));
            assert_eq!(before, long.norm());
            let bytes = encoding.encode(clipped.values());
            let sent = Adapter::from_encoded(Arc::clone(long.layout()), encoding, &bytes).unwrap();
            assert!(
                sent.norm() <= 0.25 && sent.norm() > 0.248,
                "{}",
                sent.norm()
            );
        }
        let mut short = long.clone();
        clip_to(&mut short, 1e6);
        assert_eq!(short, long);
    }
}
