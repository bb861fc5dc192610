//! One open round: what was asked of whom, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::action::{AcceptedUpdate, Admission, RoundSummary};
use super::allowance::Sent;
use super::fixed_sum::FixedSum;
use super::history::Late;
use super::roster::Roster;
use crate::close::RefusalReason;
use crate::ids::{ParticipantName, Round, TransferId};
use crate::message::{Metrics, TransferHeader};
use crate::plan::CohortPlan;
use crate::secagg::{Failure, Gathering};

/// The state of a round between its opening and its closing.
#[derive(Debug)]
pub(super) struct OpenRound {
    /// Its number.
    pub(super) round: Round,
    /// When it was opened.
    pub(super) opened_at: Instant,
    /// What became of each participant that was asked. Nobody is ever removed: that is what makes "once" hold
    /// over reconnections.
    pub(super) works: BTreeMap<ParticipantName, Work>,
    /// Those of them that work on an update of an earlier round.
    pub(super) late: BTreeMap<ParticipantName, Late>,
    /// What each has sent.
    pub(super) sent: BTreeMap<ParticipantName, Sent>,
    /// Which of its deadlines have passed.
    pub(super) lateness: Lateness,
    /// The number of the last attempt at secure aggregation.
    pub(super) attempts: u32,
    /// The attempts that came to nothing, by number; those that our restart ended are not among them.
    pub(super) failures: BTreeMap<u32, Failure>,
    /// Masked updates that were on their way when their attempt ended: what still comes of them is nobody's fault.
    pub(super) cut_short: BTreeSet<TransferId>,
    /// Who is not in the last attempt, over those that came to nothing.
    pub(super) left_out: BTreeSet<ParticipantName>,
    /// The attempt that is under way.
    pub(super) gathering: Option<Gathering>,
    /// The sum that members were asked to open, if they were.
    pub(super) fixed: Option<FixedSum>,
    /// How often that turned out to be none.
    pub(super) unopened: u32,
    /// Who came back while the sum was with the owner, and was not told to go on.
    pub(super) unasked: BTreeSet<ParticipantName>,
}

/// Which deadlines of a round have passed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Lateness {
    /// None.
    InTime,
    /// The soft one.
    Soft,
    /// Both.
    Hard,
}

/// How far one participant has come in the round.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Work {
    /// Asked; it is receiving the global adapter or training.
    Training {
        /// Largest step reported.
        step: u32,
    },
    /// Its offer was taken up; bytes are coming.
    Delivering(Offered),
    /// The bytes are whole and with the owner.
    Folding(Offered),
    /// Counted.
    Accepted(Offered),
    /// It has an update that waits to be summed with others.
    Trained(Metrics),
    /// Its masked update is in the sum of the attempt under way.
    Summed(Offered),
    /// Refused for this round.
    Refused(RefusalReason),
}

/// An offered update.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Offered {
    /// The transfer that carries it.
    pub(super) transfer: TransferHeader,
    /// Its weight, in training examples.
    pub(super) weight: u64,
    /// What was reported beside it.
    pub(super) metrics: Metrics,
}

impl OpenRound {
    /// Opens a round.
    pub(super) fn new(round: Round, now: Instant) -> Self {
        Self {
            round,
            opened_at: now,
            works: BTreeMap::new(),
            late: BTreeMap::new(),
            sent: BTreeMap::new(),
            lateness: Lateness::InTime,
            attempts: 0,
            failures: BTreeMap::new(),
            cut_short: BTreeSet::new(),
            left_out: BTreeSet::new(),
            gathering: None,
            fixed: None,
            unopened: 0,
            unasked: BTreeSet::new(),
        }
    }

    /// The round whose update is wanted of this participant.
    pub(super) fn task(&self, name: &ParticipantName) -> Round {
        self.late.get(name).map_or(self.round, |late| late.round)
    }

    /// Takes over from an earlier round what a participant has not finished there.
    pub(super) fn carry(&mut self, name: &ParticipantName, work: Work, late: Late, sent: Sent) {
        self.works.insert(name.clone(), work);
        self.late.insert(name.clone(), late);
        self.sent.insert(name.clone(), sent);
    }

    /// Participants that were asked and from which an update came or may come soon.
    pub(super) fn engaged(&self, roster: &Roster) -> usize {
        let is_engaged = |(name, work): &(&ParticipantName, &Work)| match work {
            Work::Accepted(_) | Work::Folding(_) | Work::Trained(_) | Work::Summed(_) => true,
            Work::Training { .. } | Work::Delivering(_) => roster.ready(name).is_some(),
            Work::Refused(_) => false,
        };
        self.works.iter().filter(is_engaged).count()
    }

