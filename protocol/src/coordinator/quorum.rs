//! Whether a round can still come to its quorum, and what follows if it has not.

use super::roster::Roster;
use super::round::{Lateness, OpenRound, Work};
use super::{Coordinator, Phase, Report};
use crate::close::RunFailure;
use crate::ids::ParticipantName;
use crate::plan::{CohortPlan, Participants};
use crate::text::Text;

impl Coordinator {
    /// So many updates are there, and not enough to close: ends the run if they never will be or their time is over, and says when the
    /// soft deadline passes without them.
    pub(super) fn settle_shortfall(&mut self, found: u32, soft_passed: bool) {
        let Phase::Open(open) = &self.phase else {
            return;
        };
        let (round, lateness, quorum) = (open.round, open.lateness, self.plan.cohort.quorum);
        if self.most_possible(|name| self.is_out(open, name)) < u64::from(quorum) {
            let detail = format!(
                "round {round} has {found} updates, the quorum is {quorum}, and too few are left"
            );
            self.fail(RunFailure::QuorumOutOfReach, Text::new(&detail));
        } else if lateness == Lateness::Hard && found < quorum {
            let limit = self.plan.cohort.hard_deadline;
            let detail = format!(
                "round {round} has {found} updates after {limit:?}, the quorum is {quorum}"
            );
            self.fail(RunFailure::QuorumNotMet, Text::new(&detail));
        } else if soft_passed {
            self.report(Report::QuorumMissing {
                round,
                accepted: found,
                quorum,
            });
        }
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

    /// The most updates that a round could still come to; `is_out` says who delivers no more. Without named
    /// participants there is no bound: others may join.
    pub(super) fn most_possible(&self, is_out: impl Fn(&ParticipantName) -> bool) -> u64 {
        match &self.plan.cohort.participants {
            Participants::Named(names) => names.iter().filter(|name| !is_out(name)).count() as u64,
            Participants::Any => u64::MAX,
        }
    }
}

/// Whether enough participants are ready for a quorum.
pub(super) fn has_quorum_joined(cohort: &CohortPlan, roster: &Roster) -> bool {
    let ready = u32::try_from(roster.all_ready().count()).unwrap_or(u32::MAX);
    cohort.quorum <= ready
}
