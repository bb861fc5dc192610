//! System tests: the real programs as processes, real certificates, real TLS over loopback, a tiny base model.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[cfg(target_os = "linux")]
mod audit;
mod bad_link;
mod clock;
mod closed_reader;
mod crash;
mod damaged;
mod data;
mod deltas;
mod disk;
mod documents;
mod every_change;
mod files;
mod hostile;
mod hostile_server;
mod identity;
mod interrupted;
mod masked;
mod monitoring;
mod policy;
mod private;
mod run;
mod secrets;
mod training;
mod transcript;

use tests::Programs;

/// The programs that Cargo built for these tests.
const PROGRAMS: Programs = Programs {
    certs: env!("CARGO_BIN_EXE_tests-certs"),
    server: env!("CARGO_BIN_EXE_tests-server"),
    client: env!("CARGO_BIN_EXE_tests-client"),
};
