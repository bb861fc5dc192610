//! Closing a round: when it is enough, and when it can never be.

use std::time::Instant;

use super::round::{Lateness, OpenRound, Work};
use super::{Action, Coordinator, Entry, Phase, Report};
use crate::close::RunFailure;
use crate::ids::ParticipantName;
use crate::text::Text;

impl Coordinator {
    /// Closes the round if it is over, or the run if it cannot be.
    pub(super) fn settle_round(&mut self, soft_passed: bool, now: Instant) {
        if self.plan.secure_aggregation.is_some() {
            return self.settle_secure(soft_passed, now);
        }
        let Phase::Open(open) = &self.phase else {
            return;
        };
        let (round, accepted, lateness) = (open.round, open.accepted(), open.lateness);
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
        } else if self.most_possible(|name| self.is_out(open, name)) < u64::from(quorum) {
            let detail = format!(
                "round {round} has {accepted} updates, the quorum is {quorum}, and too few are left"
            );
            self.fail(RunFailure::QuorumOutOfReach, Text::new(&detail));
        } else if lateness == Lateness::Hard {
            let limit = self.plan.cohort.hard_deadline;
            let detail = format!(
                "round {round} has {accepted} updates after {limit:?}, the quorum is {quorum}"
            );
            self.fail(RunFailure::QuorumNotMet, Text::new(&detail));
        } else if soft_passed {
            self.report(Report::QuorumMissing {
                round,
                accepted,
                quorum,
            });
        }
    }

    /// Closes the round: those still at work are told what becomes of it.
    fn close_round(&mut self, now: Instant) {
        let placeholder = Phase::Joining { since: now };
        let Phase::Open(mut closed) = std::mem::replace(&mut self.phase, placeholder) else {
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

    /// Whether no update of this participant can come any more in this round.
    pub(super) fn is_out(&self, open: &OpenRound, name: &ParticipantName) -> bool {
        match open.works.get(name) {
            Some(Work::Accepted(_) | Work::Folding(_) | Work::Trained(_) | Work::Summed(_)) => {
                false
            }
            Some(Work::Refused(_)) => true,
            Some(Work::Training { .. } | Work::Delivering(_)) | None => {
                self.roster.is_withdrawn(name)
            }
        }
    }
}
