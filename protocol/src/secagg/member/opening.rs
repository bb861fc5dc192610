//! Whose vectors are in the sum, signed by all before anything is revealed; then what opens it, once.

use super::lists::{enough, shrinks};
use super::{Action, Earlier, Group, Member, Stage};
use crate::secagg::Deceit;
use crate::secagg::message::{Confirmation, ForServer, Piece, Share};
use crate::secagg::parts::split;
use crate::secagg::roster::MemberId;
use crate::secagg::statement;

impl Member {
    /// The signature of [`Action::Confirm`].
    pub fn confirmed(&mut self, signature: Vec<u8>) {
        if self.stage == Stage::Confirming {
            self.say(
                Stage::AwaitingConfirmations,
                ForServer::Confirmation { signature },
            );
        }
    }

    pub(super) fn take_delivered(&mut self, members: Vec<MemberId>) -> Result<(), Deceit> {
        let what = "delivered vectors";
        let Some(group) = &self.group else {
            return Ok(());
        };
        shrinks(what, &members, &self.sharers)?;
        if !members.contains(&group.own) {
            return Err(Deceit::NotOurselves { what });
        }
        enough(what, members.len(), self.least(&group.arrangement))?;
        let near = self.near(&members).count() + 1;
        enough(what, near, group.arrangement.threshold() as usize)?;
        let names: Vec<_> = members.iter().map(|&one| group.roster.name(one)).collect();
        let same_run = |earlier: &&Earlier| earlier.plan == self.setup.plan.digest();
        if let Some(earlier) = self.setup.earlier.as_ref().filter(same_run) {
            let (before, now) = (earlier.attempt.round, self.attempt.round);
            if now < before || now == before && earlier.delivered != names {
                return Err(Deceit::OtherSet);
            }
        }
        let lists = (self.sharers.as_slice(), members.as_slice());
        let statement = statement::of_delivery(&group.context, &self.keys_digest, group.own, lists);
        self.delivered = members;
        self.stage = Stage::Confirming;
        self.actions.push_back(Action::Confirm { statement });
        Ok(())
    }

    pub(super) fn take_confirmations(&mut self, part: Piece<Confirmation>) -> Result<(), Deceit> {
        let what = "confirmations";
        let limit = u32::try_from(self.delivered.len()).unwrap_or(u32::MAX);
        let added = self.confirmation_list.add(part, limit);
        let (Some(list), Some(group)) = (added.map_err(|_| Deceit::List { what })?, &self.group)
        else {
            return Ok(());
        };
        let members: Vec<_> = list.iter().map(|one| one.member).collect();
        shrinks(what, &members, &self.delivered)?;
        let counts =
            |one: &&Confirmation| one.member == group.own || self.neighbours.contains(&one.member);
        let found = list
            .iter()
            .filter(counts)
            .filter(|one| self.holds(group, one))
            .count();
        let least = group.arrangement.threshold() as usize;
        if found < least {
            return Err(Deceit::SplitView { found, least });
        }
        let names = self
            .delivered
            .iter()
            .map(|&one| group.roster.name(one))
            .collect();
        let earlier = Earlier {
            plan: self.setup.plan.digest(),
            attempt: self.attempt,
            delivered: names,
        };
        let mut delivered: Vec<_> = self.near(&self.delivered).chain([group.own]).collect();
        delivered.sort_unstable();
        let is_gone = |one: &MemberId| !self.delivered.contains(one);
        let dropped = self.near(&self.sharers).filter(is_gone).collect();
        self.stage = Stage::Revealing;
        self.actions.push_back(Action::Record(earlier));
        self.actions
            .push_back(Action::Reveal { delivered, dropped });
        Ok(())
    }

    /// Whether a member confirmed the very lists that we were given.
    fn holds(&self, group: &Group, one: &Confirmation) -> bool {
        let lists = (self.sharers.as_slice(), self.delivered.as_slice());
        let said = statement::of_delivery(&group.context, &self.keys_digest, one.member, lists);
        let signer = group.roster.get(one.member);
        signer.is_some_and(|member| (self.setup.verify)(&member.public_key, &said, &one.signature))
    }

    /// The shares of [`Action::Reveal`]. Nothing more is said in this attempt.
    pub fn revealed(&mut self, mut shares: Vec<Share>) {
        if self.stage == Stage::Revealing {
            shares.sort_by_key(|share| share.of);
            for part in split(&shares) {
                self.say(Stage::Over, ForServer::Reveal(part));
            }
        }
    }
}
