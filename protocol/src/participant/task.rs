//! One round: asked, training, delivering, settled.

use std::time::Instant;

use super::work::{Offer, Work};
use super::{Action, AnchorCopy, Outcome, Participant, Report, Spooled};
use crate::close::RefusalReason;
use crate::ids::{Round, TransferId};
use crate::message::{ToServer, TransferHeader, TransferKind};
use crate::plan::EwcPlace;
use crate::violation::Breach;

impl Participant {
    pub(super) fn take_train(&mut self, global: TransferHeader) -> Result<(), Breach> {
        self.note_round(global.round);
        self.check_header(&global, TransferKind::GlobalAdapter)?;
        let round = global.round;
        let (current, held) = self.work.task().unzip();
        let first = current.unwrap_or_else(|| self.settled.next());
        self.check_round("Train", round, first)?;
        self.check_start(Round(round.0.saturating_sub(1)), global.sha256)?;
        if let Some(arrived) = self
            .arrived
            .filter(|arrived| arrived.kind == TransferKind::GlobalAdapter)
            .filter(|arrived| arrived.round == round && arrived.id != global.id)
        {
            debug_assert_ne!(arrived.sha256, global.sha256, "the id covers the digest");
            return Err(Breach::Equivocation { round });
        }
        if current == Some(round) && held != Some(global.sha256) {
            return Err(Breach::Equivocation { round });
        }
        self.requests.train(round)?;
        if current != Some(round) {
            // The server wants no more of it, and whether it counts was not said or not heard.
            if let Some(left) = current {
                let report = Report::Unanswered { round: left };
                self.actions.push_back(Action::Report(report));
            }
            self.drop_work();
            self.start(global);
            return Ok(());
        }
        // The same round again, on a new connection, on which the training may have ended before this was said.
        if !self.is_offered {
            self.offer();
        }
        Ok(())
    }

    /// Begins with a round: by the spooled update if there is one, else by training.
    fn start(&mut self, global: TransferHeader) {
        if let Some(spooled) = self.spooled.take() {
            let offer = spooled.offer(&self.name);
            let fits = (spooled.plan, spooled.round, spooled.global)
                == (global.plan, global.round, global.sha256);
            let length = self.plan.as_ref().map(|plan| plan.update_bytes());
            if fits && Some(spooled.update.bytes) == length {
                self.present(global.sha256, offer);
                return;
            }
            self.actions.push_back(Action::Forget {
                transfer: offer.transfer.id,
            });
        }
        self.work = Work::Receiving { global };
        self.begin_training();
    }

    /// Begins training once the global adapter and, if the plan needs it, the anchor are here.
    pub(super) fn begin_training(&mut self) {
        let (Work::Receiving { global }, Some(plan)) = (&self.work, &self.plan) else {
            return;
        };
        let global = *global;
        let needs_anchor = plan
            .ewc
            .as_ref()
            .is_some_and(|ewc| ewc.place == EwcPlace::Client);
        let has_anchor = !needs_anchor || self.anchor == AnchorCopy::Held;
        if !has_anchor || self.arrived.map(|arrived| arrived.id) != Some(global.id) {
            return;
        }
        let steps = plan.training.local_steps;
        // The plan's check bounds rounds times steps to 32 bits.
        let first_step = (global.round.0 - 1) * steps;
        self.arrived = None;
        self.work = Work::Training { global };
        self.actions.push_back(Action::Train {
            round: global.round,
            global,
            first_step,
            steps,
        });
    }

    pub(super) fn take_deliver(&mut self, transfer: TransferId, offset: u64) -> Result<(), Breach> {
        let (Work::Delivering {
            offer: Offer {
                transfer: header, ..
            },
            ..
        }
        | Work::Summing {
            offer: Some(Offer {
                transfer: header, ..
            }),
            ..
        }) = &self.work
        else {
            return Err(Breach::Unexpected {
                message: "Deliver",
                state: self.work.label(),
            });
        };
        if header.id != transfer {
            let (found, expected) = (transfer.to_string(), header.id.to_string());
            return Err(Breach::BadTransfer {
                what: "id",
                found,
                expected,
            });
        }
        if header.bytes < offset {
            let (found, expected) = (offset.to_string(), format!("at most {}", header.bytes));
            return Err(Breach::BadTransfer {
                what: "offset",
                found,
                expected,
            });
        }
        let header = header.at(offset);
        self.requests.deliver()?;
        self.actions.push_back(Action::SendTransfer { header });
        Ok(())
    }

