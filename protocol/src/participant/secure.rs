//! The participant's part in a round with secure aggregation: from a finished update to the attempts that sum it.

use super::work::{Offer, Work};
use super::{Action, Participant};
use crate::message::{Content, ToServer, TransferHeader};
use crate::secagg::{self, AttemptId, Deceit, Earlier, ForMember, Member, MemberSetup, Verify};
use crate::violation::Breach;

/// What it takes to take part in secure aggregation.
#[derive(Clone, Debug)]
pub struct SecureSetup {
    /// The Ed25519 key of our certificate.
    pub public_key: [u8; 32],
    /// Checks signatures.
    pub verify: Verify,
}

/// Attempts of one round that a participant takes part in. An honest server gives up after eight that failed; those that end with its
/// own process are none of these, and a round is not worth more restarts than this leaves. Without a bound a server could have a site
/// say new keys and shares without end.
const ATTEMPTS_MAX: u32 = 64;

/// Masked updates all count alike for the coordinator: their weights are under the mask.
const MASKED_WEIGHT: u64 = 1;

impl Participant {
    /// Takes up which sum of the run an earlier process helped to open last. To be called before its plan is accepted.
    pub fn recall(&mut self, earlier: Option<Earlier>) {
        self.earlier = earlier;
    }

    /// Answers an [`Action::Secure`]; nothing happens if that attempt is over.
    pub fn in_attempt(
        &mut self,
        attempt: AttemptId,
        answer: impl FnOnce(&mut Member) -> Result<(), Deceit>,
    ) {
        let Some(member) = self
            .member
            .as_mut()
            .filter(|member| member.attempt() == attempt)
        else {
            return;
        };
        match answer(member) {
            Ok(()) => self.pass_on(),
            Err(deceit) => self.accuse(Breach::Deceit(deceit)),
        }
    }

    /// The update is masked for this attempt. Returns the header under which the owner keeps the masked bytes until they are to be
    /// forgotten; `None` if the attempt is over.
    pub fn masked(&mut self, attempt: AttemptId, update: Content) -> Option<TransferHeader> {
        let member = self
            .member
            .as_mut()
            .filter(|member| member.attempt() == attempt)?;
        let (Work::Summing { offer, metrics, .. }, Some(plan)) = (&mut self.work, &self.plan)
        else {
            return None;
        };
        member.masked();
        let transfer = TransferHeader::update(&self.name, attempt.round, plan.digest(), update);
        *offer = Some(Offer {
            transfer,
            weight: MASKED_WEIGHT,
            metrics: *metrics,
        });
        self.offer_bytes();
        Some(transfer)
    }

    pub(super) fn take_secure(
        &mut self,
        attempt: AttemptId,
        message: ForMember,
    ) -> Result<(), Breach> {
        let under_way = self.member.as_ref().map(Member::attempt);
        if under_way != Some(attempt) {
            // What is said in an attempt that has ended is of no use to anybody.
            if !matches!(message, ForMember::Roster(_)) || !self.begin_attempt(attempt)? {
                return Ok(());
            }
        }
        let is_over = matches!(message, ForMember::Abandoned { .. });
        if let Some(member) = &mut self.member {
            member.handle_message(message).map_err(Breach::Deceit)?;
        }
        self.pass_on();
        if is_over {
            self.end_attempt();
        }
        Ok(())
    }

    /// Enters a new attempt, if our update waits for one.
    fn begin_attempt(&mut self, attempt: AttemptId) -> Result<bool, Breach> {
        let (Work::Summing { global, plain, .. }, Some(plan), Some(secure)) =
            (&self.work, &self.plan, &self.secure)
        else {
            return Ok(false);
        };
        if plain.round != attempt.round {
            return Ok(false);
        }
        if attempt.number <= self.last_attempt {
            let (found, last) = (attempt.number, self.last_attempt);
            return Err(Breach::Deceit(Deceit::Replayed { found, last }));
        }
        if ATTEMPTS_MAX < attempt.number {
            let (found, most) = (attempt.number, ATTEMPTS_MAX);
            return Err(Breach::Deceit(Deceit::TooMany { found, most }));
        }
        let setup = MemberSetup {
            name: self.name.clone(),
            public_key: secure.public_key,
            plan: plan.clone(),
            model: *global,
            earlier: self.earlier.clone(),
            verify: secure.verify,
        };
        self.end_attempt();
        self.last_attempt = attempt.number;
        self.member = Member::new(setup, attempt);
        Ok(self.member.is_some())
    }

    /// Forgets the attempt, and the masked update with it, which is of no use in another.
    fn end_attempt(&mut self) {
        self.member = None;
        if let Work::Summing { offer, .. } = &mut self.work
            && let Some(offer) = offer.take()
        {
            self.actions.push_back(Action::Withdraw {
                transfer: offer.transfer.id,
            });
        }
    }

    /// Hands on what the attempt wants done.
    fn pass_on(&mut self) {
        let Some(member) = &mut self.member else {
            return;
        };
        let attempt = member.attempt();
        while let Some(action) = member.poll_action() {
            if let secagg::Action::Record(earlier) = &action {
                self.earlier = Some(earlier.clone());
            }
            self.actions.push_back(match action {
                secagg::Action::Send(message) => {
                    Action::Send(ToServer::Secure { attempt, message })
                }
                action => Action::Secure { attempt, action },
            });
        }
    }
}
