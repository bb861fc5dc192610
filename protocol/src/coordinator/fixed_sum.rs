//! A sum that members were asked to open: the round has no other from then on (S7).
//!
//! Who helped to open a sum helps with a second one of the round only if it is of the same participants: the difference of two sums
//! would be somebody's update. So whatever keeps the first from becoming an adapter (too few open it, it is no sum of updates, our own
//! process is killed), the next attempts are among the same participants and go on with all of them only. A sum of the same once more
//! tells nobody anything new, and comes out right where a share or a vector was wrong by chance, or where members were away whose
//! shares could have shown who revealed wrong ones.

use std::collections::BTreeSet;
use std::time::Instant;

use super::round::{Lateness, OpenRound, Work};
use super::{Coordinator, Entry, Phase, Report};
use crate::close::{RefusalReason, RunFailure};
use crate::ids::{ParticipantName, Round};
use crate::message::ToClient;
use crate::secagg::{AttemptId, ForMember};
use crate::text::Text;

/// Sums of a round that may turn out to be none. Who spoils one cannot be told from the others, and spoils the next too.
const UNOPENED_MAX: u32 = 2;
/// Names in a sentence; the log has all of them where the attempt begins.
const NAMED_MAX: usize = 8;

/// Whose updates are in it.
#[derive(Debug)]
pub(super) struct FixedSum {
    pub(super) members: BTreeSet<ParticipantName>,
    /// The attempt whose members were asked first.
    pub(super) attempt: u32,
    /// When its last attempt came to nothing: who is away has from then on the stall limit to come back.
    pub(super) since: Instant,
}

impl FixedSum {
    pub(super) fn new(members: BTreeSet<ParticipantName>, attempt: u32, since: Instant) -> Self {
        Self {
            members,
            attempt,
            since,
        }
    }
}

impl Coordinator {
    /// The owner could not take the masks off the sum of [`Action::OpenSum`](super::Action::OpenSum), or what it found is no sum of
    /// updates. Another attempt among the same participants follows, and ends the run if it comes to that again.
    pub fn sum_not_opened(&mut self, detail: Text, now: Instant) {
        let Phase::Aggregating { closed, .. } = &mut self.phase else {
            return self.fail(RunFailure::SumNotOpened, detail);
        };
        closed.unopened += 1;
        let (round, times) = (closed.round, closed.unopened);
        self.record(Entry::SumUnopened { round, times });
        if UNOPENED_MAX <= times {
            return self.fail_unopened((round, times), Some(&detail));
        }
        self.sum_anew(&detail, now);
        self.settle(now);
    }

    /// After a restart: a sum that was none as often as it may be is not tried once more.
    pub(super) fn give_up_unopened(&mut self) {
        if let Phase::Open(open) = &self.phase
            && UNOPENED_MAX <= open.unopened
        {
            self.fail_unopened((open.round, open.unopened), None);
        }
    }

    fn fail_unopened(&mut self, (round, times): (Round, u32), last: Option<&Text>) {
        let last = last.map(|detail| format!("; at last {detail}"));
        let said = format!(
            "round {round}: {times} attempts among the same participants gave no sum of updates: one of them masks what is no update, \
             or reveals wrong shares, and under masks nobody can tell who{}",
            last.unwrap_or_default()
        );
        self.fail(RunFailure::SumNotOpened, Text::new(&said));
    }

    /// Members are about to be asked to open the sum of these.
    pub(super) fn fix_sum(&mut self, members: Vec<ParticipantName>, now: Instant) {
        if let Phase::Open(open) = &mut self.phase {
            let (round, last) = (open.round, open.attempts);
            let attempt = open.fixed.as_ref().map_or(last, |fixed| fixed.attempt);
            open.fixed = Some(FixedSum::new(
                members.iter().cloned().collect(),
                attempt,
                now,
            ));
            self.record(Entry::SumFixed { round, members });
        }
    }

