//! The server as a whole, in process, over real QUIC on loopback with throw-away certificates.
//!
//! Participants are scripted: they speak the protocol themselves and train nothing, so that they can also break its
//! rules. The real client against the real server is tested in `tests/`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admission;
mod audit;
mod ending;
mod lateness;
mod metrics;
mod noise;
mod outcome;
mod reading;
mod renewal;
mod restart;
mod resume;
mod revocation;
mod scene;
mod scripted;
mod slow_greeting;
mod strategy;
mod turns;
