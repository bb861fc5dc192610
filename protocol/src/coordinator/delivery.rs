//! What becomes of updates: what counts, once, and what is refused.

use std::cmp::Ordering;
use std::time::Instant;

use super::round::{Offered, Work};
use super::{Admission, Coordinator, Entry, Phase, Report};
use crate::close::RefusalReason;
use crate::ids::{ConnectionId, ParticipantName, Round, TransferId};
use crate::message::{ToClient, TransferHeader};
use crate::violation::{Breach, Misuse};

impl Coordinator {
    // What happened to an update.

    /// The bulk bytes of an update arrived whole and with the header's digest.
    ///
    /// `Some` asks the owner to fold them, once, and to answer; `None` tells it to drop them. The participant has
    /// then been told why, if it is still there.
    #[must_use]
    pub fn handle_update_received(
        &mut self,
        connection: ConnectionId,
        header: &TransferHeader,
        now: Instant,
    ) -> Option<Admission> {
        let name = self.roster.name(connection)?.clone();
        let admission = self.admit(&name, header);
        let answer = match admission {
            Ok(admission) => admission,
            Err(reason) => {
                self.turn_down(&name, header.round, reason);
                self.handle_stray_stream(connection, now);
                None
            }
        };
        self.handle_transfer_progress(connection, now);
        self.settle(now);
        answer
    }

    /// The owner folded the update of an [`Admission`]: it counts.
    ///
    /// # Errors
    /// [`Misuse`] if no update of this participant is with the owner. After the end of the run it is ignored.
    pub fn handle_update_accepted(
        &mut self,
        name: &ParticipantName,
        now: Instant,
    ) -> Result<(), Misuse> {
        if self.is_over() {
            return Ok(());
        }
        let (round, offered) = self.take_folding(name, "handle_update_accepted")?;
        if self.plan.secure_aggregation.is_some() {
            self.sum(name, offered);
            self.settle(now);
            return Ok(());
        }
        self.settle_late(name);
        self.record(Entry::Accepted(offered.admission(name, round)));
        self.set_work(name, Work::Accepted(offered));
        self.report(Report::Accepted {
            participant: name.clone(),
            round,
        });
        self.tell(name, ToClient::Accepted { round });
        self.settle(now);
        Ok(())
    }

    /// The owner refused the update of an [`Admission`]: the round goes on without it.
    ///
    /// # Errors
    /// As [`Coordinator::handle_update_accepted`].
    pub fn handle_update_refused(
        &mut self,
        name: &ParticipantName,
        reason: RefusalReason,
        now: Instant,
    ) -> Result<(), Misuse> {
        if self.is_over() {
            return Ok(());
        }
        let (_, offered) = self.take_folding(name, "handle_update_refused")?;
        let round = offered.transfer.round;
        self.exclude(name, reason);
        self.refuse(name, round, reason);
        self.settle(now);
        Ok(())
    }

    /// The owner keeps this many bytes of a delivery that was interrupted on this connection: the next attempt starts after them. If
    /// the participant was asked on a newer connection meanwhile, they are of no use.
    pub fn update_kept(
        &mut self,
        connection: ConnectionId,
        name: &ParticipantName,
        transfer: TransferId,
        bytes: u64,
    ) {
        if let Some(taking) = self.phase.taking_mut() {
            taking.sent_by(name).keep(connection, transfer, bytes);
        }
    }

    /// An earlier process of the owner left so many bytes of a delivery: the next attempt starts after them.
    pub fn update_found(&mut self, name: &ParticipantName, transfer: TransferId, bytes: u64) {
        if let Some(taking) = self.phase.taking_mut() {
            taking.sent_by(name).hold(transfer, bytes);
        }
    }

    /// What is kept of this delivery is of no use: it is asked for from its first byte.
    pub fn restart_delivery(
        &mut self,
        connection: ConnectionId,
        transfer: TransferId,
        now: Instant,
    ) {
        let Some(name) = self.roster.name(connection).cloned() else {
            return;
        };
        if let Some(taking) = self.phase.taking_mut() {
            taking.sent_by(&name).forget_kept();
        }
        self.ask_again(connection, &name, transfer, now);
        self.settle(now);
    }

