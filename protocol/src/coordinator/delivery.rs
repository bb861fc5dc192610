//! Offers and updates: what counts, once, and what is refused by which name.

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
                self.spoil(&name, header.round, reason);
                self.refuse(&name, header.round, reason);
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
        let (round, _) = self.take_folding(name, "handle_update_refused")?;
        self.exclude(name, round, reason);
        self.refuse(name, round, reason);
        self.settle(now);
        Ok(())
    }

    /// The owner keeps this many bytes of an interrupted delivery: the next attempt starts after them.
    pub fn update_kept(&mut self, name: &ParticipantName, transfer: TransferId, bytes: u64) {
        if let Phase::Open(open) = &mut self.phase {
            open.kept.insert(name.clone(), (transfer, bytes));
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
        let Phase::Open(open) = &mut self.phase else {
            return;
        };
        open.kept.remove(&name);
        if let Some(Work::Delivering(offered)) = open.works.get(&name)
            && offered.transfer.id == transfer
        {
            self.send(
                connection,
                ToClient::Deliver {
                    transfer,
                    offset: 0,
                },
            );
            self.handle_transfer_progress(connection, now);
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
        let Phase::Open(open) = &mut self.phase else {
            return Ok(());
        };
        match open.works.get_mut(name) {
            Some(Work::Training { step: last })
                if round == open.round && *last < step && step <= steps_max =>
            {
                *last = step
            }
            // Stale, repeated or beyond the plan: no progress, and no reason to punish either.
            _ => return Ok(()),
        }
        self.handle_transfer_progress(connection, now);
        self.report(Report::Progress {
            participant: name.clone(),
            round,
            step,
            steps,
        });
        Ok(())
    }

    pub(super) fn take_offer(
        &mut self,
        connection: ConnectionId,
        name: &ParticipantName,
        offered: Offered,
        now: Instant,
    ) -> Result<(), Breach> {
        let Offered { transfer, .. } = offered;
        let expected =
            TransferHeader::update(name, transfer.round, transfer.plan, transfer.content());
        if transfer != expected {
            let (found, expected) = (transfer.id.to_string(), expected.id.to_string());
            return Err(Breach::BadTransfer {
                what: "id, kind or offset",
                found,
                expected,
            });
        }
        match self.judge_offer(name, &offered) {
            Judgement::Deliver { offset } => {
                self.set_work(name, Work::Delivering(offered));
                self.handle_transfer_progress(connection, now);
                self.send(
                    connection,
                    ToClient::Deliver {
                        transfer: transfer.id,
                        offset,
                    },
                );
            }
            Judgement::Accepted => self.send(
                connection,
                ToClient::Accepted {
                    round: transfer.round,
                },
            ),
            Judgement::Pending => {}
            Judgement::Refuse(reason) => {
                self.spoil(name, transfer.round, reason);
                self.refuse(name, transfer.round, reason);
            }
        }
        Ok(())
    }

    /// What to answer to an offer. The order is from the general to the particular, so that the reason given is
    /// the first that anyone would name.
    fn judge_offer(&self, name: &ParticipantName, offered: &Offered) -> Judgement {
        let transfer = &offered.transfer;
        if transfer.plan != self.plan.digest() {
            return Judgement::Refuse(RefusalReason::WrongPlan);
        }
        let (round, works) = match &self.phase {
            Phase::Open(open) | Phase::Aggregating { closed: open } => (open.round, &open.works),
            Phase::Joining { .. } => return Judgement::Refuse(RefusalReason::WrongRound),
            Phase::Finishing { .. } | Phase::Over { .. } => {
                return Judgement::Refuse(RefusalReason::Late);
            }
        };
        if round < transfer.round || transfer.round < Round::FIRST {
            return Judgement::Refuse(RefusalReason::WrongRound);
        }
        if transfer.round < round {
            return Judgement::Refuse(RefusalReason::Late);
        }
        match works.get(name) {
            None => Judgement::Refuse(RefusalReason::NotInRound),
            Some(Work::Refused(reason)) => Judgement::Refuse(*reason),
            Some(Work::Accepted(counted)) if counted.transfer.id == transfer.id => {
                Judgement::Accepted
            }
            Some(Work::Folding(_)) => Judgement::Pending,
            Some(Work::Accepted(_)) => Judgement::Refuse(RefusalReason::Duplicate),
            Some(Work::Trained(_) | Work::Summed(_)) if !self.awaits_vector(name) => {
                // Masked for an attempt that has ended meanwhile.
                Judgement::Pending
            }
            Some(Work::Training { .. }) if self.plan.secure_aggregation.is_some() => {
                Judgement::Refuse(RefusalReason::WrongTransfer)
            }
            Some(
                Work::Training { .. } | Work::Delivering(_) | Work::Trained(_) | Work::Summed(_),
            ) => self.judge_content(name, offered),
        }
    }

    /// The last questions to an offer that is in time.
    fn judge_content(&self, name: &ParticipantName, offered: &Offered) -> Judgement {
        let Phase::Open(open) = &self.phase else {
            return Judgement::Refuse(RefusalReason::Late);
        };
        if offered.transfer.bytes != self.plan.update_bytes() {
            return Judgement::Refuse(RefusalReason::WrongSize);
        }
        if offered.weight == 0 {
            return Judgement::Refuse(RefusalReason::ZeroWeight);
        }
        if self.plan.limits.weight_max < offered.weight {
            return Judgement::Refuse(RefusalReason::OverWeight);
        }
        let kept = open.kept_bytes(name, offered.transfer.id);
        Judgement::Deliver {
            offset: kept.min(offered.transfer.bytes),
        }
    }

    /// Decides whether bytes that arrived count, and hands them to the owner if so.
    fn admit(
        &mut self,
        name: &ParticipantName,
        header: &TransferHeader,
    ) -> Result<Option<Admission>, RefusalReason> {
        let Phase::Open(open) = &mut self.phase else {
            return Err(RefusalReason::Late);
        };
        if header.round != open.round {
            return Err(if header.round < open.round {
                RefusalReason::Late
            } else {
                RefusalReason::WrongRound
            });
        }
        match open.works.get(name) {
            Some(Work::Delivering(offered)) if offered.transfer == header.at(0) => {
                let offered = offered.clone();
                let admission = offered.admission(name, open.round);
                open.works.insert(name.clone(), Work::Folding(offered));
                open.kept.remove(name);
                Ok(Some(admission))
            }
            None => Err(RefusalReason::NotInRound),
            // Of an attempt that has ended meanwhile.
            Some(Work::Trained(_) | Work::Summed(_)) => Ok(None),
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
            Phase::Open(open) | Phase::Aggregating { closed: open } => open.round,
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
        match &self.phase {
            Phase::Open(open) => match open.works.get(name) {
                Some(Work::Folding(offered)) => Ok((open.round, offered.clone())),
                _ => Err(Misuse {
                    verb,
                    state: "no update of this participant is with the owner",
                }),
            },
            phase => Err(Misuse {
                verb,
                state: phase.label(),
            }),
        }
    }

    pub(super) fn set_work(&mut self, name: &ParticipantName, work: Work) {
        if let Phase::Open(open) = &mut self.phase {
            open.works.insert(name.clone(), work);
        }
    }

    /// An update that is refused for what it is ends the participant's part in the round; one for another round or
    /// plan, or beside an update that counts, changes nothing.
    fn spoil(&mut self, name: &ParticipantName, round: Round, reason: RefusalReason) {
        let Phase::Open(open) = &self.phase else {
            return;
        };
        // One that was not asked is told so, and out as well: it must not be asked afterwards.
        let owed = open.owes(name);
        let elsewhere = matches!(
            reason,
            RefusalReason::WrongPlan | RefusalReason::WrongRound | RefusalReason::Late
        );
        if owed && !elsewhere && round == open.round {
            self.exclude(name, round, reason);
        }
    }

    /// Ends a participant's part in the open round.
    fn exclude(&mut self, name: &ParticipantName, round: Round, reason: RefusalReason) {
        self.set_work(name, Work::Refused(reason));
        self.leave_attempt(name);
        self.record(Entry::Refused {
            participant: name.clone(),
            round,
            reason,
        });
    }

    fn refuse(&mut self, name: &ParticipantName, round: Round, reason: RefusalReason) {
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

/// The answers to an offer.
enum Judgement {
    /// Ask for its bytes from here on.
    Deliver { offset: u64 },
    /// This very update is already counted.
    Accepted,
    /// An update of this participant is with the owner; its answer will follow, and holds for this one too.
    Pending,
    /// No.
    Refuse(RefusalReason),
}
