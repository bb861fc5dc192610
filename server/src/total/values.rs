//! A sum of updates that were looked into, and those that are about to be added to it.
//!
//! They are added a few at a time, in one pass over the sum: what an update adds is little beside the sum itself, which is twice or four
//! times its size. Those that wait lie where they were kept; the round's end adds the rest.

use aggregation::admission::Admitted;
use aggregation::strategy::fedavg::{AggregateError, FedAvg, FoldError, TOGETHER};

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

    /// Adds an update that was checked and kept, now or with the next ones; the norm is the same for all of a round.
    ///
    /// # Errors
    /// One of those that waited cannot be read; the sum must not be used any more.
    pub(super) fn add(
        &mut self,
        admitted: Admitted<UpdateBytes>,
        clip: Option<f64>,
    ) -> Result<(), ServerError> {
        self.clip_norm = clip.unwrap_or(f64::INFINITY);
        self.waiting.push(admitted);
        if self.waiting.len() < TOGETHER {
            return Ok(());
        }
        self.add_waiting()
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

    fn add_waiting(&mut self) -> Result<(), ServerError> {
        let waiting = std::mem::take(&mut self.waiting);
        let together: Vec<_> = waiting.iter().collect();
        let folded = self.sum.fold_together(&together, self.clip_norm);
        folded.map_err(|error| match error {
            FoldError::Read { update, source } => waiting[update].bytes().unreadable(source),
            FoldError::Refused(error) => ServerError::Internal {
                what: format!("an update that was admitted cannot be added: {error}"),
            },
        })
    }
}
