//! The client's way to a connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use quinn::{Endpoint, TokioRuntime};

use super::admission;
use super::connection::{Connection, Link};
use super::control::{ControlReceiver, ControlSender};
use super::error::{HandshakeError, RefusedPeer, explain};
use super::limits::{self, Limits};
use super::material::TlsMaterial;
use super::meter::DatagramMeter;
use super::socket;
use super::tls::{self, SERVER_NAME};
use super::verifier::PeerVerifier;
use crate::identity::Role;

/// Connects to the federation's server at `remote`.
///
/// Returns once the server has admitted us, so that a certificate it refuses is an error here and
/// not at the first message. The federation is that of our own certificate. The connection has a
/// socket of its own.
///
/// # Errors
/// [`HandshakeError`] says who refused whom and what to do.
pub async fn connect(
    remote: SocketAddr,
    material: &TlsMaterial,
    limits: &Limits,
) -> Result<Link, HandshakeError> {
    connect_metered(remote, material, limits, &DatagramMeter::default()).await
}

/// Connects as [`connect`] does, and has `meter` count every datagram that leaves for it, whatever comes of it.
///
/// # Errors
/// As [`connect`].
pub async fn connect_metered(
    remote: SocketAddr,
    material: &TlsMaterial,
    limits: &Limits,
    meter: &DatagramMeter,
) -> Result<Link, HandshakeError> {
    let expected = Role::Participant;
    if material.identity().role() != expected {
        let identity = Box::new(material.identity().clone());
        return Err(HandshakeError::Role { identity, expected });
    }
    let after = limits.handshake_timeout;
    let attempt = tokio::time::timeout(after, attempt(remote, material, limits, meter));
    attempt
        .await
        .unwrap_or(Err(HandshakeError::TimedOut { remote, after }))
}

async fn attempt(
    remote: SocketAddr,
    material: &TlsMaterial,
    limits: &Limits,
    meter: &DatagramMeter,
) -> Result<Link, HandshakeError> {
    let local = |what: &dyn ToString| HandshakeError::Local {
        remote,
        what: what.to_string(),
    };
    let verifier = PeerVerifier::new(material, Role::Server);
    let crypto = tls::client(material, Arc::clone(&verifier)).map_err(|e| local(&e))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(limits.transport(0));
    let endpoint = endpoint(remote, meter).map_err(|error| local(&error))?;
    let connecting = endpoint
        .connect_with(config, remote, SERVER_NAME)
        .map_err(|error| local(&error))?;
    let failed = |error: &quinn::ConnectionError| match verifier.finding() {
        Some(found) => HandshakeError::Refused(Box::new(RefusedPeer {
            remote,
            claimed: found.claimed.clone(),
            reason: found.reason.clone(),
        })),
        None => explain(error, remote, material.identity(), limits.handshake_timeout),
    };
    let quic = connecting.await.map_err(|error| failed(&error))?;
    let (send, recv) = admission::ask(&quic, remote)
        .await
        .map_err(|error| error.explained(failed))?;
    let connection = Connection::new(quic, endpoint, None).map_err(|reason| {
        HandshakeError::Refused(Box::new(RefusedPeer {
            remote,
            claimed: None,
            reason,
        }))
    })?;
    Ok(Link {
        sender: ControlSender::new(&connection, send),
        receiver: ControlReceiver::new(&connection, recv),
        connection,
    })
}

fn endpoint(remote: SocketAddr, meter: &DatagramMeter) -> io::Result<Endpoint> {
    let any = match remote {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = socket::open(SocketAddr::new(any, 0))?;
    Endpoint::new_with_abstract_socket(
        limits::endpoint(),
        None,
        meter.wrap(socket)?,
        Arc::new(TokioRuntime),
    )
}