    /// The round is open again, for those whose updates are in its sum.
    fn sum_anew(&mut self, detail: &Text, now: Instant) {
        let Some((mut open, _)) = self.phase.take_aggregating() else {
            return;
        };
        let (round, number) = (open.round, open.attempts);
        let attempt = AttemptId { round, number };
        let reason = Text::new(&format!("its sum was not opened: {detail}"));
        open.gathering = None;
        if let Some(fixed) = &mut open.fixed {
            fixed.since = now;
        }
        let summed = |(name, work): (&ParticipantName, &Work)| {
            matches!(work, Work::Summed(_)).then(|| name.clone())
        };
        let members: Vec<_> = open.works.iter().filter_map(summed).collect();
        let mut unasked = std::mem::take(&mut open.unasked);
        unasked.retain(|name| members.contains(name));
        let refused = put_back(&mut open, &unasked);
        self.phase = Phase::Open(open);
        for (participant, reason) in refused {
            // It was told so when the round was closed.
            self.record(Entry::Refused {
                participant,
                round,
                reason,
            });
        }
        for name in &members {
            let reason = reason.clone();
            let message = ForMember::Abandoned { reason };
            self.tell(name, ToClient::Secure { attempt, message });
        }
        self.report(Report::AttemptFailed { attempt, reason });
        for name in &unasked {
            self.ask(name, round, now);
        }
    }

    /// Those of a fixed sum that are not there with their updates.
    pub(super) fn missing_of(&self, open: &OpenRound, fixed: &FixedSum) -> Vec<ParticipantName> {
        let there: BTreeSet<_> = self.trained(open).map(|(name, _)| name).collect();
        let missing = fixed.members.iter().filter(|name| !there.contains(name));
        missing.cloned().collect()
    }

    /// No attempt at a fixed sum can begin: somebody is missing, and perhaps for good.
    pub(super) fn settle_fixed(&mut self, now: Instant) {
        let Phase::Open(open) = &self.phase else {
            return;
        };
        let Some(fixed) = &open.fixed else {
            return;
        };
        let missing = self.missing_of(open, fixed);
        let is_late =
            open.lateness == Lateness::Hard && fixed.since + self.plan.cohort.stall_limit <= now;
        let is_gone = |name: &ParticipantName| {
            self.roster.is_withdrawn(name) || matches!(open.works.get(name), Some(Work::Refused(_)))
        };
        if missing.is_empty() || !(is_late || missing.iter().any(is_gone)) {
            return;
        }
        let (members, detail) = (fixed.members.len(), gone(open.round, &missing));
        let said = format!("{detail}, and no other sum than that of these {members} may be opened");
        self.fail(RunFailure::SumNotOpened, Text::new(&said));
    }
}

/// Puts back who is in the sum, and gives those that were told when the round closed that they are not.
fn put_back(
    open: &mut OpenRound,
    unasked: &BTreeSet<ParticipantName>,
) -> Vec<(ParticipantName, RefusalReason)> {
    let mut refused = Vec::new();
    for (name, work) in &mut open.works {
        match work {
            // Whether its process still has the update is not known.
            Work::Summed(_) if unasked.contains(name) => *work = Work::Training { step: 0 },
            Work::Summed(offered) => *work = Work::Trained(offered.metrics),
            Work::Training { .. } | Work::Delivering(_) | Work::Trained(_) => {
                let reason = match open.left_out.contains(name) {
                    true => RefusalReason::LeftOut,
                    false => RefusalReason::Late,
                };
                *work = Work::Refused(reason);
                refused.push((name.clone(), reason));
            }
            Work::Folding(_) | Work::Accepted(_) | Work::Refused(_) => {}
        }
    }
    refused
}

fn gone(round: Round, missing: &[ParticipantName]) -> String {
    let named: Vec<_> = missing
        .iter()
        .take(NAMED_MAX)
        .map(ParticipantName::as_str)
        .collect();
    let more = missing.len().saturating_sub(NAMED_MAX);
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    format!(
        "round {round}: the sum that was to be opened needs {}{more} once more",
        named.join(", ")
    )
}
