//! Connecting, agreeing on the plan, and coming back.

use std::time::Instant;

use super::link::{Link, WELCOME_LIMIT};
use super::requests::Requests;
use super::{Action, AnchorCopy, Outcome, Participant, Report, Work};
use crate::close::CloseCode;
use crate::ids::Digest;
use crate::message::{Beginning, HOLDS_MAX, PROTOCOL_VERSION, ToServer};
use crate::plan::{CheckedPlan, SignedPlan, SignedPlanError};
use crate::text::Text;
use crate::transcript::Witness;
use crate::violation::{Breach, Misuse};

impl Participant {
    // What happened.

    /// The connection asked for by [`Action::Connect`] is open.
    pub fn handle_connected(&mut self, now: Instant) {
        if self.link == Link::Dialing {
            self.link = Link::Greeting { since: now };
            self.actions.push_back(Action::Send(self.hello.clone()));
            self.say_leave(now);
        }
    }

    /// The connection asked for by [`Action::Connect`] could not be opened.
    pub fn handle_connect_failed(&mut self, now: Instant) {
        if self.link == Link::Dialing {
            self.back_off(now);
        }
    }

    /// The connection is gone, closed by the server with this code or lost.
    pub fn handle_disconnected(&mut self, code: Option<CloseCode>, now: Instant) {
        match &self.link {
            Link::Down { .. } | Link::Over => {}
            Link::Ending { .. } if self.is_unheard(code, now) => self.back_off(now),
            Link::Ending { outcome, .. } => {
                let outcome = outcome.clone();
                self.end(outcome);
            }
            Link::Dialing | Link::Greeting { .. } => self.retry_or_end(code, now),
            Link::Deciding | Link::Up => {
                self.redial.lost(now);
                self.retry_or_end(code, now);
            }
        }
    }

    /// What arrived on the control stream is no message, or a bulk stream is not what its header says: the server's fault.
    pub fn handle_malformed(&mut self, what: String, now: Instant) {
        match self.link {
            Link::Over | Link::Down { .. } => {}
            // All was said and heard: what comes of the run is known.
            Link::Ending { .. } => {
                self.actions.push_back(Action::Close(CloseCode::Malformed));
                self.handle_disconnected(Some(CloseCode::Malformed), now);
            }
            Link::Dialing | Link::Greeting { .. } | Link::Deciding | Link::Up => {
                self.accuse(Breach::Malformed { what });
            }
        }
    }

