//! Errors of the conversation, by the guilty party: the peer broke the rules, or our own caller did.

use crate::close::CloseCode;
use crate::ids::Round;
use crate::plan::SignedPlanError;
use crate::secagg::Deceit;
use crate::transcript::TranscriptFault;

/// One side of the conversation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Party {
    /// The server.
    Server,
    /// A participant.
    Participant,
}

impl std::fmt::Display for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Server => "the server",
            Self::Participant => "the participant",
        })
    }
}

/// A rule that the peer broke: well-formed, and wrong.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{guilty} broke the protocol: {breach}")]
pub struct Violation {
    /// Who broke it.
    pub guilty: Party,
    /// Which rule.
    pub breach: Breach,
}

/// The rules that can be broken, each with what was found and what was expected.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Breach {
    /// A message that the state does not allow.
    #[error("{message} is not allowed while {state}")]
    Unexpected {
        /// The message's name.
        message: &'static str,
        /// What the receiver was doing.
        state: &'static str,
    },
    /// Another protocol version than ours.
    #[error("protocol version {found}, expected {expected}")]
    Version {
        /// The peer's version.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// A message names another run plan.
    #[error("{message} names another run plan than the one of this run")]
    WrongPlan {
        /// The message's name.
        message: &'static str,
    },
    /// A round that cannot be: zero, beyond the plan, or already behind us.
    #[error("{message} names round {found}, expected {expected} to {last}")]
    WrongRound {
        /// The message's name.
        message: &'static str,
        /// The round it names.
        found: Round,
        /// The first round that it could name.
        expected: Round,
        /// The last round of the plan.
        last: Round,
    },
    /// A transfer that is not what was announced or what the plan fixes.
    #[error("a transfer has the wrong {what}: found {found}, expected {expected}")]
    BadTransfer {
        /// Which property.
        what: &'static str,
        /// Its value.
        found: String,
        /// The value it should have.
        expected: String,
    },
    /// Two different global adapters for one round.
    #[error("two different global adapters were sent for round {round}")]
    Equivocation {
        /// The round.
        round: Round,
    },
    /// What arrived is no message, or no transfer.
    #[error("{what}")]
    Malformed {
        /// What the transport found.
        what: String,
    },
    /// The run plan is not signed by the server, or makes no sense.
    #[error("{0}")]
    BadPlan(SignedPlanError),
    /// The transcript is not what it must be.
    #[error("{0}")]
    BadTranscript(TranscriptFault),
    /// More items in a list than the protocol allows.
    #[error("{message} lists {found} items, at most {limit} are allowed")]
    TooMany {
        /// The message's name.
        message: &'static str,
        /// Items found.
        found: usize,
        /// Items allowed.
        limit: usize,
    },
    /// The same asked for again and again.
    #[error(
        "{message} came more often for one {of} on one connection than allowed (at most {limit})"
    )]
    Repeated {
        /// The message's name.
        message: &'static str,
        /// What it asks for once, or a few times.
        of: &'static str,
        /// How often it may.
        limit: u32,
    },
    /// The server broke a rule of secure aggregation.
    #[error("{0}")]
    Deceit(Deceit),
    /// A participant broke a rule of secure aggregation.
    #[error("in secure aggregation, {what}")]
    BadMember {
        /// What was wrong.
        what: &'static str,
    },
    /// More messages that move nothing on than a participant may send.
    #[error("more than {limit} messages a minute that move nothing on")]
    Flooding {
        /// Messages allowed a minute.
        limit: u32,
    },
    /// More bytes of adapters and the anchor than a participant may have sent to it.
    #[error("more than {limit_bytes} bytes of adapters in a round's time")]
    Fetching {
        /// Bytes allowed.
        limit_bytes: u64,
    },
    /// More connections than a participant may open.
    #[error("more than {limit} connections a minute")]
    TooOften {
        /// Connections allowed a minute.
        limit: u32,
    },
}

impl From<TranscriptFault> for Breach {
    fn from(fault: TranscriptFault) -> Self {
        Self::BadTranscript(fault)
    }
}

impl Breach {
    /// The code with which the innocent side closes the connection.
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::Unexpected { .. } | Self::TooMany { .. } | Self::Repeated { .. } => {
                CloseCode::Unexpected
            }
            Self::Version { .. } => CloseCode::VersionMismatch,
            Self::Malformed { .. } => CloseCode::Malformed,
            Self::WrongPlan { .. } => CloseCode::WrongPlan,
            Self::WrongRound { .. } => CloseCode::WrongRound,
            Self::BadPlan(SignedPlanError::Seal(_)) => CloseCode::BadSignature,
            Self::BadPlan(_) => CloseCode::BadPlan,
            Self::Deceit(_) | Self::BadMember { .. } => CloseCode::Deceived,
            Self::BadTranscript(_) => CloseCode::BadTranscript,
            Self::BadTransfer { .. } | Self::Equivocation { .. } => CloseCode::BadTransfer,
            Self::Flooding { .. } => CloseCode::Flooding,
            Self::TooOften { .. } => CloseCode::TooOften,
            Self::Fetching { .. } => CloseCode::TooMuch,
        }
    }
}

/// Our own caller used a state machine wrongly. A bug on this side, never the peer's fault.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{verb} was called while {state}")]
pub struct Misuse {
    /// The method.
    pub verb: &'static str,
    /// What the machine was doing.
    pub state: &'static str,
}
