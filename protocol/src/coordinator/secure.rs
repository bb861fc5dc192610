//! Rounds with secure aggregation: participants train first, then those that are there are summed in an attempt.
//!
//! An attempt begins when everybody who is expected has trained, or after the soft deadline when enough have. It takes as long as
//! an upload, not as long as a training, so that few drop out of it. One that fails is followed by another with the next number and
//! fresh keys, among those who are there then. What is in the sum of an attempt counts only when the sum was opened and the
//! adapter made of it is safe; so a server that is killed before that begins another attempt. Over whom attempts fail, the next
//! ones do without, as far as the quorum allows ([`super::suspicion`]). Once members were asked to open a sum, the round has no other
//! ([`super::fixed_sum`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::action::Action;
use super::roster::Credentials;
use super::round::{Lateness, Offered, OpenRound, Work};
use super::{Coordinator, Entry, Phase, Report};
use crate::close::RefusalReason;
use crate::ids::{ConnectionId, ParticipantName, Round, TransferId};
use crate::message::{Metrics, ToClient};
use crate::secagg::{
    AttemptId, CERTIFICATE_BYTES_MAX, Failure, ForMember, ForServer, Gathering, Opening, Output,
    Verify,
};
use crate::text::Text;
use crate::violation::Breach;

impl Coordinator {
    /// How signatures are checked; without this no attempt at secure aggregation succeeds.
    #[must_use]
    pub fn with_signatures(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// The certificate behind a connection: its chain as DER, its own first, its Ed25519 key, and when it is over. Needed for secure
    /// aggregation, after [`Coordinator::handle_connected`].
    pub fn handle_identified(
        &mut self,
        connection: ConnectionId,
        (certificates, public_key): (Vec<Vec<u8>>, [u8; 32]),
        expires_at: Instant,
    ) {
        let bytes: usize = certificates.iter().map(Vec::len).sum();
        if self.plan.secure_aggregation.is_some() && CERTIFICATE_BYTES_MAX < bytes {
            let what = "its certificate chain is longer than is relayed to others";
            return self.punish(connection, Breach::BadMember { what });
        }
        if let Some(link) = self.roster.link_mut(connection) {
            link.credentials = Some(Credentials {
                certificates,
                public_key,
                expires_at,
            });
        }
    }

    pub(super) fn take_trained(
        &mut self,
        connection: ConnectionId,
        name: &ParticipantName,
        (round, metrics): (Round, Metrics),
        now: Instant,
    ) -> Result<(), Breach> {
        if self.plan.secure_aggregation.is_none() {
            return Err(Breach::Unexpected {
                message: "Trained",
                state: "the plan has no secure aggregation",
            });
        }
        self.check_round("Trained", round)?;
        let Phase::Open(open) = &mut self.phase else {
            return Ok(());
        };
        let (mut moves_on, mut has_lost_its_keys) = (false, false);
        if round == open.round {
            match open.works.get_mut(name) {
                Some(work @ Work::Training { .. }) => {
                    *work = Work::Trained(metrics);
                    moves_on = true;
                }
                // One that still has its masked update offers it first.
                Some(Work::Trained(_)) => has_lost_its_keys = true,
                _ => {}
            }
        }
        if has_lost_its_keys && self.awaits_vector(name) {
            self.leave_attempt(name);
        }
        if moves_on {
            self.handle_transfer_progress(connection, now);
        }
        Ok(())
    }

    /// Says nothing of the time that its sender has for its masked update, which is all that it can owe beyond a step's time.
    pub(super) fn take_secure(
        &mut self,
        name: &ParticipantName,
        (attempt, message): (AttemptId, ForServer),
    ) -> Result<(), Breach> {
        let Phase::Open(open) = &mut self.phase else {
            return Ok(());
        };
        // What is said in an attempt that has ended is of no use to anybody.
        if let Some(gathering) = &mut open.gathering
            && gathering.attempt() == attempt
        {
            let taken = gathering.handle_message(name, message);
            taken.map_err(|what| Breach::BadMember { what })?;
        }
        Ok(())
    }

    /// Whether the attempt under way waits for this participant's masked update.
    pub(super) fn awaits_vector(&self, name: &ParticipantName) -> bool {
        match &self.phase {
            Phase::Open(open) => open
                .gathering
                .as_ref()
                .is_some_and(|gathering| gathering.awaits_vector(name)),
            _ => false,
        }
    }

    /// Whether this very masked update is in the sum of the attempt under way.
    pub(super) fn has_summed(&self, name: &ParticipantName, update: TransferId) -> bool {
        let Phase::Open(open) = &self.phase else {
            return false;
        };
        let work = open.works.get(name);
        matches!(work, Some(Work::Summed(offered)) if offered.transfer.id == update)
    }

    /// A member of the attempt under way is back with its keys.
    pub(super) fn rejoin_attempt(&mut self, name: &ParticipantName) {
        if let Phase::Open(open) = &mut self.phase
            && let Some(gathering) = &mut open.gathering
        {
            gathering.handle_returned(name);
        }
    }

    /// Nothing of this participant comes into the sum of the attempt under way.
    pub(super) fn leave_attempt(&mut self, name: &ParticipantName) {
        if let Phase::Open(open) = &mut self.phase
            && let Some(gathering) = &mut open.gathering
        {
            gathering.handle_lost(name, false);
        }
    }

    /// A masked update is in the sum.
    pub(super) fn sum(&mut self, name: &ParticipantName, offered: Offered) {
        if let Phase::Open(open) = &mut self.phase
            && let Some(gathering) = &mut open.gathering
        {
            gathering.handle_delivered(name);
            self.set_work(name, Work::Summed(offered));
        }
    }

    /// Begins an attempt, goes on with it, or closes the run if the round cannot be.
    pub(super) fn settle_secure(&mut self, soft_passed: bool, now: Instant) {
        loop {
            let Phase::Open(open) = &mut self.phase else {
                return;
            };
            // A masked update that is with the owner is neither in the sum nor lost: its answer decides.
            if open.is_folding() {
                return;
            }
            let is_fixed = open.fixed.is_some();
            let Some(gathering) = &mut open.gathering else {
                if self.is_time_for_attempt() {
                    if !self.close_expired(now) {
                        self.begin_attempt(now);
                    }
                    continue;
                }
                if is_fixed {
                    return self.settle_fixed(now);
                }
                return self.settle_waiting(soft_passed);
            };
            if gathering.is_closing(now) {
                leave_behind(&mut open.works, gathering, &mut open.cut_short);
            }
            gathering.settle(self.plan.cohort.stall_limit, now);
            if !self.pass_on(now) {
                return;
            }
        }
    }

    /// Does what comes of the attempt; whether it has ended.
    fn pass_on(&mut self, now: Instant) -> bool {
        loop {
            let Phase::Open(open) = &mut self.phase else {
                return true;
            };
            let Some(gathering) = &mut open.gathering else {
                return true;
            };
            let attempt = gathering.attempt();
            match gathering.poll_output() {
                None => return false,
                Some(Output::Tell { member, message }) => {
                    let name = gathering
                        .roster()
                        .get(member)
                        .map(|member| member.name.clone());
                    if let Some(name) = name {
                        self.tell(&name, ToClient::Secure { attempt, message });
                        self.begin_to_wait(&name, now);
                    }
                }
                Some(Output::Fixed { delivered }) => self.fix_sum(delivered, now),
                Some(Output::Opened(opening)) => {
                    self.close_summed(opening, now);
                    return true;
                }
                Some(Output::Failed(failure)) => {
                    self.abandon(attempt, failure, now);
                    return true;
                }
            }
        }
    }

    /// What a participant owes from now on it has its time for.
    fn begin_to_wait(&mut self, name: &ParticipantName, now: Instant) {
        if let Some(connection) = self.roster.ready(name).map(|link| link.connection) {
            self.handle_transfer_progress(connection, now);
        }
    }

    /// Whether enough have trained and nobody else is waited for.
    fn is_time_for_attempt(&self) -> bool {
        let Phase::Open(open) = &self.phase else {
            return false;
        };
        if let Some(fixed) = &open.fixed {
            return !self.has_had_its_attempts(open) && self.missing_of(open, fixed).is_empty();
        }
        let ready = self.trained(open).count();
        if ready < self.plan.cohort.quorum as usize || self.has_had_its_attempts(open) {
            return false;
        }
        let owes = |name: &ParticipantName| open.owes(name);
        match open.lateness {
            Lateness::InTime => {
                !open.is_awaiting(&self.roster) && !self.returning.expects_any(owes)
            }
            Lateness::Soft | Lateness::Hard => true,
        }
    }

    /// The attempt came to nothing: everybody waits for the next.
    fn abandon(&mut self, attempt: AttemptId, failure: Failure, now: Instant) {
        let reason = Text::new(&failure.to_string());
        let Phase::Open(open) = &mut self.phase else {
            return;
        };
        let mut members = Vec::new();
        if let Some(gathering) = open.gathering.take() {
            let roster = gathering.roster();
            let all = roster.ids().filter_map(|id| roster.get(id));
            members.extend(all.map(|member| member.name.clone()));
        }
        for work in open.works.values_mut() {
            if let Work::Delivering(offered) = work {
                open.cut_short.insert(offered.transfer.id);
            }
            if let Work::Summed(offered) | Work::Delivering(offered) = work {
                *work = Work::Trained(offered.metrics);
            }
        }
        open.failures.insert(attempt.number, failure.clone());
        if let Some(fixed) = &mut open.fixed {
            fixed.since = now;
        }
        // Before anybody hears of it: the next process counts it, too, and remembers over whom it was.
        self.record(Entry::AttemptFailed { attempt, failure });
        for name in &members {
            let reason = reason.clone();
            let message = ForMember::Abandoned { reason };
            self.tell(name, ToClient::Secure { attempt, message });
        }
        self.report(Report::AttemptFailed { attempt, reason });
        self.give_up_attempts();
    }

    /// The sum can be opened: the round takes in nothing more.
    fn close_summed(&mut self, opening: Opening, now: Instant) {
        let Some(closed) = self.phase.take_open() else {
            return;
        };
        let (summary, round) = (closed.summary(self.named(), now), closed.round);
        let is_late = |work: &Work| {
            matches!(
                work,
                Work::Training { .. } | Work::Delivering(_) | Work::Trained(_)
            )
        };
        let late = closed.works.iter().filter(|(_, work)| is_late(work));
        let reason = |name: &ParticipantName| match closed.left_out.contains(name) {
            true => RefusalReason::LeftOut,
            false => RefusalReason::Late,
        };
        let late: Vec<_> = late.map(|(name, _)| (name.clone(), reason(name))).collect();
        let next = OpenRound::new(round.next(), now);
        self.phase = Phase::Aggregating { closed, next };
        for (name, reason) in &late {
            let reason = *reason;
            if reason == RefusalReason::LeftOut {
                self.report(Report::Refused {
                    participant: name.clone(),
                    round,
                    reason,
                });
            }
            self.tell(name, ToClient::Refused { round, reason });
        }
        self.actions.push_back(Action::OpenSum(Box::new(opening)));
        self.actions.push_back(Action::Aggregate { summary });
    }

    /// The adapter made of the sum is safe: those in it may forget their updates.
    pub(super) fn acknowledge_summed(&mut self) {
        let Phase::Aggregating { closed, .. } = &self.phase else {
            return;
        };
        let round = closed.round;
        let summed = |(name, work): (&ParticipantName, &Work)| {
            matches!(work, Work::Summed(_)).then(|| name.clone())
        };
        let names: Vec<_> = closed.works.iter().filter_map(summed).collect();
        for name in &names {
            self.report(Report::Accepted {
                participant: name.clone(),
                round,
            });
            self.tell(name, ToClient::Accepted { round });
        }
    }

    /// No attempt is under way and none can begin: perhaps none ever will.
    fn settle_waiting(&mut self, soft_passed: bool) {
        if let Phase::Open(open) = &self.phase {
            let trained = u32::try_from(self.trained(open).count()).unwrap_or(u32::MAX);
            self.settle_shortfall(trained, soft_passed);
        }
    }
}

/// Whoever is still sending its masked update has taken too long for it, and is not in the sum.
fn leave_behind(
    works: &mut BTreeMap<ParticipantName, Work>,
    gathering: &mut Gathering,
    cut_short: &mut BTreeSet<TransferId>,
) {
    for (name, work) in works {
        if gathering.awaits_vector(name) {
            gathering.handle_lost(name, false);
            if let Work::Delivering(offered) = work {
                cut_short.insert(offered.transfer.id);
                *work = Work::Trained(offered.metrics);
            }
        }
    }
}
