//! The QUIC transport: quinn and rustls around the protocol's messages. The crate's one I/O module.
//!
//! [`listen`] and [`connect`] give [`Link`]s: connections over which both sides have proved who
//! they are. A link has a control stream, on which messages go as frames both ways, and transfers,
//! each a stream of its own with a header and raw bytes. What the messages mean, when they are due
//! and what follows from a failure is decided in [`crate::coordinator`] and
//! [`crate::participant`]; this module moves bytes and says who is at fault.
//!
//! TLS 1.3 only (RFC 9001), ALPN `foedus/1`, X.509 and handshake signatures by Ed25519 only, no
//! 0-RTT, no resumption. A peer is let in by the identity in its certificate: our federation, the
//! other role, our authority, in date, not revoked. See `verifier.rs` for why server names play no
//! part, and `docs/protocol.md` for the wire.

mod admission;
mod authorities;
mod certificate;
mod connection;
mod control;
mod datagrams;
mod dial;
mod error;
mod examiner;
mod frames;
mod limits;
mod listener;
mod material;
mod meter;
mod origins;
mod plan_file;
mod rejection;
mod reset;
mod revocations;
mod socket;
mod tls;
mod tls_files;
mod transfer;
mod verifier;
mod watch;

pub use admission::GREETING_BYTES;
pub use authorities::Authorities;
pub use certificate::PartyCertificate;
pub use connection::{Connection, Link};
pub use control::{ControlError, ControlFault, ControlReceiver, ControlSender};
pub use datagrams::Datagrams;
pub use dial::{connect, connect_metered};
pub use error::{Closed, HandshakeError, ListenError, RefusedPeer};
pub use examiner::{ServerExaminer, signer};
pub use limits::{Congestion, Limits};
pub use listener::{Listener, listen};
pub use material::{MaterialError, TlsMaterial, verify_signature};
pub use meter::DatagramMeter;
pub use plan_file::{PLAN_FILE_BYTES_MAX, PlanFile, PlanFileError};
pub use rejection::{PeerRefusal, Rejection};
pub use tls::ALPN;
pub use tls_files::TlsFiles;
pub use transfer::{IncomingTransfer, TransferError, TransferFault};
pub use watch::{EXPIRY_WARNING, IdentityWatch, days_left};