    /// The sender broke a delivery off and its connection lives: it is asked for what is missing, but not for ever.
    ///
    /// Returns whether the participant is out of the round now.
    pub fn delivery_cut(
        &mut self,
        connection: ConnectionId,
        transfer: TransferId,
        now: Instant,
    ) -> bool {
        let Some(name) = self.roster.name(connection).cloned() else {
            return false;
        };
        let limit = self.accounts.allowance().interruptions_per_round;
        let Some(taking) = self.phase.taking_mut() else {
            return false;
        };
        let round = taking.task(&name);
        let is_out = taking.delivers(&name, transfer) && !taking.sent_by(&name).interrupt(limit);
        if is_out {
            self.exclude(&name, RefusalReason::BrokenOff);
            self.refuse(&name, round, RefusalReason::BrokenOff);
        } else {
            self.ask_again(connection, &name, transfer, now);
        }
        self.settle(now);
        is_out
    }

    /// Asks once more for a delivery that was asked for and did not come.
    fn ask_again(
        &mut self,
        connection: ConnectionId,
        name: &ParticipantName,
        transfer: TransferId,
        now: Instant,
    ) {
        let works = self.phase.taking().map(|taking| &taking.works);
        let Some(Work::Delivering(offered)) = works.and_then(|works| works.get(name)) else {
            return;
        };
        if offered.transfer.id == transfer {
            let (header, round) = (offered.transfer, offered.transfer.round);
            match self.grant(connection, name, &header) {
                Ok(offset) => {
                    self.handle_transfer_progress(connection, now);
                    self.send(connection, ToClient::Deliver { transfer, offset });
                }
                Err(reason) => {
                    self.exclude(name, reason);
                    self.refuse(name, round, reason);
                }
            }
        }
    }

    // Messages.

    pub(super) fn take_progress(
        &mut self,
        connection: ConnectionId,
        name: &ParticipantName,
        (round, step, steps): (Round, u32, u32),
        now: Instant,
    ) -> Result<(), Breach> {
        self.check_round("Progress", round)?;
        let steps_max = self.plan.training.local_steps;
        let Some(taking) = self.phase.taking_mut() else {
            return Ok(());
        };
        let task = taking.task(name);
        match taking.works.get_mut(name) {
            Some(Work::Training { step: last })
                if round == task && *last < step && step <= steps_max =>
            {
                *last = step
            }
            // Stale, repeated or beyond the plan: no progress, and no reason to punish either.
            _ => return Ok(()),
        }
        self.handle_transfer_progress(connection, now);
        self.accounts.give_back_message(name, now);
        self.report(Report::Progress {
            participant: name.clone(),
            round,
            step,
            steps,
        });
        Ok(())
    }

    /// Decides whether bytes that arrived count, and hands them to the owner if so.
    fn admit(
        &mut self,
        name: &ParticipantName,
        header: &TransferHeader,
    ) -> Result<Option<Admission>, RefusalReason> {
        let Some(taking) = self.phase.taking_mut() else {
            return Err(RefusalReason::Late);
        };
        if header.round != taking.task(name) {
            return Err(match header.round.cmp(&taking.round) {
                Ordering::Less => RefusalReason::Late,
                Ordering::Equal => RefusalReason::NotInRound,
                Ordering::Greater => RefusalReason::WrongRound,
            });
        }
        match taking.works.get(name) {
            Some(Work::Delivering(offered)) if offered.transfer == header.at(0) => {
                let offered = offered.clone();
                let admission = offered.admission(name, taking.round);
                taking.works.insert(name.clone(), Work::Folding(offered));
                taking.sent_by(name).forget_kept();
                Ok(Some(admission))
            }
            None => Err(RefusalReason::NotInRound),
            // Of an attempt that has ended meanwhile.
            Some(Work::Trained(_) | Work::Summed(_)) => Ok(None),
            Some(Work::Delivering(_)) if taking.cut_short.contains(&header.id) => Ok(None),
            Some(Work::Training { .. } | Work::Delivering(_)) => Err(RefusalReason::WrongTransfer),
            // Not "duplicate": whether the one with the owner counts is not known yet, and its answer will follow.
            Some(Work::Folding(_)) => Ok(None),
            Some(Work::Accepted(_)) => Err(RefusalReason::Duplicate),
            Some(Work::Refused(reason)) => Err(*reason),
        }
    }

