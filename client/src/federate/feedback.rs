//! What rounding cut off of our updates, and how it comes into the next one: error feedback.
//!
//! With `ValueEncoding::Int8` an update is the sum of what was learned and what its predecessors left over, rounded. What that
//! leaves over takes its predecessor's place only once the update counts, by the server's acknowledgement or by its signed record.
//! If it does not count, the next update goes on from what there was before it: then nothing is sent twice, and what was learned
//! in that round is lost, as that of a refused update is in any encoding. Both are on disk beside the update, in one file, before
//! the last of it leaves, so that any process after this one comes to the same.

use std::sync::Arc;

use aggregation::{Adapter, AdapterError, AdapterLayout, adapter::LeBytes};
use bytes::Bytes;
use protocol::{Digest, Round, participant::Spooled};

use crate::state::LeftOver;

/// What our updates left over.
#[derive(Debug, Default)]
pub(super) struct Feedback {
    /// All that count; nothing at first.
    settled: Option<Arc<Adapter>>,
    /// All of them and the last one, of which it is not known yet.
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    round: Round,
    update: Digest,
    left_over: Arc<Adapter>,
}

impl Feedback {
    /// Takes up what an earlier process of the same run left.
    ///
    /// # Errors
    /// The first value or length that cannot be.
    pub(super) fn restore(
        layout: &Arc<AdapterLayout>,
        spooled: &Spooled,
        kept: &LeftOver,
    ) -> Result<Self, AdapterError> {
        let read = |bytes: &Bytes| Adapter::from_le_bytes(Arc::clone(layout), bytes).map(Arc::new);
        let settled = (!kept.before.is_empty()).then(|| read(&kept.before));
        Ok(Self {
            settled: settled.transpose()?,
            pending: Some(Pending {
                round: spooled.round,
                update: spooled.update.sha256,
                left_over: read(&kept.after)?,
            }),
        })
    }

    /// An update was made: what is to be kept with it.
    pub(super) fn follow(&mut self, round: Round, update: Digest, left_over: Adapter) -> LeftOver {
        let left_over = Arc::new(left_over);
        let kept = LeftOver {
            before: self.settled.as_ref().map_or_else(Bytes::new, bytes_of),
            after: bytes_of(&left_over),
        };
        self.pending = Some(Pending {
            round,
            update,
            left_over,
        });
        kept
    }

    /// Goes on from the last update if it counts.
    pub(super) fn settle(&mut self, counts: impl FnOnce(Round, Digest) -> bool) {
        let counted = self
            .pending
            .take_if(|pending| counts(pending.round, pending.update));
        if let Some(pending) = counted {
            self.settled = Some(pending.left_over);
        }
    }

    /// Gives what the next update is to make up for. All that counts is settled by now: of the last update nothing more will be heard.
    pub(super) fn for_next(&mut self) -> Option<Arc<Adapter>> {
        self.pending = None;
        self.settled.clone()
    }
}

fn bytes_of(adapter: &Arc<Adapter>) -> Bytes {
    match LeBytes::of(adapter) {
        Some(values) => Bytes::from_owner(values),
        None => Bytes::from(adapter.to_le_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use aggregation::ModuleLayout;
    use protocol::message::{Content, Metrics};

    use super::*;

    fn layout() -> Arc<AdapterLayout> {
        let modules = vec![ModuleLayout {
            name: "model.layers.0.self_attn.q_proj".to_owned(),
            in_features: 3,
            out_features: 2,
        }];
        Arc::new(AdapterLayout::new(2, 4.0, false, modules).unwrap())
    }

    fn values(value: f32) -> Adapter {
        let layout = layout();
        let count = layout.parameters();
        Adapter::from_values(layout, vec![value; count]).unwrap()
    }

    fn next(feedback: &mut Feedback) -> Option<f32> {
        feedback.for_next().map(|adapter| adapter.values()[0])
    }

    fn update(number: u8) -> Digest {
        Digest([number; 32])
    }

    fn spooled(round: u32, number: u8) -> Spooled {
        Spooled {
            plan: Digest([0; 32]),
            round: Round(round),
            global: Digest([0; 32]),
            update: Content {
                bytes: 1,
                sha256: update(number),
            },
            weight: 1,
            metrics: Metrics { train_loss: None },
        }
    }

    #[test]
    fn what_an_update_left_over_is_taken_up_only_if_it_counts() {
        let mut feedback = Feedback::default();
        assert_eq!(next(&mut feedback), None);
        feedback.follow(Round(1), update(1), values(0.5));
        feedback.settle(|_, _| false);
        feedback.settle(|round, digest| (round, digest) == (Round(1), update(1)));
        assert_eq!(next(&mut feedback), Some(0.5));
        feedback.follow(Round(2), update(2), values(0.25));
        feedback.settle(|_, _| false);
        assert_eq!(next(&mut feedback), Some(0.5));
        // It was given up: what is said of it later changes nothing.
        feedback.settle(|_, _| true);
        assert_eq!(next(&mut feedback), Some(0.5));
    }

    #[test]
    fn a_process_that_takes_over_goes_on_as_the_first_would_have_whatever_is_said_of_the_update() {
        for counts in [true, false] {
            let mut first = Feedback::default();
            first.follow(Round(1), update(1), values(0.5));
            first.settle(|_, _| true);
            let kept = first.follow(Round(2), update(2), values(0.25));
            let mut second = Feedback::restore(&layout(), &spooled(2, 2), &kept).unwrap();
            for feedback in [&mut first, &mut second] {
                feedback.settle(|_, _| counts);
                assert_eq!(next(feedback), Some(if counts { 0.25 } else { 0.5 }));
            }
        }
    }

    #[test]
    fn before_the_first_update_nothing_is_left_over_and_nothing_is_kept_for_it() {
        let kept = Feedback::default().follow(Round(1), update(1), values(0.5));
        assert!(kept.before.is_empty());
        let mut feedback = Feedback::restore(&layout(), &spooled(1, 1), &kept).unwrap();
        assert_eq!(next(&mut feedback), None);
    }

    #[test]
    fn what_is_not_of_the_layout_is_refused() {
        let kept = LeftOver {
            before: Bytes::new(),
            after: Bytes::from_static(&[0; 4]),
        };
        let error = Feedback::restore(&layout(), &spooled(1, 1), &kept).unwrap_err();
        assert!(error.to_string().contains("has 4 bytes"), "{error}");
    }
}
