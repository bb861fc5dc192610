//! The Foedus protocol: what a server and its participants say to each other, and when.
//!
//! A leaf crate. Messages, their codec, and the two state machines that decide what is said next: the
//! [`coordinator`] (the server's side) and the [`participant`]. Both are sans-IO values: what happened goes in
//! through `handle_*`, what the owner wants through plain verbs, and what to do next comes out of `poll_*`.
//! Time is an argument (`now: Instant`), randomness a seed, so the same machines run in the programs, in the
//! simulator and in tests over a virtual network.
//!
//! What it is not: it opens no files, reads no clock and knows no tensors. An update is opaque bytes with a
//! length and a SHA-256; whether they are a good update is the server's business. The one module that does I/O
//! is the QUIC transport, behind the feature `quic`; what programs with keys ask of the system is behind `memory`.
//!
//! The rules are written down in `docs/protocol.md`; each has a test that names it.

pub mod identity;
pub mod ids;
pub mod text;

pub mod close;
pub mod codec;
pub mod frame;
pub mod message;
pub mod plan;
pub mod seal;
pub mod transcript;
pub mod violation;

pub mod coordinator;
pub mod participant;

pub mod secagg;

#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "quic")]
pub mod quic;

pub use ids::{ConnectionId, Digest, ParticipantName, Round, RunId, TransferId};
pub use text::Text;
pub use violation::{Misuse, Party, Violation};
