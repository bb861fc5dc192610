//! Going on after a crash: the state that a history stands for, and the wait for those who were there.
//!
//! Nobody is connected at first. A round must not close, nor the run end, only because its participants have not yet come
//! back; so whoever had joined and still needs something is waited for, until the plan's join deadline at the latest.
//! All other deadlines of the round begin anew: time in which the server was away is nobody's delay.
//!
//! After the last round there is nothing to deliver, only an adapter to be had, and whoever has it may have said so to the
//! process that died: it does not come back, and is waited for no longer than it takes the others to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::allowance::Sent;
use super::fixed_sum::FixedSum;
use super::history::{History, Late, OpenHistory};
use super::round::{Offered, OpenRound, Work};
use super::suspicion::Suspicions;
use super::{Action, Coordinator, Phase, Setup, SetupError};
use crate::ids::{ParticipantName, Round};

/// For how long participants are expected back after the last round: twice the longest pause between their attempts.
const RETURN_LIMIT: Duration = Duration::from_secs(60);

/// Participants that are expected back after a restart.
#[derive(Debug)]
pub(super) struct Returning {
    names: BTreeSet<ParticipantName>,
    until: Instant,
}

impl Returning {
    /// Nobody: the run begins.
    pub(super) fn nobody(now: Instant) -> Self {
        Self {
            names: BTreeSet::new(),
            until: now,
        }
    }

    /// One is expected back, until then at the latest.
    pub(super) fn expect(&mut self, name: ParticipantName, until: Instant) {
        self.names.insert(name);
        self.until = self.until.max(until);
    }

    /// One is back, or will not come.
    pub(super) fn remove(&mut self, name: &ParticipantName) {
        self.names.remove(name);
    }

    /// Stops the waiting when its time is over.
    pub(super) fn note_time(&mut self, now: Instant) {
        if self.until <= now {
            self.names.clear();
        }
    }

    /// Whether anybody is still waited for.
    pub(super) fn is_anybody(&self) -> bool {
        !self.names.is_empty()
    }

    /// Whether anybody of this kind is still waited for.
    pub(super) fn expects_any(&self, kind: impl FnMut(&ParticipantName) -> bool) -> bool {
        self.names.iter().any(kind)
    }

    /// Until when, if anybody is waited for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.is_anybody().then_some(self.until)
    }
}

impl Coordinator {
    /// A run that goes on after its server ended, from what was written down.
    ///
    /// `setup.release` is what came out of the last round that was done, or the first one's start.
    ///
    /// # Errors
    /// [`SetupError`] if the parts do not belong together.
    pub fn resume(setup: Setup, history: History, now: Instant) -> Result<Self, SetupError> {
        let mut coordinator = Self::new(setup, now)?;
        coordinator.restore(history, now);
        coordinator.settle(now);
        Ok(coordinator)
    }

    fn restore(&mut self, history: History, now: Instant) {
        let round = history.round();
        let History {
            rounds_done,
            joined,
            late,
            open,
        } = history;
        let is_done = self.plan.rounds <= rounds_done;
        let join_deadline = self.plan.cohort.join_deadline;
        let patience = if is_done {
            join_deadline.min(RETURN_LIMIT)
        } else {
            join_deadline
        };
        self.returning = Returning {
            names: joined.clone(),
            until: now + patience,
        };
        self.joined = joined;
        if is_done {
            return self.finish(now);
        }
        match open {
            Some(open) => self.reopen(round, open, &late, now),
            // The adapter of the round before is safe, its successor was not opened yet.
            None if 0 < rounds_done => {
                let mut open = OpenRound::new(round, now);
                self.restore_late(&mut open, &late);
                self.open(open, now);
            }
            None => {}
        }
    }

    /// Puts back into a round those who work on an update that may count in it.
    fn restore_late(&self, open: &mut OpenRound, late: &BTreeMap<ParticipantName, Late>) {
        for (name, late) in late {
            if self.is_late_in(open.round, late) && !open.works.contains_key(name) {
                open.carry(name, Work::Training { step: 0 }, *late, Sent::default());
            }
        }
    }

    /// Whether an update that was postponed may count in this round.
    fn is_late_in(&self, round: Round, late: &Late) -> bool {
        late.round < round && self.may_count_in(late.round, round)
    }

    fn reopen(
        &mut self,
        round: Round,
        history: OpenHistory,
        late: &BTreeMap<ParticipantName, Late>,
        now: Instant,
    ) {
        let mut open = OpenRound::new(round, now);
        open.attempts = history.attempts;
        open.unopened = history.unopened;
        if !history.summed.is_empty() {
            open.left_out = left_out(&history);
            open.fixed = Some(FixedSum::new(history.summed, history.summed_in, now));
        }
        open.failures = history.failures;
        let asked = match self.plan.cohort.select {
            Some(_) => history.asked,
            None => self.joined.clone(),
        };
        // Those who still work on an update of an earlier round were not asked for one of this.
        let is_late = |name: &ParticipantName| {
            late.get(name)
                .is_some_and(|late| self.is_late_in(round, late))
        };
        for name in asked.into_iter().filter(|name| !is_late(name)) {
            open.works.insert(name, Work::Training { step: 0 });
        }
        for (name, reason) in history.refused {
            open.works.insert(name, Work::Refused(reason));
        }
        for (name, admission) in history.accepted {
            let offered = Offered {
                transfer: admission.transfer,
                weight: admission.weight,
                metrics: admission.metrics,
            };
            open.works.insert(name, Work::Accepted(offered));
        }
        self.restore_late(&mut open, late);
        if history.is_closed {
            let summary = open.summary(self.named(), now);
            let mut next = OpenRound::new(round.next(), now);
            self.restore_late(&mut next, late);
            self.phase = Phase::Aggregating { closed: open, next };
            self.actions.push_back(Action::Aggregate { summary });
        } else {
            self.phase = Phase::Open(open);
            self.give_up_unopened();
            self.give_up_attempts();
        }
    }
}

/// Whom a sum that is fixed does without over earlier attempts.
fn left_out(history: &OpenHistory) -> BTreeSet<ParticipantName> {
    let suspicions = Suspicions::over(history.failures.values());
    let is_out = |name: &&ParticipantName| !history.summed.contains(*name);
    let suspects = suspicions.suspects().into_iter();
    suspects.filter(is_out).cloned().collect()
}
