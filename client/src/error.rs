//! How a federated run can end without an adapter.

use std::{fmt, path::PathBuf};

use aggregation::{AdapterError, ewc::AnchorError};
use finetune::{
    data::DataError,
    privacy::noise::NoRandomness,
    train::{CheckpointError, TrainError},
};
use protocol::{
    Misuse, Round, Text, Violation,
    close::{CloseCode, RunFailure},
    identity::Identity,
    quic::{HandshakeError, MaterialError, Rejection},
};

use crate::{
    adapter_folder::FolderError, evidence::EvidenceError, ledger::LedgerError, policy::Refusal,
    privacy::BudgetError, state::StateError, terms::Objection,
};

/// With whom, and how far the run had come, when something was found: what an operator is told beside the finding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scene {
    /// The server by its certificate and as it is configured.
    pub server: String,
    /// The last round that it had named; 0 before the first.
    pub round: Round,
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, round } = self;
        match round {
            Round(0) => write!(f, "it was {server}, before the first round"),
            round => write!(f, "it was {server}, in round {round}"),
        }
    }
}

/// A federated run that ended without an adapter, and who has to act.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Our certificate, key or authority cannot be used.
    #[error(transparent)]
    Tls(#[from] MaterialError),
    /// The configured certificate is not a participant's.
    #[error("[tls]: the certificate is that of {identity}; a client needs a participant's")]
    NoParticipant {
        /// Whose it is.
        identity: Identity,
    },
    /// Our own certificate would be refused by every server.
    #[error("[tls]: servers would refuse our own certificate: {0}")]
    Certificate(Rejection),
    /// The server and we do not accept each other; waiting does not help.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The server could not be reached for too long.
    #[error("the server {server} cannot be reached: {last}; try again later")]
    ServerAway {
        /// The server as "host:port".
        server: String,
        /// What the last attempt ended with.
        last: String,
    },
    /// The server closed the connection for good.
    #[error("the server ended our part in the run: {code}")]
    Closed {
        /// Its reason.
        code: CloseCode,
    },
    /// The server ended the run without an adapter.
    #[error("the run failed: {reason} ({detail})")]
    RunFailed {
        /// Its reason.
        reason: RunFailure,
        /// The same with its numbers.
        detail: Text,
    },
    /// The server broke the protocol; its plan's signature counts as that too.
    #[error("{violation}; {scene}")]
    Violation {
        /// The finding.
        violation: Box<Violation>,
        /// Where it was found.
        scene: Scene,
    },
    /// What the server put on record is not what it acknowledged, or not what it showed before.
    #[error(
        "{violation}; {scene}; what this site saw of the transcript is kept in {}; remove that file only if the run was begun anew on purpose",
        evidence.display()
    )]
    Transcript {
        /// The finding.
        violation: Box<Violation>,
        /// Where it was found.
        scene: Scene,
        /// What we keep of the transcript.
        evidence: PathBuf,
    },
    /// What this site keeps of the transcript cannot be read or written.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// We declined the run plan.
    #[error("the run plan was declined: {0}")]
    Declined(#[from] Objection),
    /// The plan or the server is outside the site's policy.
    #[error("outside this site's policy: {0}")]
    Policy(Refusal),
    /// The training text cannot be used, so the plan was declined.
    #[error("the run plan was declined because the training text cannot be used: {0}")]
    Data(#[from] DataError),
    /// An example is longer than the plan allows.
    #[error(
        "the run plan was declined because {source_name} has an example of {found} tokens, but the plan allows {limit}"
    )]
    LongExample {
        /// Where the data set came from.
        source_name: String,
        /// Tokens of its longest example.
        found: usize,
        /// The plan's limit.
        limit: usize,
    },
    /// The training failed, so we left the run.
    #[error("training failed, so this site left the run: {0}")]
    Training(#[from] TrainError),
    /// The training ended in values that no update can have.
    #[error(
        "training diverged in round {round}, by its step {last_step}: {source}; nothing was sent and this site left the run. Look at the \
         training text for records that do not belong there, and ask the plan's author for a lower learning rate"
    )]
    Diverged {
        /// The round.
        round: Round,
        /// The last step of the run that was taken, from 0.
        last_step: u64,
        /// Which value.
        source: AdapterError,
    },
    /// What the plan asks for would cost this site's records too much, or the account cannot be kept.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// What was spent on the data before leaves too little for a training.
    #[error(
        "what {} counts as spent leaves so little of epsilon {epsilon} that these steps need noise {noise:.2} instead of {unspent:.2}: next to \
         nothing would be learnt (E_DP_BUDGET). Allow a larger epsilon, take fewer steps, or give the noise if that much is meant",
        ledger.display()
    )]
    Spent {
        /// The privacy ledger.
        ledger: PathBuf,
        /// The budget over the lifetime of the data.
        epsilon: f64,
        /// The noise multiplier that keeps within it.
        noise: f64,
        /// The one that would if nothing was spent.
        unspent: f64,
    },
    /// No noise can be drawn.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The state that an earlier process left is of another training.
    #[error(
        "the state of an earlier process cannot be used: {0}; remove the file that `state` names to train the round again"
    )]
    Checkpoint(#[from] CheckpointError),
    /// The site's state cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The final adapter cannot be written. It is sent again to a client that comes back while the server is there.
    #[error("the final adapter cannot be kept: {0}; the server still has it")]
    Folder(#[from] FolderError),
    /// What the server sent as an adapter is none.
    #[error("the server's adapter for {when} cannot be used: {source}; {scene}")]
    ServerAdapter {
        /// Which one.
        when: String,
        /// Why.
        source: AdapterError,
        /// Who sent it.
        scene: Scene,
    },
    /// What a site made is no adapter.
    #[error("what this site made for {when} cannot be used: {source}")]
    Adapter {
        /// What it was to be.
        when: String,
        /// Why.
        source: AdapterError,
    },
    /// What rounding cut off of an earlier process's update, kept in the site's state, is no adapter.
    #[error(
        "what rounding cut off of the last update cannot be used: {0}; remove the file that `state` names to go on without it"
    )]
    LeftOver(AdapterError),
    /// What the server sent as the anchor is none.
    #[error("the server's anchor cannot be used: {0}")]
    Anchor(#[from] AnchorError),
    /// The egress ledger cannot be written, so nothing leaves.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// We were asked to stop, and left the run.
    #[error("stopped on request before the run was over")]
    Stopped,
    /// A fault of this program.
    #[error("a fault of this program: {what}")]
    Internal {
        /// What happened.
        what: String,
    },
}

