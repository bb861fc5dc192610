//! foedus-sim: whole federations on one machine, through the same code as between machines.
//!
//! A simulation is a real server and real clients in one process ([`federation`]), compared with the
//! base model and with each institution alone ([`alone`]) on text that an institution kept back, and on
//! general English ([`general`]). Its results are files and a report ([`report`]).
//!
//! What it is not: a model of a network. Faults, latency and virtual time belong to the tests of
//! `protocol`.

pub mod alone;
mod answer;
pub mod base_model;
pub mod bench;
pub mod cli;
pub mod experiment;
pub mod federation;
pub mod general;
mod hostile;
pub mod institutions;
pub mod measure;
pub mod memory;
pub mod privacy;
pub mod progress;
pub mod report;
pub mod run;
pub mod summary;
pub mod text;
