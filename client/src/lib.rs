//! The site's side of Foedus: one institution's participant in a federated run, and the same engine without a federation.
//!
//! [`federate()`] takes part in a run with a shared base model and a shared device, and tells an [`Observer`] what happens; the
//! program `foedus-client` and the simulator both call it. [`terms`] decides what is agreed to. The rest is the program: its
//! configuration file, its log and its command line. Nothing but [`main`] talks to people, installs a log or handles signals.

pub mod adapter_folder;
pub mod audit;
pub mod config;
mod durable;
pub mod error;
mod evidence;
pub mod kept_head;
pub mod ledger;
pub mod observer;
pub mod policy;
pub mod privacy;
pub mod settings;
pub mod shutdown;
pub mod site;
mod state;
pub mod telemetry;
pub mod terms;

mod cli;
mod federate;
#[cfg(test)]
mod properties;

pub use cli::{main, said_once};
pub use config::{Config, ConfigError};
pub use error::{ClientError, Scene};
pub use federate::{Outcome, federate, participate, training_site};
pub use observer::{Event, Observer, RoundDone, Unobserved};
pub use policy::SitePolicy;
pub use settings::{DeviceTurn, Settings, TrainingText};
pub use shutdown::{Shutdown, ShutdownSwitch};
pub use site::{Agreement, Follower, Learner, Next, Site};
pub use terms::recipe_of;
