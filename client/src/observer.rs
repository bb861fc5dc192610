//! What a participant lets its surroundings know while it runs: for progress bars, logs and the simulator's report.
//!
//! Nothing here leaves the site; what does is `protocol::message::ToServer`.

use finetune::train::StepReport;
use protocol::{Round, close::RefusalReason, identity::Identity, plan::RunPlan};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A connection is being made.
    Connecting {
        /// The server as "host:port".
        server: String,
    },
    /// The server has proved who it is and admitted us.
    Connected {
        /// The server's identity, as its certificate states it.
        server: String,
    },
    /// The connection broke or could not be made.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// Our certificate or the revocations were replaced: the certificate is used from the next connection on, the revocations at once.
    IdentityReloaded {
        /// The serial number of our certificate, in hexadecimal.
        serial: String,
    },
    /// The files of our identity were replaced, and cannot be used; the ones from before stay.
    IdentityKept {
        /// Why.
        reason: String,
    },
    /// A certificate ends soon: ours, or the server's.
    Expiring {
        /// Whose.
        identity: Identity,
        /// Whole days that are left.
        days: u64,
    },
    /// Another connection is tried after a pause.
    Reconnecting {
        /// Attempts since the server was last heard.
        attempt: u32,
    },
    /// The server's plan was checked and agreed to.
    Plan {
        /// The plan.
        plan: Box<RunPlan>,
    },
    /// A round's global adapter is here; the training waits for the device.
    Waiting {
        /// The round.
        round: Round,
    },
    /// An optimizer step was done.
    Step {
        /// The round.
        round: Round,
        /// The step.
        report: StepReport,
    },
    /// The round's update is computed.
    Trained {
        /// What was done.
        done: RoundDone,
    },
    /// Bytes of the update are on their way.
    Uploading {
        /// The round.
        round: Round,
        /// Bytes handed to the network so far.
        sent: u64,
        /// Bytes of the update.
        bytes: u64,
    },
    /// The update is counted.
    Accepted {
        /// The round.
        round: Round,
    },
    /// The round goes on without our update.
    Refused {
        /// The round.
        round: Round,
        /// Why.
        reason: RefusalReason,
    },
    /// The round went on without our update, which may still count in a later one.
    Postponed {
        /// The round that it is for.
        round: Round,
        /// The last round in which it may count.
        until: Round,
    },
    /// The run went on to another round before we heard what became of our update.
    Unanswered {
        /// The round that it was for.
        round: Round,
    },
    /// The run is over and the final adapter here.
    Finished {
        /// Rounds done.
        rounds: u32,
    },
}

/// One round's training.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundDone {
    /// The round.
    pub round: Round,
    /// Examples used: the update's weight.
    pub weight: u64,
    /// Mean training loss in nats per response token.
    pub train_loss: f64,
    /// Optimizer steps.
    pub steps: u64,
    /// Norm of the update.
    pub update_norm: f64,
    /// What rounding to blocks of int8 cut off, relative to the norm of what was to be sent; nothing in other encodings.
    pub rounding: Option<f64>,
}

/// Hears of everything that happens, in order.
///
/// Called from the driver and from the training thread: it must return quickly.
pub trait Observer: Send + Sync {
    /// Hears of one event.
    fn observe(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn observe(&self, event: &Event) {
        self(event);
    }
}

/// An observer that does not care.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn observe(&self, _event: &Event) {}
}
