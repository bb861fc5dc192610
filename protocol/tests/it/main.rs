//! The protocol's behaviour through its public interface: one binary, a module per subject.
//!
//! Each rule of `docs/protocol.md` has its number (`J1`, `R3`, ...) in the doc comment of the test that checks it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod allowance;
mod bytes;
mod crash;
mod disturbed;
mod fixed_sum;
mod hostile;
mod join;
mod lateness;
mod pair;
mod resume;
mod round;
mod rules;
mod secagg;
mod seeded;
mod sequences;
mod suspicion;
mod transcript;