    /// The instant of [`Participant::poll_timeout`] has come, or any other.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_away = matches!(
            self.link,
            Link::Down { .. } | Link::Dialing | Link::Greeting { .. }
        );
        if is_away && self.farewell_until().is_some_and(|until| until <= now) {
            self.actions.push_back(Action::Close(CloseCode::Left));
            return self.end(Outcome::Left);
        }
        if is_away && self.redial.give_up_at() <= now {
            self.actions.push_back(Action::Close(CloseCode::Silent));
            self.end(Outcome::ServerAway);
            return;
        }
        match &self.link {
            Link::Down { retry_at } if *retry_at <= now => {
                self.link = Link::Dialing;
                self.actions.push_back(Action::Connect);
            }
            Link::Greeting { since } if *since + WELCOME_LIMIT <= now => {
                self.actions.push_back(Action::Close(CloseCode::Silent));
                self.back_off(now);
            }
            Link::Ending { outcome, until } if *until <= now => {
                let outcome = outcome.clone();
                self.actions.push_back(Action::Close(CloseCode::Left));
                self.end(outcome);
            }
            _ => {}
        }
    }

    // What the owner wants.

    /// Says of which transfers from the server the first bytes are here, so that the next connection goes on behind them.
    ///
    /// To be called before each connection; [`HOLDS_MAX`] are told at most.
    pub fn transfers_kept(&mut self, mut begun: Vec<Beginning>) {
        begun.truncate(HOLDS_MAX);
        self.begun = begun;
    }

    /// Agrees to the plan of [`Action::CheckPlan`]. `witness` remembers what earlier processes kept of the run.
    ///
    /// # Errors
    /// [`Misuse`] if no plan is being checked, or another one.
    pub fn accept_plan(
        &mut self,
        plan: CheckedPlan,
        anchor: AnchorCopy,
        witness: Witness,
    ) -> Result<(), Misuse> {
        if self.proposed != Some(plan.digest()) || witness.plan() != plan.digest() {
            return Err(Misuse {
                verb: "accept_plan",
                state: self.state(),
            });
        }
        self.proposed = None;
        self.anchor = anchor;
        self.plan = Some(plan);
        self.witness = Some(witness);
        // If the connection was lost meanwhile, Ready is said on the next one.
        if self.link == Link::Deciding {
            self.say_ready();
        }
        Ok(())
    }

    /// Declines the plan of [`Action::CheckPlan`], with a reason that may leave the site.
    ///
    /// # Errors
    /// [`Misuse`] if no plan is being checked.
    pub fn decline(&mut self, reason: Text, now: Instant) -> Result<(), Misuse> {
        let plan = self.proposed.take().ok_or_else(|| Misuse {
            verb: "decline",
            state: self.state(),
        })?;
        if self.link == Link::Deciding {
            self.actions
                .push_back(Action::Send(ToServer::Decline { plan, reason }));
            self.part(Outcome::Declined, now);
        } else {
            self.end(Outcome::Declined);
        }
        Ok(())
    }

    /// The plan of [`Action::CheckPlan`] is not signed by the server or makes no sense.
    ///
    /// # Errors
    /// [`Misuse`] if no plan is being checked.
    pub fn refuse_plan(&mut self, error: SignedPlanError) -> Result<(), Misuse> {
        self.proposed.take().ok_or_else(|| Misuse {
            verb: "refuse_plan",
            state: self.state(),
        })?;
        self.accuse(Breach::BadPlan(error));
        Ok(())
    }

    // Inside.

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let give_up_at = self.redial.give_up_at();
        let give_up_at = give_up_at.min(self.farewell_until().unwrap_or(give_up_at));
        match &self.link {
            Link::Down { retry_at } => Some(give_up_at.min(*retry_at)),
            Link::Dialing => Some(give_up_at),
            Link::Greeting { since } => Some(give_up_at.min(*since + WELCOME_LIMIT)),
            Link::Ending { until, .. } => Some(*until),
            Link::Deciding | Link::Up | Link::Over => None,
        }
    }

    pub(super) fn take_welcome(
        &mut self,
        version: u32,
        signed: SignedPlan,
        now: Instant,
    ) -> Result<(), Breach> {
        if version != PROTOCOL_VERSION {
            return Err(Breach::Version {
                found: version,
                expected: PROTOCOL_VERSION,
            });
        }
        self.redial.heard(now);
        let digest = Digest::of(&signed.plan);
        match &self.plan {
            Some(plan) if plan.digest() == digest => self.say_ready(),
            Some(_) => return Err(Breach::WrongPlan { message: "Welcome" }),
            None if self.proposed == Some(digest) => self.link = Link::Deciding,
            None if self.proposed.is_some() => {
                return Err(Breach::WrongPlan { message: "Welcome" });
            }
            None => {
                self.link = Link::Deciding;
                self.proposed = Some(digest);
                self.actions.push_back(Action::CheckPlan(signed));
            }
        }
        Ok(())
    }

    fn say_ready(&mut self) {
        let Some(plan) = &self.plan else {
            return;
        };
        let spooled = self
            .spooled
            .as_ref()
            .filter(|spooled| spooled.plan == plan.digest());
        let anchor = plan
            .ewc
            .as_ref()
            .map(|ewc| ewc.anchor)
            .filter(|_| self.anchor == AnchorCopy::Held);
        let global = self
            .work
            .holds_global()
            .or_else(|| spooled.map(|spooled| spooled.global));
        let holds = anchor.into_iter().chain(global).collect();
        self.actions.push_back(Action::Send(ToServer::Ready {
            plan: plan.digest(),
            holds,
            begun: std::mem::take(&mut self.begun),
            recorded: self.recorded(),
        }));
        self.link = Link::Up;
        self.is_offered = false;
        self.requests = Requests::default();
        self.useless_delta = None;
    }

    /// Tries again unless the server's code says that this is pointless.
    fn retry_or_end(&mut self, code: Option<CloseCode>, now: Instant) {
        match code {
            Some(code) if code == CloseCode::RunFailed || !code.is_temporary() => {
                self.end(Outcome::Closed(code))
            }
            _ => self.back_off(now),
        }
    }

    fn back_off(&mut self, now: Instant) {
        // Bytes that arrived but were not yet asked for belong to the connection that is gone: a server that
        // still wants them used sends them again.
        if let Some(arrived) = self.arrived.take() {
            self.actions.push_back(Action::Forget {
                transfer: arrived.id,
            });
        }
        if matches!(self.work, Work::Parting { .. }) {
            self.work = Work::Idle;
        }
        let retry_at = self.redial.next_attempt(now);
        let retry_at = self.hurry(retry_at, now);
        self.link = Link::Down { retry_at };
        self.actions.push_back(Action::Report(Report::Reconnecting {
            attempt: self.redial.attempts(),
        }));
    }
}
