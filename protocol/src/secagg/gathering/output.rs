//! How far an attempt has come, and what comes of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, ParticipantName};
use crate::secagg::message::{AttemptId, ForMember, Keys, Share};
use crate::secagg::roster::MemberId;
use crate::text::Text;

/// How far an attempt has come.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Step {
    /// Keys are coming in.
    Keys,
    /// Sealed shares are coming in.
    Shares,
    /// Masked vectors are coming in.
    Vectors,
    /// Confirmations are coming in.
    Confirmations,
    /// Shares that open the sum are coming in.
    Opening,
    /// Nothing more is expected.
    Over,
}

impl Step {
    /// What is coming in.
    pub fn label(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Shares => "shares",
            Self::Vectors => "masked vectors",
            Self::Confirmations => "confirmations",
            Self::Opening => "opened shares",
            Self::Over => "nothing",
        }
    }
}

/// What comes of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Say this to a member.
    Tell {
        /// To whom.
        member: MemberId,
        /// What.
        message: ForMember,
    },
    /// Members are asked to open the sum of these next, whatever comes of it.
    Fixed {
        /// Whose vectors are in it.
        delivered: Vec<ParticipantName>,
    },
    /// The sum can be opened.
    Opened(Opening),
    /// It cannot: the attempt is over.
    Failed(Failure),
}

/// All it takes to open the sum of the delivered vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    /// Which attempt.
    pub attempt: AttemptId,
    /// What it was about.
    pub context: Digest,
    /// Shares that give a secret back.
    pub threshold: u32,
    /// The public keys of all that shared.
    pub keys: BTreeMap<MemberId, Keys>,
    /// The members' names.
    pub names: BTreeMap<MemberId, ParticipantName>,
    /// One secret for each member that shared.
    pub secrets: Vec<Revealed>,
}

/// A secret in shares.
#[derive(Clone, Debug, PartialEq)]
pub struct Revealed {
    /// Whose.
    pub of: MemberId,
    /// Which of its two.
    pub secret: Secret,
    /// At least the threshold of them; some may be wrong.
    pub shares: Vec<Share>,
    /// Who revealed each of them.
    pub by: Vec<MemberId>,
}

/// Which secret is revealed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Secret {
    /// The seed of the own mask of one that delivered.
    SelfMask,
    /// The masking key of one that dropped out, whose pair masks are still on the vectors of these neighbours.
    PairKey {
        /// Neighbours that delivered.
        neighbours: Vec<MemberId>,
    },
}

/// Why an attempt came to nothing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
pub enum Failure {
    /// Too many dropped out.
    #[error("{found} of {members} members were left when {what} were due, {least} are needed")]
    TooFew {
        /// What was coming in.
        what: Text,
        /// How many were left.
        found: usize,
        /// Members at the beginning.
        members: usize,
        /// How many are needed.
        least: usize,
        /// Those that owed something then.
        silent: Vec<ParticipantName>,
    },
    /// So many dropped out that a secret of one could not be opened by those of its neighbours that are left.
    #[error(
        "{found} members were left that could open a secret of one of them when {what} were due, {least} are needed"
    )]
    Scattered {
        /// What was coming in.
        what: Text,
        /// How many were left.
        found: usize,
        /// How many are needed.
        least: usize,
        /// Those that owed something then.
        silent: Vec<ParticipantName>,
    },
    /// A member cannot use what another sent.
    #[error("{by} cannot use what {against} sent")]
    Objection {
        /// Who objected.
        by: ParticipantName,
        /// Against whom.
        against: ParticipantName,
    },
}
