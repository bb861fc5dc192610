//! What the fuzz targets do, as functions of bytes: each panics when a promise is broken.
//!
//! Kept apart from the fuzzing engine so that a plain `cargo test` runs them too (see `tests/smoke.rs`).

mod coordinator;
mod delta;
mod secagg;
mod update;
mod wire;

pub use coordinator::coordinator;
pub use delta::delta;
pub use secagg::{gathering, gathering_script, member, member_script};
pub use update::{folder, update};
pub use wire::{frame, header, message, plan, record_line, transcript};
