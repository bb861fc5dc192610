//! Closing a round: when it is enough, and when it can never be.

use std::time::Instant;

use super::round::Lateness;
use super::{Action, Coordinator, Entry, Phase};
use crate::ids::ParticipantName;

impl Coordinator {
    /// Closes the round if it is over, or the run if it cannot be.
    pub(super) fn settle_round(&mut self, soft_passed: bool, now: Instant) {
        if self.plan.secure_aggregation.is_some() {
            return self.settle_secure(soft_passed, now);
        }
        let Phase::Open(open) = &self.phase else {
            return;
        };
        let (accepted, lateness) = (open.accepted(), open.lateness);
        let quorum = self.plan.cohort.quorum;
        // An update that is with the owner is neither counted nor lost: its answer decides.
        if open.is_folding() {
            return;
        }
        if quorum <= accepted {
            let enough = self.plan.cohort.enough;
            let enough = enough.is_some_and(|enough| enough <= accepted)
                || match lateness {
                    Lateness::InTime => {
                        let owes = |name: &ParticipantName| open.owes(name);
                        !open.is_awaiting(&self.roster) && !self.returning.expects_any(owes)
                    }
                    Lateness::Soft => !open.is_receiving(&self.roster),
                    Lateness::Hard => true,
                };
            if enough {
                self.close_round(now);
            }
        } else {
            self.settle_shortfall(accepted, soft_passed);
        }
    }

    /// Closes the round: those still at work are told what becomes of it.
    fn close_round(&mut self, now: Instant) {
        let Some(mut closed) = self.phase.take_open() else {
            return;
        };
        let summary = closed.summary(self.named(), now);
        let round = closed.round;
        let (next, unfinished) = self.carry_over(&mut closed, now);
        self.phase = Phase::Aggregating { closed, next };
        self.record(Entry::Closed { round });
        self.tell_unfinished(unfinished);
        self.actions.push_back(Action::Aggregate { summary });
    }
}
