//! The QUIC transport over real loopback sockets, with real certificates of throw-away federations.
#![expect(
    clippy::unwrap_used,
    reason = "clippy knows test functions, and not what they share"
)]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests of the one I/O module need real sockets and the real time"
)]

mod bulk;
mod control;
mod crowd;
mod handshake;
mod hostile;
mod party;
mod plan_file;
mod restart;
mod seals;
mod secrets;
mod tap;
mod watch;
