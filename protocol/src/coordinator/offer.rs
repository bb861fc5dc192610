//! Offers of updates: which are taken up, from which byte, and which are refused by which name.

use std::time::Instant;

use super::round::{Offered, Work};
use super::{Coordinator, Phase};
use crate::close::RefusalReason;
use crate::ids::{ConnectionId, ParticipantName, Round};
use crate::message::{ToClient, TransferHeader};
use crate::violation::Breach;

impl Coordinator {
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
        let round = transfer.round;
        match self.judge_offer(name, &offered) {
            Judgement::Deliver => match self.grant(connection, name, &transfer) {
                Ok(offset) => {
                    let transfer = transfer.id;
                    self.rejoin_attempt(name);
                    self.set_work(name, Work::Delivering(offered));
                    self.handle_transfer_progress(connection, now);
                    self.send(connection, ToClient::Deliver { transfer, offset });
                }
                Err(reason) => self.turn_down(name, round, reason),
            },
            Judgement::Accepted { round } => self.send(connection, ToClient::Accepted { round }),
            Judgement::Pending => {
                if self.has_summed(name, transfer.id) {
                    // It still has what is masked, and so the keys of the attempt: it goes on with it.
                    self.rejoin_attempt(name);
                }
            }
            Judgement::Refuse(reason) => self.turn_down(name, round, reason),
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
        let (open, in_time) = match &self.phase {
            Phase::Open(open) => (open, true),
            Phase::Aggregating { next, .. } if next.late.contains_key(name) => (next, true),
            Phase::Aggregating { closed, .. } => (closed, false),
            Phase::Joining { .. } => return Judgement::Refuse(RefusalReason::WrongRound),
            Phase::Finishing { .. } | Phase::Over { .. } => {
                return Judgement::Refuse(RefusalReason::Late);
            }
        };
        if open.round < transfer.round || transfer.round < Round::FIRST {
            return Judgement::Refuse(RefusalReason::WrongRound);
        }
        match open.works.get(name) {
            Some(Work::Accepted(counted)) if counted.transfer.id == transfer.id => {
                Judgement::Accepted { round: open.round }
            }
            _ if transfer.round != open.task(name) => {
                // One that works on a late update was not asked for one of this round.
                let is_earlier = transfer.round < open.round;
                Judgement::Refuse(if is_earlier {
                    RefusalReason::Late
                } else {
                    RefusalReason::NotInRound
                })
            }
            None => Judgement::Refuse(RefusalReason::NotInRound),
            Some(Work::Refused(reason)) => Judgement::Refuse(*reason),
            Some(Work::Folding(_)) => Judgement::Pending,
            Some(Work::Accepted(_)) => Judgement::Refuse(RefusalReason::Duplicate),
            Some(Work::Trained(_) | Work::Summed(_)) if !self.awaits_vector(name) => {
                // Masked for an attempt that has ended meanwhile.
                Judgement::Pending
            }
            // Masked for an attempt that our restart ended.
            Some(Work::Training { .. }) if self.plan.secure_aggregation.is_some() => {
                Judgement::Pending
            }
            Some(_) if in_time => self.judge_content(offered),
            Some(_) => Judgement::Refuse(RefusalReason::Late),
        }
    }

    /// The last questions to an offer that is in time.
    fn judge_content(&self, offered: &Offered) -> Judgement {
        if offered.transfer.bytes != self.plan.update_bytes() {
            return Judgement::Refuse(RefusalReason::WrongSize);
        }
        if offered.weight == 0 {
            return Judgement::Refuse(RefusalReason::ZeroWeight);
        }
        if self.plan.limits.weight_max < offered.weight {
            return Judgement::Refuse(RefusalReason::OverWeight);
        }
        Judgement::Deliver
    }

    /// From which byte to ask for a transfer, if the participant may send so much more in this round.
    pub(super) fn grant(
        &mut self,
        connection: ConnectionId,
        name: &ParticipantName,
        header: &TransferHeader,
    ) -> Result<u64, RefusalReason> {
        let updates = u64::from(self.accounts.allowance().uploads_per_round);
        let limit = self.plan.update_bytes().saturating_mul(updates);
        let Some(taking) = self.phase.taking_mut() else {
            return Err(RefusalReason::Late);
        };
        let sent = taking.sent_by(name);
        let offset = sent.kept_bytes(header.id).min(header.bytes);
        let wanted = (offset, header.bytes - offset);
        if sent.ask(connection, header.id, wanted, limit) {
            Ok(offset)
        } else {
            Err(RefusalReason::OverAllowance)
        }
    }
}

/// The answers to an offer.
enum Judgement {
    /// Ask for its bytes, if its sender may send so many.
    Deliver,
    /// This very update is already counted, in this round.
    Accepted { round: Round },
    /// An update of this participant is with the owner; its answer will follow, and holds for this one too.
    Pending,
    /// No.
    Refuse(RefusalReason),
}
