//! Sealed shares: ours for our neighbours, and theirs for us.

use super::lists::{enough, shrinks};
use super::{Action, Member, Stage};
use crate::secagg::Deceit;
use crate::secagg::message::{ForServer, Piece, Sealed, SignedKeys};
use crate::secagg::parts::split;
use crate::secagg::roster::MemberId;

impl Member {
    /// The shares are split and sealed, those for others in the order of their numbers.
    pub fn shared(&mut self, sealed: &[Sealed]) {
        if self.stage == Stage::Sharing {
            for part in split(sealed) {
                self.say(Stage::AwaitingShares, ForServer::Shares(part));
            }
        }
    }

    pub(super) fn take_shares(&mut self, part: Piece<Sealed>) -> Result<(), Deceit> {
        let limit = u32::try_from(self.neighbours.len()).unwrap_or(u32::MAX);
        let added = self.share_list.add(part, limit);
        if let Some(shares) = added.map_err(|_| Deceit::Shares)?
            && self.shares.replace(shares).is_some()
        {
            return Err(Deceit::Shares);
        }
        Ok(())
    }

    pub(super) fn take_sharers(&mut self, members: Vec<MemberId>) -> Result<(), Deceit> {
        let what = "shares";
        let Some(group) = &self.group else {
            return Ok(());
        };
        let before: Vec<_> = self.keys.iter().map(|one| one.member).collect();
        shrinks(what, &members, &before)?;
        if !members.contains(&group.own) {
            return Err(Deceit::NotOurselves { what });
        }
        enough(what, members.len(), self.least(&group.arrangement))?;
        let near: Vec<_> = self.near(&members).collect();
        enough(what, near.len() + 1, group.arrangement.threshold() as usize)?;
        let shares = self.shares.take().ok_or(Deceit::Shares)?;
        if !shares.iter().map(|one| one.member).eq(near.iter().copied()) {
            return Err(Deceit::Shares);
        }
        let masking = |one: &SignedKeys| (one.member, one.keys.masking);
        let peers = self
            .keys
            .iter()
            .filter(|one| near.contains(&one.member))
            .map(masking)
            .collect();
        self.sharers = members;
        self.stage = Stage::Masking;
        self.actions.push_back(Action::Mask { shares, peers });
        Ok(())
    }
}