    // Small steps.

    /// A message about a round that is not the open one can only be about an earlier one.
    pub(super) fn check_round(&self, message: &'static str, found: Round) -> Result<(), Breach> {
        let last = Round(self.plan.rounds);
        let current = match &self.phase {
            Phase::Joining { .. } => Round(0),
            Phase::Open(open) | Phase::Aggregating { closed: open, .. } => open.round,
            Phase::Finishing { .. } | Phase::Over { .. } => last,
        };
        if Round::FIRST <= found && found <= current {
            Ok(())
        } else {
            Err(Breach::WrongRound {
                message,
                found,
                expected: Round::FIRST,
                last: current,
            })
        }
    }

    fn take_folding(
        &self,
        name: &ParticipantName,
        verb: &'static str,
    ) -> Result<(Round, Offered), Misuse> {
        let Some(taking) = self.phase.taking() else {
            let state = self.phase.label();
            return Err(Misuse { verb, state });
        };
        match taking.works.get(name) {
            Some(Work::Folding(offered)) => Ok((taking.round, offered.clone())),
            _ => Err(Misuse {
                verb,
                state: "no update of this participant is with the owner",
            }),
        }
    }

    pub(super) fn set_work(&mut self, name: &ParticipantName, work: Work) {
        if let Some(taking) = self.phase.taking_mut() {
            taking.works.insert(name.clone(), work);
        }
    }

    /// Refuses an offer or bytes.
    pub(super) fn turn_down(
        &mut self,
        name: &ParticipantName,
        round: Round,
        reason: RefusalReason,
    ) {
        self.spoil(name, round, reason);
        self.refuse(name, round, reason);
    }

    /// An update that is refused for what it is ends the participant's part in the round; one for another round or
    /// plan, or beside an update that counts, changes nothing.
    fn spoil(&mut self, name: &ParticipantName, round: Round, reason: RefusalReason) {
        let Some(taking) = self.phase.taking() else {
            return;
        };
        // While a round is aggregated only those that are late for it owe anything.
        if !matches!(self.phase, Phase::Open(_)) && !taking.late.contains_key(name) {
            return;
        }
        // One that was not asked is told so, and out as well: it must not be asked afterwards.
        let owed = taking.owes(name);
        let elsewhere = matches!(
            reason,
            RefusalReason::WrongPlan | RefusalReason::WrongRound | RefusalReason::Late
        );
        if owed && !elsewhere && round == taking.task(name) {
            self.exclude(name, reason);
        }
    }

    /// Ends a participant's part in the open round; while one is aggregated, only its late update, and it is free for the next.
    pub(super) fn exclude(&mut self, name: &ParticipantName, reason: RefusalReason) {
        self.settle_late(name);
        let round = match &mut self.phase {
            Phase::Open(open) => {
                open.works.insert(name.clone(), Work::Refused(reason));
                open.round
            }
            Phase::Aggregating { next, .. } => {
                next.works.remove(name);
                next.sent.remove(name);
                return;
            }
            Phase::Joining { .. } | Phase::Finishing { .. } | Phase::Over { .. } => return,
        };
        self.leave_attempt(name);
        self.record(Entry::Refused {
            participant: name.clone(),
            round,
            reason,
        });
    }

    pub(super) fn refuse(&mut self, name: &ParticipantName, round: Round, reason: RefusalReason) {
        self.report(Report::Refused {
            participant: name.clone(),
            round,
            reason,
        });
        self.tell(name, ToClient::Refused { round, reason });
    }

    /// Sends a message to a participant that takes part; to one that is away it is said when it is back.
    pub(super) fn tell(&mut self, name: &ParticipantName, message: ToClient) {
        if let Some(connection) = self.roster.ready(name).map(|link| link.connection) {
            self.send(connection, message);
        }
    }
}