    /// Updates counted so far.
    pub(super) fn accepted(&self) -> u32 {
        let count = self
            .works
            .values()
            .filter(|work| matches!(work, Work::Accepted(_)))
            .count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Whether an update is with the owner, whose answer the round awaits.
    pub(super) fn is_folding(&self) -> bool {
        self.works
            .values()
            .any(|work| matches!(work, Work::Folding(_)))
    }

    /// Whether a connected participant still owes its update.
    pub(super) fn is_awaiting(&self, roster: &Roster) -> bool {
        self.works
            .iter()
            .any(|(name, work)| work.is_outstanding() && roster.ready(name).is_some())
    }

    /// Whether an update of this participant may still come: it owes one, or was not asked yet.
    pub(super) fn owes(&self, name: &ParticipantName) -> bool {
        self.works.get(name).is_none_or(Work::is_outstanding)
    }

    /// Whether a connected participant is delivering its update.
    pub(super) fn is_receiving(&self, roster: &Roster) -> bool {
        self.works
            .iter()
            .any(|(name, work)| matches!(work, Work::Delivering(_)) && roster.ready(name).is_some())
    }

    /// Notes which deadlines have passed and returns whether the soft one just did.
    pub(super) fn note_time(&mut self, cohort: &CohortPlan, now: Instant) -> bool {
        let before = self.lateness;
        if self.opened_at + cohort.hard_deadline <= now {
            self.lateness = Lateness::Hard;
        } else if self.opened_at + cohort.soft_deadline <= now {
            self.lateness = Lateness::Soft;
        }
        before == Lateness::InTime && before < self.lateness
    }

    /// A broken connection: what was being delivered is offered anew on the next one.
    pub(super) fn interrupt(&mut self, name: &ParticipantName, may_return: bool) {
        if let Some(gathering) = &mut self.gathering {
            gathering.handle_lost(name, may_return);
        }
        let is_masked = self.gathering.is_some();
        if let Some(work) = self.works.get_mut(name)
            && let Work::Delivering(offered) = work
        {
            *work = if is_masked {
                Work::Trained(offered.metrics)
            } else {
                Work::Training { step: 0 }
            };
        }
    }

    /// Whether this participant is delivering this transfer.
    pub(super) fn delivers(&self, name: &ParticipantName, transfer: TransferId) -> bool {
        matches!(self.works.get(name), Some(Work::Delivering(offered)) if offered.transfer.id == transfer)
    }

    /// What this participant has sent.
    pub(super) fn sent_by(&mut self, name: &ParticipantName) -> &mut Sent {
        self.sent.entry(name.clone()).or_default()
    }

    /// What the round came to. `named` are the participants that the plan names.
    pub(super) fn summary(&self, named: &[ParticipantName], now: Instant) -> RoundSummary {
        let mut summary = RoundSummary {
            round: self.round,
            opened_at: self.opened_at,
            closed_at: now,
            accepted: Vec::new(),
            refused: Vec::new(),
            missing: named
                .iter()
                .filter(|name| !self.works.contains_key(name))
                .cloned()
                .collect(),
        };
        for (name, work) in &self.works {
            match work {
                Work::Accepted(offered) | Work::Summed(offered) => summary
                    .accepted
                    .push(offered.accepted_from(name, self.round)),
                Work::Refused(reason) => summary.refused.push((name.clone(), *reason)),
                Work::Training { .. }
                | Work::Delivering(_)
                | Work::Folding(_)
                | Work::Trained(_) => summary.missing.push(name.clone()),
            }
        }
        summary.missing.sort();
        summary
    }
}

impl Work {
    /// Whether the participant still owes its update.
    pub(super) fn is_outstanding(&self) -> bool {
        match self {
            Self::Training { .. } | Self::Delivering(_) => true,
            Self::Folding(_)
            | Self::Accepted(_)
            | Self::Trained(_)
            | Self::Summed(_)
            | Self::Refused(_) => false,
        }
    }
}

impl Offered {
    /// What the owner is asked to fold.
    pub(super) fn admission(&self, name: &ParticipantName, round: Round) -> Admission {
        Admission {
            participant: name.clone(),
            round,
            weight: self.weight,
            metrics: self.metrics,
            transfer: self.transfer,
        }
    }

    fn accepted_from(&self, name: &ParticipantName, round: Round) -> AcceptedUpdate {
        AcceptedUpdate {
            participant: name.clone(),
            weight: self.weight,
            bytes: self.transfer.bytes,
            sha256: self.transfer.sha256,
            metrics: self.metrics,
            rounds_late: round.0.saturating_sub(self.transfer.round.0),
        }
    }
}
