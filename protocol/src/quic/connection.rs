//! An admitted connection: who is on the other side, its streams, its end.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::VarInt;
use rustls::pki_types::CertificateDer;
use tokio::sync::{Mutex, OwnedSemaphorePermit};

use super::certificate::PartyCertificate;
use super::control::{ControlReceiver, ControlSender};
use super::error::Closed;
use super::material::TlsMaterial;
use super::rejection::Rejection;
use super::transfer::HalfOpen;
use crate::close::CloseCode;
use crate::identity::Identity;

/// A connection and the two halves of its control stream.
#[derive(Debug)]
pub struct Link {
    /// The connection, for transfers and for closing; cheap to clone.
    pub connection: Connection,
    /// Our half of the control stream.
    pub sender: ControlSender,
    /// The peer's half of the control stream.
    pub receiver: ControlReceiver,
}

/// A mutually authenticated connection.
///
/// Clones are the same connection. It ends with [`Connection::close`], or when the last clone and
/// both halves of its control stream are dropped.
#[derive(Clone)]
pub struct Connection(Arc<Shared>);

struct Shared {
    quic: quinn::Connection,
    endpoint: quinn::Endpoint,
    chain: Vec<CertificateDer<'static>>,
    certificate: PartyCertificate,
    half_open: Mutex<Option<HalfOpen>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Wraps a connection whose handshake has succeeded. `permit` is held until its end.
    pub(super) fn new(
        quic: quinn::Connection,
        endpoint: quinn::Endpoint,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Self, Rejection> {
        let chain = quic
            .peer_identity()
            .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
            .map(|chain| *chain)
            .unwrap_or_default();
        let end_entity = chain.first().ok_or(Rejection::NoCertificate)?;
        let certificate = PartyCertificate::read(end_entity)?;
        Ok(Self(Arc::new(Shared {
            quic,
            endpoint,
            chain,
            certificate,
            half_open: Mutex::new(None),
            _permit: permit,
        })))
    }

    /// Returns who is on the other side, as its authenticated certificate says.
    pub fn peer(&self) -> &Identity {
        &self.0.certificate.identity
    }

    /// Returns the peer's Ed25519 public key, for verifying what it signed.
    pub fn peer_public_key(&self) -> [u8; 32] {
        self.0.certificate.public_key
    }

    /// Returns all that we read from the peer's certificate, its expiry among it.
    pub fn peer_certificate(&self) -> &PartyCertificate {
        &self.0.certificate
    }

    /// Returns the peer's certificate chain as DER, its own first.
    pub fn peer_certificates(&self) -> Vec<Vec<u8>> {
        self.0.chain.iter().map(|one| one.to_vec()).collect()
    }

    /// Returns where the peer is now; it may move.
    pub fn remote_address(&self) -> SocketAddr {
        self.0.quic.remote_address()
    }

    /// Returns how long a packet and its answer take now, as the transport estimates it.
    pub fn round_trip(&self) -> Duration {
        self.0.quic.rtt()
    }

    /// Returns how many bytes have left on this connection so far, in packets: what was sent again counts again.
    pub fn bytes_sent(&self) -> u64 {
        self.0.quic.stats().udp_tx.bytes
    }

    /// Checks the peer's certificate again, against newer `material`, at `now`.
    ///
    /// For a reloaded revocation list, and for certificates that expire during a long run.
    ///
    /// # Errors
    /// The [`Rejection`] for which the owner closes the connection.
    pub fn recheck(&self, material: &TlsMaterial, now: SystemTime) -> Result<(), Rejection> {
        material.check_chain(&self.0.chain, self.peer().role(), now)
    }

    /// Allows the peer this many bytes ahead of what was read of all its streams, instead of [`Limits::connection_window_bytes`].
    ///
    /// More takes effect at once. Less takes effect as bytes are read: what was allowed is not taken back (RFC 9000, section 4.1).
    ///
    /// [`Limits::connection_window_bytes`]: super::Limits::connection_window_bytes
    pub fn allow_ahead(&self, bytes: u32) {
        self.0.quic.set_receive_window(VarInt::from_u32(bytes));
    }

    /// Ends the connection at once: what is not delivered is lost, and the peer is told `code`.
    pub fn close(&self, code: CloseCode) {
        let reason = code.sentence().as_bytes();
        self.0.quic.close(VarInt::from_u32(code.wire()), reason);
    }

    /// Waits until the connection has ended, and says how.
    pub async fn closed(&self) -> Closed {
        Closed::from(&self.0.quic.closed().await)
    }

    /// Returns how the connection ended, if it has.
    pub fn close_reason(&self) -> Option<Closed> {
        self.0.quic.close_reason().as_ref().map(Closed::from)
    }

    /// Waits until a closed connection's last words are out. A client calls it before it exits.
    ///
    /// On a server's connection this waits for all of the listener's connections.
    pub async fn drained(&self) {
        self.0.endpoint.wait_idle().await;
    }

    pub(super) fn quic(&self) -> &quinn::Connection {
        &self.0.quic
    }

    pub(super) fn half_open(&self) -> &Mutex<Option<HalfOpen>> {
        &self.0.half_open
    }
}

impl Drop for Shared {
    /// Says that nobody here meant to end it. quinn's own code for a dropped connection is 0,
    /// which in our table means that the run is over. After [`Connection::close`] it has no effect.
    fn drop(&mut self) {
        let code = CloseCode::Internal;
        let reason = code.sentence().as_bytes();
        self.quic.close(VarInt::from_u32(code.wire()), reason);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer().to_string())
            .field("remote", &self.remote_address())
            .finish_non_exhaustive()
    }
}