impl ClientError {
    /// Whether the same attempt may succeed later without anybody changing anything here.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::ServerAway { .. } | Self::Stopped => true,
            Self::Handshake(error) => error.is_temporary(),
            Self::Closed { code } => code.is_temporary(),
            Self::RunFailed { reason, .. } => reason.is_temporary(),
            Self::Policy(refusal) => refusal.is_temporary(),
            Self::Tls(_)
            | Self::NoParticipant { .. }
            | Self::Certificate(_)
            | Self::Violation { .. }
            | Self::Transcript { .. }
            | Self::Evidence(_)
            | Self::Declined(_)
            | Self::Data(_)
            | Self::LongExample { .. }
            | Self::Training(_)
            | Self::Diverged { .. }
            | Self::Budget(_)
            | Self::Spent { .. }
            | Self::NoRandomness(_)
            | Self::Checkpoint(_)
            | Self::State(_)
            | Self::Folder(_)
            | Self::ServerAdapter { .. }
            | Self::Adapter { .. }
            | Self::LeftOver(_)
            | Self::Anchor(_)
            | Self::Ledger(_)
            | Self::Internal { .. } => false,
        }
    }
}

impl From<Refusal> for ClientError {
    fn from(refusal: Refusal) -> Self {
        Self::Policy(refusal)
    }
}

impl From<Misuse> for ClientError {
    fn from(misuse: Misuse) -> Self {
        Self::Internal {
            what: misuse.to_string(),
        }
    }
}
