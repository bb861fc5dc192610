//! Leaving a run so that its server knows: it closes the connection (`left`) once it has written down that nobody comes back.
//!
//! A connection that breaks before may have ended with a server that was killed, and whose next process would wait for us. So the
//! participant comes back to say it again, for as long as it takes a server to be started again, and ends either way.

use std::time::{Duration, Instant};

use super::link::Link;
use super::{Action, Outcome, Participant};
use crate::close::CloseCode;
use crate::message::ToServer;
use crate::text::Text;

/// For how long a participant that leaves comes back to say so: more than a supervisor takes to start a server again (`deploy/`), and
/// less than it gives a site to stop.
const FAREWELL_LIMIT: Duration = Duration::from_secs(45);

/// The longest pause between its attempts.
const FAREWELL_PAUSE: Duration = Duration::from_secs(2);

/// What is to be said, and for how long.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    reason: Text,
    until: Instant,
}

impl Participant {
    /// Leaves the run: training failed, or the site no longer wants to.
    pub fn leave(&mut self, reason: Text, now: Instant) {
        match self.link {
            Link::Over | Link::Ending { .. } => {}
            Link::Down { .. } | Link::Dialing if self.leaving.is_some() => {}
            Link::Down { .. } | Link::Dialing => self.end(Outcome::Left),
            Link::Greeting { .. } | Link::Deciding | Link::Up => {
                let until = now + FAREWELL_LIMIT;
                self.leaving = Some(Leaving { reason, until });
                self.say_leave(now);
            }
        }
    }

    /// Says that we leave, if we do.
    pub(super) fn say_leave(&mut self, now: Instant) {
        if let Some(Leaving { reason, .. }) = &self.leaving {
            let reason = reason.clone();
            self.actions
                .push_back(Action::Send(ToServer::Leave { reason }));
            self.part(Outcome::Left, now);
        }
    }

    /// Whether we leave, and the server may not have it on disk: the connection is lost, and was not closed by the server. One that is
    /// stopped in good order is often stopped together with its sites, which do not wait for it then.
    pub(super) fn is_unheard(&self, code: Option<CloseCode>, now: Instant) -> bool {
        code.is_none() && self.farewell_until().is_some_and(|until| now < until)
    }

    /// When to try again, if this is when one that stays would.
    pub(super) fn hurry(&self, retry_at: Instant, now: Instant) -> Instant {
        match &self.leaving {
            Some(_) => retry_at.min(now + FAREWELL_PAUSE),
            None => retry_at,
        }
    }

    /// Until when it is worth saying, if we leave.
    pub(super) fn farewell_until(&self) -> Option<Instant> {
        self.leaving.as_ref().map(|leaving| leaving.until)
    }
}
