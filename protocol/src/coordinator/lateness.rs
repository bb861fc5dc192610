//! Updates that were not there when their round closed: refused, or taken in a later round, as the plan says.
//!
//! A participant that works on one is told, and is not asked for a later round meanwhile. Its work, with what has come of it,
//! is carried from round to round until it is settled or too old.

use std::time::Instant;

use super::history::Late;
use super::roster::Stage;
use super::round::{OpenRound, Work};
use super::{Coordinator, Entry, Report};
use crate::close::RefusalReason;
use crate::ids::{ParticipantName, Round};
use crate::message::ToClient;

impl Coordinator {
    /// Carries what is unfinished in a round that closes into the next, as far as it may still count there; names the rest.
    pub(super) fn carry_over(
        &mut self,
        closed: &mut OpenRound,
        now: Instant,
    ) -> (OpenRound, Unfinished) {
        let mut next = OpenRound::new(closed.round.next(), now);
        let mut unfinished = Unfinished::default();
        let outstanding = closed
            .works
            .iter()
            .filter(|(_, work)| work.is_outstanding());
        for (name, work) in outstanding {
            let fresh = Late {
                round: closed.round,
                global: self.release.adapter.sha256,
            };
            let before = closed.late.get(name).copied();
            let late = before.unwrap_or(fresh);
            if self.may_count_in(late.round, next.round) && !self.roster.is_withdrawn(name) {
                let sent = closed.sent.get(name).copied().unwrap_or_default();
                next.carry(name, work.clone(), late, sent);
                if before.is_none() {
                    unfinished.postponed.push((name.clone(), late));
                }
            } else {
                unfinished.refused.push((name.clone(), late.round));
            }
        }
        (next, unfinished)
    }

    /// Says what becomes of what is unfinished; after it was written down that the round is closed.
    pub(super) fn tell_unfinished(&mut self, unfinished: Unfinished) {
        for (participant, late) in unfinished.postponed {
            self.record(Entry::Postponed {
                participant: participant.clone(),
                late,
            });
            let (round, until) = (late.round, self.plan.cohort.late.last_round(late.round));
            self.report(Report::Postponed {
                participant: participant.clone(),
                round,
                until,
            });
            self.tell(&participant, ToClient::Postponed { round, until });
        }
        for (name, round) in unfinished.refused {
            self.refuse(&name, round, RefusalReason::Late);
        }
    }

    /// Whether an update trained for one round may count in another.
    pub(super) fn may_count_in(&self, trained: Round, round: Round) -> bool {
        round.0 <= self.plan.rounds && round <= self.plan.cohort.late.last_round(trained)
    }

    /// A participant came back that owes a late update: if it still has what it worked from it is told to go on, and else
    /// its update is given up. Returns whether it goes on, or waits for what becomes of an update that is here already.
    pub(super) fn remind(&mut self, name: &ParticipantName) -> bool {
        let Some(late) = self
            .phase
            .taking()
            .and_then(|taking| taking.late.get(name))
            .copied()
        else {
            return false;
        };
        // The owner will answer for it, whatever its sender still has: until then it must not be forgotten.
        let work = self
            .phase
            .taking()
            .and_then(|taking| taking.works.get(name));
        if matches!(work, Some(Work::Folding(_))) {
            return true;
        }
        let link = self.roster.ready(name);
        let has_it = link.is_some_and(
            |link| matches!(&link.stage, Stage::Ready { holds, .. } if holds.contains(&late.global)),
        );
        if has_it {
            let (round, until) = (late.round, self.plan.cohort.late.last_round(late.round));
            self.tell(name, ToClient::Postponed { round, until });
        } else {
            self.settle_late(name);
            if let Some(taking) = self.phase.taking_mut() {
                taking.works.remove(name);
                taking.sent.remove(name);
            }
        }
        has_it
    }

    /// A late update was counted, refused or given up. Written down before anything that follows from it.
    pub(super) fn settle_late(&mut self, name: &ParticipantName) {
        let late = self
            .phase
            .taking_mut()
            .and_then(|taking| taking.late.remove(name));
        if late.is_some() {
            self.record(Entry::LateSettled {
                participant: name.clone(),
            });
        }
    }
}

/// What is unfinished in a round that closes.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    /// May still count in a later round.
    postponed: Vec<(ParticipantName, Late)>,
    /// May not; with the round that it was trained for.
    refused: Vec<(ParticipantName, Round)>,
}
