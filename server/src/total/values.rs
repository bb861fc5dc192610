//! A sum of updates that were looked into, and those that are about to be added to it.
//!
//! They are added many at a time, in one pass over the sum: what an update adds is little beside the sum itself, which is twice or four
//! times its size. Those that wait lie where they were kept; the last ones are added as the next adapter is formed, so that a round of
//! no more than wait at a time never has its sum in memory.

use aggregation::Adapter;
use aggregation::admission::Admitted;
use aggregation::strategy::fedavg::{AggregateError, FedAvg, FoldError, Next, TOGETHER};

use crate::error::ServerError;
use crate::spool::UpdateBytes;

/// A sum under way, and what is to be added to it.
#[derive(Debug)]
pub(crate) struct Values {
    sum: FedAvg,
    /// The round's norm to which longer updates are shrunk as they are added, once there is one.
    clip_norm: f64,
    waiting: Vec<Admitted<UpdateBytes>>,
}

impl Values {
    /// Nothing is in it and nothing waits.
    pub(super) fn new(sum: FedAvg) -> Self {
        Self {
            sum,
            clip_norm: f64::INFINITY,
            waiting: Vec::new(),
        }
    }

    /// Looks whether an update may be added.
    pub(super) fn check(&self, admitted: &Admitted<UpdateBytes>) -> Result<(), AggregateError> {
        // At most TOGETHER.
        self.sum.check_admitted(admitted, self.waiting.len() as u32)
    }

    /// Takes an update that was checked and kept, and adds those that wait if there are enough; the norm is the same for all of a round.
    ///
    /// # Errors
    /// One of those that waited cannot be read; the sum must not be used any more.
    pub(super) fn add(
        &mut self,
        admitted: Admitted<UpdateBytes>,
        clip: Option<f64>,
    ) -> Result<(), ServerError> {
        self.clip_norm = clip.unwrap_or(f64::INFINITY);
        if self.waiting.len() == TOGETHER {
            self.add_waiting()?;
        }
        self.waiting.push(admitted);
        Ok(())
    }

    /// Adds those that wait if any is in memory: it takes up the room in which the next ones are to come.
    ///
    /// # Errors
    /// As for [`Self::add`].
    pub(super) fn make_room(&mut self) -> Result<(), ServerError> {
        let mut waiting = self.waiting.iter();
        if waiting.any(|admitted| matches!(admitted.bytes(), UpdateBytes::Memory(_))) {
            self.add_waiting()?;
        }
        Ok(())
    }

    /// The sum of all.
    ///
    /// # Errors
    /// One of those that waited cannot be read.
    pub(crate) fn finish(mut self) -> Result<FedAvg, ServerError> {
        self.add_waiting()?;
        Ok(self.sum)
    }

    /// The adapter that follows `global` by the mean of all; those that wait are added on the way.
    ///
    /// # Errors
    /// One of those that waited cannot be read, or there is no such adapter, which `impossible` puts in a sentence.
    pub(crate) fn into_next(
        self,
        global: &Adapter,
        impossible: impl FnOnce(String) -> ServerError,
    ) -> Result<Next, ServerError> {
        let together: Vec<_> = self.waiting.iter().collect();
        let next = self.sum.into_next(&together, self.clip_norm, global);
        next.map_err(|error| explain(error, &self.waiting, impossible))
    }

    fn add_waiting(&mut self) -> Result<(), ServerError> {
        let waiting = std::mem::take(&mut self.waiting);
        let together: Vec<_> = waiting.iter().collect();
        let folded = self.sum.fold_together(&together, self.clip_norm);
        folded.map_err(|error| {
            explain(error, &waiting, |found| ServerError::Internal {
                what: format!("an update that was admitted cannot be added: {found}"),
            })
        })
    }
}

/// Names the file that cannot be read, or has `refused` put in a sentence what was found.
fn explain(
    error: FoldError,
    waiting: &[Admitted<UpdateBytes>],
    refused: impl FnOnce(String) -> ServerError,
) -> ServerError {
    match error {
        FoldError::Read { update, source } => waiting[update].bytes().unreadable(source),
        FoldError::Refused(error) => refused(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aggregation::admission::{AdmissionRules, admit};
    use aggregation::encoded::EncodedUpdate;
    use aggregation::strategy::fixed_point::FixedPoint;
    use aggregation::{AdapterLayout, Encoding, ModuleLayout};
    use bytes::Bytes;

    use super::*;

    /// Room that somebody else waits for until the update in it is gone.
    struct Held {
        bytes: Vec<u8>,
        _room: Arc<()>,
    }

    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    #[test]
    fn updates_in_memory_give_their_room_back_before_there_are_enough_for_a_pass() {
        let module = ModuleLayout {
            name: "model.layers.0.self_attn.q_proj".to_owned(),
            in_features: 3,
            out_features: 2,
        };
        let layout = Arc::new(AdapterLayout::new(1, 1.0, false, vec![module]).unwrap());
        let rules = AdmissionRules {
            norm_max: 10.0,
            weight_max: 4,
        };
        let fixed = FixedPoint::for_bounds(4, rules.weight_max, rules.norm_max).unwrap();
        let mut values = Values::new(FedAvg::new(Arc::clone(&layout), fixed));
        let room = Arc::new(());
        for value in [1.0, 2.0] {
            let held = Held {
                bytes: Encoding::F32.encode(&[value; 5]),
                _room: Arc::clone(&room),
            };
            let bytes = UpdateBytes::Memory(Bytes::from_owner(held));
            let admitted = admit(&layout, EncodedUpdate::new(bytes, Encoding::F32), 1, &rules);
            let admitted = admitted.unwrap();
            values.check(&admitted).unwrap();
            values.add(admitted, None).unwrap();
        }
        assert_eq!(Arc::strong_count(&room), 3);
        values.make_room().unwrap();
        assert_eq!(Arc::strong_count(&room), 1);
        let sum = values.finish().unwrap();
        assert_eq!(sum.participants(), 2);
        assert_eq!(sum.mean().unwrap().values(), [1.5; 5]);
    }
}
