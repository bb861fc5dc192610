//! foedus-server: runs a federation's training jobs, merges updates, and shows nobody anybody's text.
//!
//! The server is `protocol` and `aggregation` with sockets and a disk around them. It links no tensor library and never
//! sees data: what reaches it are adapter updates, weights and losses.
//!
//! - [`config`]: the TOML file, typed and then checked.
//! - [`start`]: the start folder, the anchor, and the signed run plan.
//! - [`mod@run`]: the library entry, [`run()`] and [`Server`]; what tests and the simulator call.
//! - `driver`: the one owner of the protocol's coordinator, a loop over a closed set of events.
//! - `session`: one connection; only moves bytes.
//! - `adapter_bytes`: what is sent to everybody, once in memory.
//! - `fold`, `total`, `round`: updates checked and folded as they arrive, the next global adapter formed and anchored; `opening`: the
//!   masks taken off a sum; `participant_privacy`: noise put on it for privacy of participants.
//! - [`transcript`]: the signed record of each round, and its check offline.
//! - [`record`], `settling`: what a run leaves on disk. `journal`, `spool`, `recovery`: what it must not forget if its process is killed;
//!   `durable`: names that outlive a power cut.
//! - `tally`: whom it turned away, counted.
//! - [`observer`]: what a run tells; `narrate` is the same as log lines, `metrics` as counts behind a port for monitoring, with
//!   what connections cost (`network`).
//! - [`cli`], [`telemetry`]: the program `foedus-server`. Only these install a log or choose an exit code.

pub mod config;
pub mod error;
pub mod start;

pub mod run;

mod adapter_bytes;
mod ballot;
mod driver;
mod durable;
mod fold;
mod identity;
pub mod journal;
mod lines;
mod metrics;
mod network;
mod opening;
mod participant_privacy;
mod recovery;
mod released;
mod round;
mod session;
mod settling;
mod spool;
mod tally;
mod total;

mod narrate;
pub mod observer;
pub mod record;
pub mod transcript;

pub mod cli;
pub mod telemetry;

pub use cli::main;
pub use config::{Config, EwcSettings, IdentitySource, RunSettings};
pub use error::ServerError;
pub use observer::{Observer, RunEvent, RunOutcome};
pub use record::{RoundRecord, TurnedAway};
pub use run::{Server, run};
pub use start::Prepared;
