//! What is known of a run before anything happens in it.

use std::time::SystemTime;

use protocol::plan::Participants;
use protocol::{Digest, ParticipantName, RunId};

use crate::start::Prepared;

/// The run, its plan, and what the configuration says of who takes part.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) run: RunId,
    pub(super) plan: Digest,
    pub(super) rounds: u32,
    pub(super) quorum: u32,
    /// The participants that the configuration names. Only these have lines of their own: strangers cannot make more.
    pub(super) named: Vec<ParticipantName>,
    pub(super) expires: SystemTime,
    pub(super) revocations_due: Option<SystemTime>,
}

impl Facts {
    pub(super) fn of(prepared: &Prepared) -> Self {
        let plan = &prepared.plan;
        Self {
            run: plan.run.clone(),
            plan: plan.digest(),
            rounds: plan.rounds,
            quorum: plan.cohort.quorum,
            named: match &plan.cohort.participants {
                Participants::Any => Vec::new(),
                Participants::Named(names) => names.clone(),
            },
            expires: prepared.tls.expires(),
            revocations_due: prepared.tls.revocations_due(),
        }
    }
}
