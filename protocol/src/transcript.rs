//! The transcript: what the server puts on record about each round, so that it cannot tell different stories later.
//!
//! A [`Record`] names what a round came to: a line for each participant, the adapter before and after. Its [`Heading`] binds
//! the lines by the root of a hash tree and the record before it by its hash, and is what the server signs. Records of a run
//! form a [`Chain`] whose first link is the plan. Each participant gets every heading and only its own lines
//! ([`Excerpt`]); its [`Witness`] holds the server to what it acknowledged.
//!
//! Participants appear by a digest of plan and name. A site computes its own; it never sees another's, only hashes that a
//! secret value of each line keeps from being guessed. Whoever holds the whole transcript, and knows the names, can tell them.
//!
//! What it is not: proof that the aggregate was computed rightly. That the adapter follows from the updates can only be checked
//! by someone who has them.

mod archive;
mod chain;
mod record;
mod tree;
mod witness;

pub(crate) use archive::Archive;
pub use chain::{Chain, TranscriptFault};
pub use record::{
    Excerpt, Heading, Inclusion, Line, OWN_LINES_MAX, Outline, Record, SealedRecord, Verdict,
    participant_digest,
};
pub use tree::PATH_MAX;
pub use witness::{Claim, Evidence, Witness};

#[cfg(test)]
mod tests;
