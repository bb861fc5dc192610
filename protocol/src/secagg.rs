//! Secure aggregation: the conversation after which the server can read the sum of updates, and nothing else of them.
//!
//! Bonawitz et al. 2017 (CCS) with its consistency round, over a star: participants speak to each other through the server, which
//! relays what it cannot read. One run through the five steps is an *attempt*; it has keys of its own, and one that fails is
//! followed by another with fresh keys and the next number. The steps: keys, shares, masked vectors, confirmation, opening.
//!
//! Both sides are sans-IO machines like the [`coordinator`](crate::coordinator) and the [`participant`](crate::participant):
//! [`Member`] on a participant's side, [`Gathering`] on the server's. They decide who says what, who is in, and what may be revealed.
//! The cryptography is their owner's (`aggregation::masking`), keys and shares are opaque bytes here.
//!
//! What the server cannot talk a participant into is decided in [`Member`]: opening a sum of few, revealing both secrets of a peer,
//! revealing twice for different sets, taking a stranger's key for a member's. The rules are in `docs/protocol.md`, each with a test.

mod context;
mod gathering;
mod graph;
mod member;
mod message;
mod parts;
mod roster;
mod statement;

pub use context::Terms;
pub use gathering::{Failure, Gathering, Opening, Output, Revealed, Secret, Step};
pub use graph::{Arrangement, COMPLETE_MAX};
pub use member::{Action, Earlier, Member, MemberSetup, Unfit};
pub use message::{
    AttemptId, Confirmation, ForMember, ForServer, Items, Keys, Piece, Sealed, Share, SignedKeys,
};
pub use parts::{Assembly, split};
pub use roster::{CERTIFICATE_BYTES_MAX, MemberId, Roster, RosterEntry, VerifiedMember};
pub use statement::Verify;

use crate::ids::ParticipantName;

/// A rule of secure aggregation that the other side broke.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Deceit {
    /// A message that does not follow from what was said in the attempt.
    #[error("{message} does not follow from what was said in the attempt")]
    OutOfTurn {
        /// The message's name.
        message: &'static str,
    },
    /// An attempt with the number of an earlier one, or a lower number: its keys would be used twice.
    #[error("attempt {found} comes after attempt {last}: attempts are not repeated")]
    Replayed {
        /// Its number.
        found: u32,
        /// The last attempt of this round that this participant knows.
        last: u32,
    },
    /// An attempt beyond those that a round may have: a server could have us say new keys and shares without end.
    #[error("attempt {found} of this round, of which there are at most {most}")]
    TooMany {
        /// Its number.
        found: u32,
        /// The last that is taken part in.
        most: u32,
    },
    /// A list of participants that is not in order, names somebody twice or somebody who is not in the one before.
    #[error("the list of {what} is not an ordered part of the one before it")]
    List {
        /// What the list is of.
        what: &'static str,
    },
    /// The list of participants leaves us out, or has something else for us than we said.
    #[error("we are not in the list of {what} as ourselves")]
    NotOurselves {
        /// What the list is of.
        what: &'static str,
    },
    /// Fewer than the threshold or the plan's minimum.
    #[error("{found} participants in the list of {what}, at least {least} are needed")]
    TooFew {
        /// What the list is of.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there must be.
        least: usize,
    },
    /// A participant that the plan does not name.
    #[error("{name} is in the roster, and the plan does not name it")]
    Stranger {
        /// Who.
        name: ParticipantName,
    },
    /// A certificate that the federation's authority does not stand behind.
    #[error("the certificate of {name} cannot be relied on: {what}")]
    Certificate {
        /// Whose.
        name: ParticipantName,
        /// Why.
        what: String,
    },
    /// A signature that is not the member's, or is of another context: keys, plan, model or roster differ.
    #[error("the signature of {name} under its {what} does not hold for what we were told")]
    Signature {
        /// Whose.
        name: ParticipantName,
        /// Under what.
        what: &'static str,
    },
    /// Two members with one key.
    #[error("{first} and {second} have the same key")]
    SameKey {
        /// One of them.
        first: ParticipantName,
        /// The other.
        second: ParticipantName,
    },
    /// Shares are missing, or come from somebody who is no neighbour.
    #[error("the shares that arrived are not those of the listed neighbours")]
    Shares,
    /// Too few members confirm the list that we were given: others were given another.
    #[error(
        "{found} members confirm the list of delivered vectors that we have, {least} are needed: views were split"
    )]
    SplitView {
        /// How many do.
        found: usize,
        /// How many must.
        least: usize,
    },
    /// A second opening in one round, of another set, or one of a round before the last that was opened: the difference of two sums of
    /// a round would be somebody's update.
    #[error(
        "a sum of this round, or of a later one, was opened before: the difference of two sums of a round tells of single updates"
    )]
    OtherSet,
}
