//! The transcript, as one participant hears it: nothing is built on an adapter that no record names, nor on a record that
//! forgets what was acknowledged.

use super::{Action, Participant, Work};
use crate::ids::{Digest, Round};
use crate::transcript::{Claim, Evidence, Excerpt, TranscriptFault, Witness};
use crate::violation::Breach;

impl Participant {
    /// A record of a round that is done.
    pub(super) fn take_record(&mut self, excerpt: Box<Excerpt>) -> Result<(), Breach> {
        let offered = self.offered_in(excerpt.heading.round);
        let Some(witness) = &mut self.witness else {
            return Err(Breach::Unexpected {
                message: "Recorded",
                state: self.link.label(),
            });
        };
        witness.hear(&excerpt, offered, self.examiner.as_ref())?;
        self.actions
            .push_back(Action::Remember(Evidence::Recorded(excerpt)));
        Ok(())
    }

    /// The server goes on after this round, from this adapter.
    pub(super) fn check_start(
        &mut self,
        after: Round,
        adapter: Digest,
    ) -> Result<(), TranscriptFault> {
        match &mut self.witness {
            Some(witness) => witness.check_start(after, adapter),
            None => Ok(()),
        }
    }

    /// The server says that it counted our update in this round: it will be held to that.
    pub(super) fn claim(&mut self, round: Round) {
        // It may have been trained for an earlier round.
        let Some(offered) = self.offered_in(round) else {
            return;
        };
        let claim = Claim { round, ..offered };
        if let Some(witness) = &mut self.witness {
            witness.claim(claim);
            self.actions
                .push_back(Action::Remember(Evidence::Accepted(claim)));
        }
    }

    /// Whether the server acknowledged this update, trained for this round, or has put it on record; for the last one that was offered, by
    /// this process or by one before it. Before a round is trained for, all rounds before it are on record.
    pub fn counts(&self, round: Round, update: Digest) -> bool {
        let witness = self.witness.as_ref();
        witness.is_some_and(|witness| witness.counts(round, update))
    }

    /// SHA-256 of the last record that we have seen and believed: the same at every participant and at the server, or there are two
    /// transcripts.
    pub fn last_record(&self) -> Option<Digest> {
        self.witness.as_ref().and_then(Witness::last)
    }

    /// The last round of whose record we have an excerpt.
    pub(super) fn recorded(&self) -> Round {
        self.witness
            .as_ref()
            .map_or(Round(0), |witness| witness.round())
    }

    /// The update that may count in this round, offered by this process or by one before it. A masked update is known only while
    /// it is offered: what is kept of it on disk is without masks.
    ///
    /// Of an earlier process's update nothing is held against the server but in the round that it was made for. What is on disk may be
    /// older than what was offered last, after a backup was put back: in a later round another update of ours may rightly count.
    fn offered_in(&self, round: Round) -> Option<Claim> {
        let plan = self.plan.as_ref()?;
        let claim = |round, update, weight| Claim {
            plan: plan.digest(),
            round,
            update,
            weight,
        };
        match (&self.work, &self.spooled) {
            (
                Work::Delivering { offer, .. }
                | Work::Summing {
                    offer: Some(offer), ..
                },
                _,
            ) => {
                let transfer = &offer.transfer;
                let offered = claim(transfer.round, transfer.sha256, offer.weight);
                (offered.round <= round).then_some(offered)
            }
            (Work::Idle, Some(spooled))
                if spooled.plan == plan.digest()
                    && spooled.round == round
                    && plan.secure_aggregation.is_none() =>
            {
                Some(claim(spooled.round, spooled.update.sha256, spooled.weight))
            }
            _ => None,
        }
    }
}
