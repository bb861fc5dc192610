//! The harness of the system tests: a federation of real processes in a temporary folder.
//!
//! Nothing here knows the wire or the library interfaces: certificates come from `foedus-certs`, configuration is TOML, and
//! a test sees what an operator sees: exit codes, files and the log. Waiting is always for a condition with a limit.

pub mod clock;
pub mod death;
pub mod federation;
#[cfg(target_os = "linux")]
pub mod hosts;
mod preload;
pub mod process;

pub use clock::{Clock, DAY};
pub use death::{Cause, DISK_IS_FULL, Death};
pub use federation::{Federation, Programs, assert_success};
pub use process::{Finished, Program};
