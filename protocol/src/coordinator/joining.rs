//! Joining and going: from a new connection to a participant that is ready, that declines the plan or that leaves; the plan under a
//! renewed seal; and the start of the run.

use std::time::Instant;

use super::connection::punishment;
use super::quorum::has_quorum_joined;
use super::roster::Stage;
use super::round::OpenRound;
use super::{Coordinator, Entry, Phase, Report, SetupError};
use crate::close::{CloseCode, RunFailure};
use crate::ids::{ConnectionId, Digest, ParticipantName, Round};
use crate::message::{Beginning, HOLDS_MAX, PROTOCOL_VERSION, ToClient};
use crate::plan::{Participants, SignedPlan};
use crate::text::Text;
use crate::violation::{Breach, Violation};

impl Coordinator {
    /// Why this participant may not connect, if so, and the rule that it broke.
    pub(super) fn refusal_to_connect(
        &mut self,
        name: &ParticipantName,
        now: Instant,
    ) -> Option<(CloseCode, Option<Violation>)> {
        if let Phase::Over { code } = self.phase {
            return Some((code, None));
        }
        if let Err(breach) = self.accounts.connect(name, now) {
            let (code, violation) = punishment(breach);
            return Some((code, Some(violation)));
        }
        if !self.plan.cohort.participants.admits(name) {
            return Some((CloseCode::NotInCohort, None));
        }
        let others = self
            .roster
            .links()
            .filter(|&(other, _)| other != name)
            .count();
        let room =
            u32::try_from(others).is_ok_and(|others| others < self.plan.limits.participants_max);
        (!room).then_some((CloseCode::Full, None))
    }

    /// Shows the plan under another seal from now on: the server's key was renewed.
    ///
    /// # Errors
    /// [`SetupError::OtherPlanSigned`] if it is not this run's plan.
    pub fn show_plan(&mut self, signed: SignedPlan) -> Result<(), SetupError> {
        if signed.plan != self.plan.bytes() {
            return Err(SetupError::OtherPlanSigned);
        }
        self.signed = signed;
        Ok(())
    }

    pub(super) fn take_hello(
        &mut self,
        connection: ConnectionId,
        version: u32,
        software: Text,
        now: Instant,
    ) -> Result<(), Breach> {
        let Some(link) = self.roster.link_mut(connection) else {
            return Ok(());
        };
        if link.stage != Stage::Greeting {
            return Err(Breach::Unexpected {
                message: "Hello",
                state: link.stage.label(),
            });
        }
        if version != PROTOCOL_VERSION {
            return Err(Breach::Version {
                found: version,
                expected: PROTOCOL_VERSION,
            });
        }
        link.stage = Stage::Deciding;
        link.moved_at = now;
        link.software = software;
        let welcome = ToClient::Welcome {
            version: PROTOCOL_VERSION,
            software: self.software.clone(),
            plan: self.signed.clone(),
        };
        self.send(connection, welcome);
        Ok(())
    }

    pub(super) fn take_ready(
        &mut self,
        connection: ConnectionId,
        name: &ParticipantName,
        (holds, begun, recorded): (Vec<Digest>, Vec<Beginning>, Round),
        now: Instant,
    ) -> Result<(), Breach> {
        let Some(link) = self.roster.link_mut(connection) else {
            return Ok(());
        };
        if link.stage != Stage::Deciding {
            return Err(Breach::Unexpected {
                message: "Ready",
                state: link.stage.label(),
            });
        }
        let found = holds.len().max(begun.len());
        if HOLDS_MAX < found {
            return Err(Breach::TooMany {
                message: "Ready",
                found,
                limit: HOLDS_MAX,
            });
        }
        let whole = self.plan.encoded_bytes();
        let whole = begun.iter().filter(|begun| begun.bytes == whole);
        link.bases = whole.map(|begun| begun.sha256).collect();
        let lacks_anchor = self.anchor.filter(|anchor| !holds.contains(&anchor.sha256));
        link.stage = Stage::Ready { holds, recorded };
        link.begun = begun;
        link.moved_at = now;
        let software = link.software.clone();
        self.returning.remove(name);
        if self.joined.insert(name.clone()) {
            self.record(Entry::Joined {
                participant: name.clone(),
            });
        }
        self.report(Report::Joined {
            participant: name.clone(),
            software,
        });
        if let Some(header) = lacks_anchor {
            let header = self.charge_transfer(connection, header, now)?;
            self.send_transfer(connection, header);
        }
        self.bring_up_to_date(name, now);
        Ok(())
    }

    pub(super) fn take_decline(
        &mut self,
        connection: ConnectionId,
        name: &ParticipantName,
        reason: Text,
    ) -> Result<(), Breach> {
        let stage = self.roster.link(name).map(|link| link.stage.clone());
        if stage != Some(Stage::Deciding) {
            let state = stage.map_or("disconnected", |stage| stage.label());
            return Err(Breach::Unexpected {
                message: "Decline",
                state,
            });
        }
        self.report(Report::Declined {
            participant: name.clone(),
            reason,
        });
        self.roster.withdraw(name);
        self.part(name);
        self.close(connection, CloseCode::Declined, None);
        Ok(())
    }

    pub(super) fn take_leave(
        &mut self,
        connection: ConnectionId,
        name: &ParticipantName,
        reason: Text,
    ) {
        self.report(Report::Left {
            participant: name.clone(),
            reason,
        });
        self.roster.withdraw(name);
        self.part(name);
        self.close(connection, CloseCode::Left, None);
    }

    /// Opens the first round if its cohort is there, or gives up.
    pub(super) fn settle_joining(&mut self, since: Instant, now: Instant) {
        let cohort = &self.plan.cohort;
        let quorum = cohort.quorum;
        let in_time = now < since + cohort.join_deadline;
        if has_quorum_joined(cohort, &self.roster) && (!in_time || self.is_cohort_complete()) {
            self.open(OpenRound::new(Round::FIRST, now), now);
        } else if self.most_possible(|name| self.roster.is_withdrawn(name)) < u64::from(quorum) {
            let detail =
                format!("the quorum is {quorum} and fewer of the named participants are left");
            self.fail(RunFailure::QuorumOutOfReach, Text::new(&detail));
        } else if since + cohort.hard_deadline <= now {
            let ready = self.roster.all_ready().count();
            let detail = format!(
                "{ready} joined within {:?}, the quorum is {quorum}",
                cohort.hard_deadline
            );
            self.fail(RunFailure::TooFewJoined, Text::new(&detail));
        }
    }

    /// Whether nobody is left to wait for: all named participants are ready or declined, or the run is full.
    fn is_cohort_complete(&self) -> bool {
        match &self.plan.cohort.participants {
            Participants::Named(names) => names
                .iter()
                .all(|name| self.roster.ready(name).is_some() || self.roster.is_withdrawn(name)),
            Participants::Any => {
                let ready = u32::try_from(self.roster.all_ready().count()).unwrap_or(u32::MAX);
                self.plan.limits.participants_max <= ready
            }
        }
    }
}