    pub(super) fn take_accepted(&mut self, round: Round) -> Result<(), Breach> {
        self.check_round("Accepted", round, Round::FIRST)?;
        if round <= self.settled {
            return Ok(());
        }
        match &self.work {
            Work::Receiving { .. } | Work::Training { .. } | Work::Parting { .. } => {
                return Err(Breach::Unexpected {
                    message: "Accepted",
                    state: self.work.label(),
                });
            }
            Work::Delivering { offer, .. } => {
                self.check_round("Accepted", round, offer.transfer.round)?
            }
            Work::Summing { plain, .. } => self.check_round("Accepted", round, plain.round)?,
            // The update of a process before this one.
            Work::Idle => {}
        }
        self.claim(round);
        // The server has all of it.
        self.settle(round, |transfer| Action::Forget { transfer });
        self.actions
            .push_back(Action::Report(Report::Accepted { round }));
        Ok(())
    }

    pub(super) fn take_refused(
        &mut self,
        round: Round,
        reason: RefusalReason,
    ) -> Result<(), Breach> {
        self.check_round("Refused", round, Round::FIRST)?;
        if round <= self.settled {
            return Ok(());
        }
        self.settle(round, |transfer| Action::Withdraw { transfer });
        self.actions
            .push_back(Action::Report(Report::Refused { round, reason }));
        Ok(())
    }

    /// The round was closed without this participant's update, which may still count in a later one.
    pub(super) fn take_postponed(&mut self, round: Round, until: Round) -> Result<(), Breach> {
        self.check_round("Postponed", round, Round::FIRST)?;
        let plan = self.plan.as_ref();
        if plan.is_none_or(|plan| plan.secure_aggregation.is_some()) {
            // What an earlier process left is an update without masks: nothing may talk us into offering it.
            return Err(Breach::Unexpected {
                message: "Postponed",
                state: "updates are masked",
            });
        }
        if round <= self.settled {
            return Ok(());
        }
        let digest = plan.map(|plan| plan.digest());
        let of_round =
            |spooled: &mut Spooled| spooled.round == round && Some(spooled.plan) == digest;
        if self.work == Work::Idle
            && let Some(spooled) = self.spooled.take_if(of_round)
        {
            // A process before this one had finished it.
            self.work = Work::Delivering {
                global: spooled.global,
                offer: spooled.offer(&self.name),
            };
        }
        let is_at_it = self.round() == Some(round);
        if is_at_it && !self.is_offered {
            self.offer();
        }
        self.actions
            .push_back(Action::Report(Report::Postponed { round, until }));
        Ok(())
    }

    pub(super) fn take_finished(
        &mut self,
        rounds: u32,
        adapter: TransferHeader,
        now: Instant,
    ) -> Result<(), Breach> {
        self.note_round(adapter.round);
        self.check_header(&adapter, TransferKind::FinalAdapter)?;
        let last = self.last_round();
        self.check_round("Finished", adapter.round, last)?;
        if rounds != last.0 {
            let found = Round(rounds);
            return Err(Breach::WrongRound {
                message: "Finished",
                found,
                expected: last,
                last,
            });
        }
        self.check_start(last, adapter.sha256)?;
        self.drop_work();
        self.work = Work::Parting { rounds, adapter };
        self.complete(now)
    }

    /// Ends the run once the final adapter is here.
    pub(super) fn complete(&mut self, now: Instant) -> Result<(), Breach> {
        let Work::Parting { rounds, adapter } = self.work else {
            return Ok(());
        };
        match self.arrived {
            Some(arrived) if arrived.id == adapter.id => {
                self.arrived = None;
                self.actions.push_back(Action::Keep { adapter });
                self.actions.push_back(Action::Send(ToServer::Received {
                    transfer: adapter.id,
                }));
                self.part(Outcome::Finished { rounds, adapter }, now);
            }
            Some(arrived) if arrived.kind == TransferKind::FinalAdapter => {
                return Err(Breach::Equivocation {
                    round: adapter.round,
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// The round is over for this participant; `of_offered` is what is to be done about the update that it offered.
    fn settle(&mut self, round: Round, of_offered: fn(TransferId) -> Action) {
        self.settled = round;
        if self
            .work
            .task()
            .is_some_and(|(current, _)| current <= round)
        {
            self.drop_work_and(of_offered);
        }
        if let Some(spooled) = self.spooled.take_if(|spooled| spooled.round <= round) {
            let transfer = spooled.offer(&self.name).transfer.id;
            self.actions.push_back(Action::Forget { transfer });
        }
    }

    /// The server names a round, rightly or not.
    pub(super) fn note_round(&mut self, round: Round) {
        if round <= self.last_round() {
            self.named = self.named.max(round);
        }
    }

    /// The last round of the plan.
    pub(super) fn last_round(&self) -> Round {
        Round(self.plan.as_ref().map_or(0, |plan| plan.rounds))
    }

    pub(super) fn check_round(
        &self,
        message: &'static str,
        found: Round,
        expected: Round,
    ) -> Result<(), Breach> {
        let last = self.last_round();
        if expected <= found && found <= last {
            Ok(())
        } else {
            Err(Breach::WrongRound {
                message,
                found,
                expected,
                last,
            })
        }
    }
}
