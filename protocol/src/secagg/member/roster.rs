//! Who is in: a roster of certificates that hold, with us as ourselves in it.

use super::lists::enough;
use super::{Action, Group, Member, Stage, Unfit};
use crate::plan::SECURE_PARTICIPANTS_MAX;
use crate::secagg::Deceit;
use crate::secagg::context::Terms;
use crate::secagg::graph::Arrangement;
use crate::secagg::message::Piece;
use crate::secagg::roster::{Roster, RosterEntry, VerifiedMember};

impl Member {
    /// The certificates of [`Action::CheckRoster`] are those of these members, or one of them does not hold.
    ///
    /// A certificate that is out of its time by our clock or revoked by our list is no lie of the server's, whose clock or list may be
    /// another: we object to the member and take no part in this attempt.
    ///
    /// # Errors
    /// The [`Deceit`].
    pub fn roster_checked(
        &mut self,
        found: Result<Vec<VerifiedMember>, Unfit>,
    ) -> Result<(), Deceit> {
        if self.stage != Stage::Checking {
            return Ok(());
        }
        let what = "members";
        let members = match found {
            Ok(members) => members,
            Err(Unfit::Disputed { member }) => {
                self.object(member);
                return Ok(());
            }
            Err(Unfit::Deceit(deceit)) => return Err(deceit),
        };
        let participants = &self.setup.plan.cohort.participants;
        if let Some(stranger) = members.iter().find(|one| !participants.admits(&one.name)) {
            let name = stranger.name.clone();
            return Err(Deceit::Stranger { name });
        }
        let roster = Roster::new(members).ok_or(Deceit::List { what })?;
        let own = roster
            .id(&self.setup.name)
            .ok_or(Deceit::NotOurselves { what })?;
        let is_us = |member: &VerifiedMember| member.public_key == self.setup.public_key;
        if !roster.get(own).is_some_and(is_us) {
            return Err(Deceit::NotOurselves { what });
        }
        let arrangement = Arrangement::new(roster.len(), self.rules.trust);
        enough(what, roster.len() as usize, self.least(&arrangement))?;
        let context = Terms {
            plan: &self.setup.plan,
            attempt: self.attempt,
            model: self.setup.model,
            roster: &roster,
            arrangement,
        }
        .context();
        self.group = Some(Group {
            roster,
            arrangement,
            context,
            own,
        });
        self.stage = Stage::Advertising;
        self.actions.push_back(Action::Advertise { context, own });
        Ok(())
    }

    pub(super) fn take_roster(&mut self, part: Piece<RosterEntry>) -> Result<(), Deceit> {
        let what = "members";
        let limit = self
            .setup
            .plan
            .limits
            .participants_max
            .min(SECURE_PARTICIPANTS_MAX);
        let added = self.roster.add(part, limit);
        if let Some(entries) = added.map_err(|_| Deceit::List { what })? {
            self.stage = Stage::Checking;
            self.actions.push_back(Action::CheckRoster(entries));
        }
        Ok(())
    }
}
