//! What is said in an attempt. Lists that may be long come in parts.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::roster::{MemberId, RosterEntry};
use crate::ids::Round;
use crate::text::Text;

/// Names an attempt within a run. Numbers go up over a round's attempts, also over a restart of the server.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct AttemptId {
    /// The round whose updates are summed.
    pub round: Round,
    /// Its number in the round, from 1.
    pub number: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attempt {} of round {}", self.number, self.round)
    }
}

/// A part of a list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Piece<T> {
    /// Items of the list before this part.
    pub first: u32,
    /// Items of the whole list.
    pub total: u32,
    /// The items of this part.
    pub items: Items<T>,
}

/// The items of a part. A copy shares them: the server says the same to a thousand members, and holds it once. Who changes its copy
/// gets items of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Items<T>(Arc<Vec<T>>);

impl<T: Clone> Items<T> {
    /// The items themselves; copied only if another part has them, too.
    pub fn into_vec(self) -> Vec<T> {
        Arc::unwrap_or_clone(self.0)
    }
}

impl<T> From<Vec<T>> for Items<T> {
    fn from(items: Vec<T>) -> Self {
        Self(Arc::new(items))
    }
}

impl<T> Deref for Items<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T: Clone> DerefMut for Items<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        Arc::make_mut(&mut self.0)
    }
}

impl<T: Serialize> Serialize for Items<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

/// What the server says to a member.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ForMember {
    /// An attempt begins with these members, in the order of their names.
    Roster(Piece<RosterEntry>),
    /// The keys of those that answered, in the order of their numbers.
    Keys(Piece<SignedKeys>),
    /// The shares that neighbours sealed for this member; in the order of their numbers.
    Shares(Piece<Sealed>),
    /// These gave their shares: mask the update against them and offer it.
    Mask {
        /// In the order of their numbers.
        members: Vec<MemberId>,
    },
    /// The masked vectors of these arrived; the sum is to be theirs. To be confirmed.
    Delivered {
        /// In the order of their numbers.
        members: Vec<MemberId>,
    },
    /// The confirmations of those that answered: help to open the sum.
    Confirmations(Piece<Confirmation>),
    /// The attempt came to nothing; another may follow.
    Abandoned {
        /// Why.
        reason: Text,
    },
}

/// What a member says to the server.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ForServer {
    /// Its fresh public keys, signed.
    Keys {
        /// The keys.
        keys: Keys,
        /// Its Ed25519 signature.
        signature: Vec<u8>,
    },
    /// Shares of its secrets, sealed for its neighbours; in the order of their numbers.
    Shares(Piece<Sealed>),
    /// Its signature under the list of delivered vectors.
    Confirmation {
        /// Its Ed25519 signature.
        signature: Vec<u8>,
    },
    /// What opens the sum: one share for each neighbour and for itself, in the order of their numbers.
    Reveal(Piece<Share>),
    /// It cannot go on in this attempt: certificate or shares of this member cannot be used.
    Objection {
        /// Whose.
        against: MemberId,
    },
}

impl ForMember {
    /// The message's name, for logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Roster(_) => "Roster",
            Self::Keys(_) => "Keys",
            Self::Shares(_) => "Shares",
            Self::Mask { .. } => "Mask",
            Self::Delivered { .. } => "Delivered",
            Self::Confirmations(_) => "Confirmations",
            Self::Abandoned { .. } => "Abandoned",
        }
    }
}

impl ForServer {
    /// The message's name, for logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Keys { .. } => "Keys",
            Self::Shares(_) => "Shares",
            Self::Confirmation { .. } => "Confirmation",
            Self::Reveal(_) => "Reveal",
            Self::Objection { .. } => "Objection",
        }
    }
}

/// The public keys of a member in an attempt.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Keys {
    /// The X25519 key for which shares are sealed.
    pub sealing: [u8; 32],
    /// The X25519 key from which pair masks are made.
    pub masking: [u8; 32],
    /// What binds the member to the seed of its own mask.
    pub commitment: [u8; 32],
}

/// A member's keys under its signature.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SignedKeys {
    /// Whose.
    pub member: MemberId,
    /// The keys.
    pub keys: Keys,
    /// The Ed25519 signature of its certificate's key.
    pub signature: Vec<u8>,
}

/// Shares that only their receiver can read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sealed {
    /// The other member: the receiver on the way to the server, the sender on the way from it.
    pub member: MemberId,
    /// The sealed shares.
    pub bytes: Vec<u8>,
}

/// A member's signature under the list of delivered vectors.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Confirmation {
    /// Whose.
    pub member: MemberId,
    /// The Ed25519 signature of its certificate's key.
    pub signature: Vec<u8>,
}

/// A share in the open: of the seed of a delivered member's own mask, or of the masking key of one that dropped out.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct Share {
    /// Whose secret it is a share of.
    pub of: MemberId,
    /// The place of the share.
    pub x: u8,
    /// Its value.
    pub y: [u8; 32],
}

impl fmt::Debug for Share {
    /// Never shows the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share(of {}, at {})", self.of.0, self.x)
    }
}
