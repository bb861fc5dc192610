//! The exchange without training: what a federation costs when the sites do nothing but answer.
//!
//! The server and the participants are the real ones, over mutual TLS on the loopback interface; only what learns is
//! replaced by a site that adds its own constant, or what is drawn for it where deltas are measured, so that the result has a
//! closed form. The scenario and the figures are those in which other federated systems were measured (`benches/peers`). It is
//! no measure of a wide-area network, and on one machine all parties share its cores. [`run_fold`] leaves the network out too:
//! only the server's arithmetic.

mod constant;
mod exchange;
mod figures;
mod fold;
mod link;
mod moves;
mod parties;
mod relay;
mod scenario;
mod usage;

pub use exchange::{Processes, run};
pub use figures::Figures;
pub use fold::{FoldFigures, FoldReport, FoldScenario, Strategy, fold_one, run_fold};
pub use link::{CongestionControl, Hardship, LinkFigures, run_link};
pub use parties::{serve, take_part};
pub use relay::{Relay, Traffic, Weather};
pub use scenario::Scenario;

/// A server's process gives memory back, within ten milliseconds; this program's allocator keeps it for training steps. foedus-server
/// has the system's allocator, which needs about as much as this one does so, in small pages.
const SERVER_MEMORY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "10");
