//! When the coordinator must be woken, and which limit has passed by then.
//!
//! Every deadline named here is one that [`Coordinator::handle_timeout`](super::Coordinator::handle_timeout)
//! removes when it has passed, so that an owner that sleeps until the next one never spins.

use std::time::{Duration, Instant};

use super::quorum::has_quorum_joined;
use super::roster::{Link, Roster, Stage};
use super::round::{Lateness, OpenRound, Work};
use super::{Coordinator, Phase};
use crate::ids::{ConnectionId, ParticipantName};
use crate::plan::CohortPlan;

impl Coordinator {
    /// The next instant at which something is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let cohort = &self.plan.cohort;
        let phase = match &self.phase {
            Phase::Joining { since } => Some(joining_deadline(cohort, &self.roster, *since)),
            Phase::Open(open) => round_deadline(cohort, open),
            Phase::Aggregating { .. } | Phase::Finishing { .. } | Phase::Over { .. } => None,
        };
        let links = self
            .roster
            .links()
            .filter_map(|(name, link)| self.link_deadline(name, link));
        links.chain(phase).chain(self.returning.deadline()).min()
    }

    /// The connections whose limit has passed.
    pub(super) fn overdue_links(&self, now: Instant) -> Vec<ConnectionId> {
        let overdue = |(name, link): (&ParticipantName, &Link)| {
            let deadline = self.link_deadline(name, link)?;
            (deadline <= now).then_some(link.connection)
        };
        self.roster.links().filter_map(overdue).collect()
    }

    /// Until when this connection must move on; `None` while nothing is owed.
    fn link_deadline(&self, name: &ParticipantName, link: &Link) -> Option<Instant> {
        let limit = match (&link.stage, &self.phase) {
            (Stage::Greeting, _) => HELLO_LIMIT,
            (Stage::Deciding, _) => self.plan.cohort.hard_deadline,
            (Stage::Ready { .. }, Phase::Open(open)) => {
                let gathering = open.gathering.as_ref();
                let is_awaited = gathering.is_some_and(|gathering| gathering.awaits_vector(name));
                // Masked, it is to be offered.
                let owes = |work: &&Work| {
                    work.is_outstanding() || (is_awaited && matches!(work, Work::Trained(_)))
                };
                open.works.get(name).filter(owes)?;
                self.plan.cohort.stall_limit
            }
            (Stage::Ready { .. }, Phase::Finishing { adapter, since }) => {
                let until = *since + self.handing_over_limit(adapter);
                return Some(until.min(link.moved_at + self.plan.cohort.stall_limit));
            }
            (
                Stage::Ready { .. },
                Phase::Joining { .. } | Phase::Aggregating { .. } | Phase::Over { .. },
            ) => return None,
        };
        Some(link.moved_at + limit)
    }
}

/// The join deadline matters once a quorum is there; without one only the hard deadline ends the waiting.
fn joining_deadline(cohort: &CohortPlan, roster: &Roster, since: Instant) -> Instant {
    if has_quorum_joined(cohort, roster) {
        since + cohort.join_deadline
    } else {
        since + cohort.hard_deadline
    }
}

/// The first deadline that has not passed. After the hard one the round only waits for its owner's folding, or for those of a fixed sum.
fn round_deadline(cohort: &CohortPlan, open: &OpenRound) -> Option<Instant> {
    let of_round = match open.lateness {
        Lateness::InTime => Some(open.opened_at + cohort.soft_deadline),
        Lateness::Soft => Some(open.opened_at + cohort.hard_deadline),
        // Who is missing in a sum that is fixed has a while longer to come back.
        Lateness::Hard => {
            let waits = open.gathering.is_none() && !open.is_folding();
            let fixed = open.fixed.as_ref().filter(|_| waits);
            fixed.map(|fixed| fixed.since + cohort.stall_limit)
        }
    };
    // While something is with the owner, its answer is what an attempt waits for.
    let gathering = open.gathering.as_ref().filter(|_| !open.is_folding());
    let of_step = gathering.and_then(|gathering| gathering.deadline(cohort.stall_limit));
    of_round.into_iter().chain(of_step).min()
}

/// How long a new connection may take to say Hello.
pub(super) const HELLO_LIMIT: Duration = Duration::from_secs(10);
