//! A finished update: said to be there, offered, and let go of with the rest of a round's work.

use super::link::Link;
use super::work::{Offer, Work};
use super::{Action, Participant};
use crate::ids::{Digest, TransferId};
use crate::message::ToServer;
use crate::plan::CheckedPlan;

impl Participant {
    /// The update is finished: it is offered, or waits to be summed if the plan has it masked.
    pub(super) fn present(&mut self, global: Digest, offer: Offer) {
        let is_masked = |plan: &CheckedPlan| plan.secure_aggregation.is_some();
        self.work = if self.plan.as_ref().is_some_and(is_masked) {
            Work::Summing {
                global,
                plain: offer.transfer,
                metrics: offer.metrics,
                offer: None,
            }
        } else {
            Work::Delivering { global, offer }
        };
        self.offer();
    }

    /// Says that the update is there. One that is masked already is offered first: then the server knows that we still have the
    /// attempt's keys.
    pub(super) fn offer(&mut self) {
        self.offer_bytes();
        if let (Work::Summing { plain, metrics, .. }, Link::Up) = (&self.work, &self.link) {
            let (round, metrics) = (plain.round, *metrics);
            self.is_offered = true;
            self.actions
                .push_back(Action::Send(ToServer::Trained { round, metrics }));
        }
    }

    /// Offers the bytes that are to be sent, if there are any by now.
    pub(super) fn offer_bytes(&mut self) {
        let (
            Work::Delivering { offer, .. }
            | Work::Summing {
                offer: Some(offer), ..
            },
            Link::Up,
        ) = (&self.work, &self.link)
        else {
            return;
        };
        let Offer {
            transfer,
            weight,
            metrics,
        } = offer.clone();
        self.is_offered = true;
        self.requests.offered();
        self.actions.push_back(Action::Send(ToServer::Offer {
            transfer,
            weight,
            metrics,
        }));
    }

    /// Drops the round's work and what the owner keeps for it; an update on its way is taken back.
    pub(super) fn drop_work(&mut self) {
        self.drop_work_and(|transfer| Action::Withdraw { transfer });
    }

    /// Drops the round's work, and has `of_offered` done about the update that was offered.
    pub(super) fn drop_work_and(&mut self, of_offered: fn(TransferId) -> Action) {
        match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Idle | Work::Receiving { .. } | Work::Parting { .. } => {}
            Work::Training { global } => {
                self.actions.push_back(Action::StopTraining {
                    round: global.round,
                });
                self.actions.push_back(Action::Forget {
                    transfer: global.id,
                });
            }
            Work::Delivering { offer, .. } => {
                self.actions.push_back(of_offered(offer.transfer.id));
            }
            Work::Summing { plain, offer, .. } => {
                let masked = offer.map(|offer| of_offered(offer.transfer.id));
                self.actions.extend(masked);
                self.actions
                    .push_back(Action::Forget { transfer: plain.id });
            }
        }
        self.is_offered = false;
        self.member = None;
        self.last_attempt = 0;
    }
}
