//! The server's side of connecting: one socket, many handshakes, bounded.
//!
//! A task of the listener takes what arrives; each handshake has its own task and its own time
//! limit, so that a slow or hostile peer delays nobody else. Before a certificate has been
//! checked, a peer costs at most one of [`Limits::handshakes`], and of these an address has at most
//! [`Limits::handshakes_per_address`], so that one which leaves its handshakes half open keeps
//! nobody out but its own neighbours. When half of either is taken, an address must first prove by
//! a retry that it can receive, so that forged addresses cost nothing, nor those whom they belong to.
//! Who is turned away at a limit is counted, and told to the owner once a second at most.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use quinn::{Endpoint, Incoming, TokioRuntime, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::admission;
use super::connection::{Connection, Link};
use super::control::{ControlReceiver, ControlSender};
use super::error::{HandshakeError, ListenError, RefusedPeer, explain};
use super::limits::{self, Limits};
use super::material::TlsMaterial;
use super::origins::{Origins, Share};
use super::socket;
use super::tls;
use super::verifier::PeerVerifier;
use crate::close::CloseCode;
use crate::identity::Role;

/// Outcomes that wait for the owner; beyond them, handshakes wait, and then strangers.
const OUTCOMES_MAX: usize = 16;

/// Bidirectional streams a client may open: the control stream.
const CONTROL_STREAMS: u32 = 1;

/// How often the owner hears of those turned away.
const CROWD_INTERVAL: Duration = Duration::from_secs(1);

/// A listening endpoint. Dropping it ends its connections.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    local: SocketAddr,
    material: Arc<RwLock<TlsMaterial>>,
    outcomes: mpsc::Receiver<Result<Link, HandshakeError>>,
    acceptor: JoinHandle<()>,
}

/// Listens on the UDP address `local`; port 0 picks a free one. Needs a tokio runtime around it.
///
/// # Errors
/// [`ListenError`] if our certificate is not a server's or the socket cannot be opened.
pub fn listen(
    local: SocketAddr,
    material: &TlsMaterial,
    limits: &Limits,
) -> Result<Listener, ListenError> {
    if material.identity().role() != Role::Server {
        let identity = Box::new(material.identity().clone());
        return Err(ListenError::Role { identity });
    }
    let failed = |cause| ListenError::Socket {
        address: local,
        cause,
    };
    let base = server_config(material, limits).map_err(failed)?;
    let socket = socket::open(local).map_err(failed)?;
    let local = socket.local_addr().map_err(failed)?;
    let mut settings = limits::endpoint();
    material.reset().configure(local, &mut settings);
    let endpoint = Endpoint::new(settings, Some(base.clone()), socket, Arc::new(TokioRuntime))
        .map_err(failed)?;
    let (sender, outcomes) = mpsc::channel(OUTCOMES_MAX);
    let material = Arc::new(RwLock::new(material.clone()));
    let acceptor = Acceptor {
        endpoint: endpoint.clone(),
        base,
        limits: limits.clone(),
        material: Arc::clone(&material),
        handshakes: Arc::new(Semaphore::new(limits.handshakes)),
        origins: Origins::default(),
        connections: Arc::new(Semaphore::new(limits.connections)),
        outcomes: sender,
        crowd: Crowd::default(),
    };
    Ok(Listener {
        endpoint,
        local,
        material,
        outcomes,
        acceptor: tokio::spawn(acceptor.run()),
    })
}

fn server_config(material: &TlsMaterial, limits: &Limits) -> std::io::Result<quinn::ServerConfig> {
    let verifier = PeerVerifier::new(material, Role::Participant);
    let crypto = tls::server(material, verifier).map_err(std::io::Error::other)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(limits.transport(CONTROL_STREAMS))
        .max_incoming(limits.handshakes)
        .incoming_buffer_size(64 * 1024)
        .incoming_buffer_size_total(8 * 1024 * 1024);
    Ok(config)
}

impl Listener {
    /// Returns the address listened on, with the real port.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Waits for the next peer, admitted or not; none once the listener is closed. Cancel-safe.
    ///
    /// An error is about one peer: the owner logs it and goes on.
    pub async fn accept(&mut self) -> Option<Result<Link, HandshakeError>> {
        self.outcomes.recv().await
    }

    /// Uses other TLS material for handshakes from now on.
    ///
    /// Connections that are up stay up; their owner calls [`Connection::recheck`] on each.
    ///
    /// # Errors
    /// [`ListenError::Role`] if it is not a server's; the old material then stays in use.
    pub fn reload(&self, material: &TlsMaterial) -> Result<(), ListenError> {
        if material.identity().role() != Role::Server {
            let identity = Box::new(material.identity().clone());
            return Err(ListenError::Role { identity });
        }
        let mut current = self
            .material
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = material.clone();
        Ok(())
    }

    /// Stops listening, ends all connections with `code`, and waits until the peers have been told.
    pub async fn close(self, code: CloseCode) {
        self.acceptor.abort();
        let reason = code.sentence().as_bytes();
        self.endpoint.close(VarInt::from_u32(code.wire()), reason);
        self.endpoint.wait_idle().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.acceptor.abort();
        let code = CloseCode::ServerStopping;
        let reason = code.sentence().as_bytes();
        // After `close` the endpoint is closed already, and the first code stands.
        self.endpoint.close(VarInt::from_u32(code.wire()), reason);
    }
}

/// What the listener's task works with.
struct Acceptor {
    endpoint: Endpoint,
    base: quinn::ServerConfig,
    limits: Limits,
    material: Arc<RwLock<TlsMaterial>>,
    handshakes: Arc<Semaphore>,
    /// Of these, where they come from.
    origins: Origins,
    connections: Arc<Semaphore>,
    outcomes: mpsc::Sender<Result<Link, HandshakeError>>,
    crowd: Crowd,
}

/// Those turned away of whom the owner has not heard.
#[derive(Debug, Default)]
struct Crowd {
    count: u64,
    told_at: Option<Instant>,
}

impl Acceptor {
    async fn run(mut self) {
        let mut tasks = JoinSet::new();
        while let Some(incoming) = self.endpoint.accept().await {
            while tasks.try_join_next().is_some() {}
            let Some(((place, share), incoming)) = self.sift(incoming) else {
                continue;
            };
            let Ok(connection) = Arc::clone(&self.connections).try_acquire_owned() else {
                self.turn_away(incoming, "connections");
                continue;
            };
            let handshake = Handshake {
                endpoint: self.endpoint.clone(),
                limits: self.limits.clone(),
                material: self.current(),
                base: self.base.clone(),
                connection,
            };
            let outcomes = self.outcomes.clone();
            tasks.spawn(async move {
                let outcome = handshake.run(incoming).await;
                // An owner who is slow is no reason to keep the address's next one waiting.
                drop(share);
                // Nobody listens any more only while the listener is being dropped.
                let _ = outcomes.send(outcome).await;
                // Held until here, so that an owner who is slow bounds the tasks that wait for it.
                drop(place);
            });
        }
    }

    /// Turns away what cannot be taken on now, and makes unproven addresses prove themselves.
    fn sift(&mut self, incoming: Incoming) -> Option<((OwnedSemaphorePermit, Share), Incoming)> {
        let address = incoming.remote_address().ip();
        let (taken, most) = (
            self.origins.taken(address),
            self.limits.handshakes_per_address,
        );
        let crowded = self.handshakes.available_permits() <= self.limits.handshakes / 2;
        if (crowded || most / 2 <= taken) && incoming.may_retry() {
            // It fails only for an address that has proven itself, which `may_retry` excludes.
            let _ = incoming.retry();
            return None;
        }
        if most <= taken {
            self.turn_away(incoming, "handshakes from one address");
            return None;
        }
        match Arc::clone(&self.handshakes).try_acquire_owned() {
            Ok(permit) => Some(((permit, self.origins.take(address)), incoming)),
            Err(_) => {
                self.turn_away(incoming, "handshakes");
                None
            }
        }
    }

    /// Refuses a peer at no cost, and tells the owner of it if it has not just been told.
    fn turn_away(&mut self, incoming: Incoming, limit: &'static str) {
        let remote = incoming.remote_address();
        incoming.refuse();
        self.crowd.count += 1;
        let (count, now) = (self.crowd.count, Instant::now());
        let is_due = |told: Instant| CROWD_INTERVAL <= now - told;
        if self.crowd.told_at.is_none_or(is_due) {
            let told = HandshakeError::TurnedAway {
                remote,
                count,
                limit,
            };
            // An owner that is behind hears of them with the next one.
            if self.outcomes.try_send(Err(told)).is_ok() {
                self.crowd = Crowd {
                    count: 0,
                    told_at: Some(now),
                };
            }
        }
    }

    fn current(&self) -> TlsMaterial {
        let material = self.material.read();
        material.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One handshake.
struct Handshake {
    endpoint: Endpoint,
    limits: Limits,
    material: TlsMaterial,
    base: quinn::ServerConfig,
    connection: OwnedSemaphorePermit,
}

impl Handshake {
    async fn run(self, incoming: Incoming) -> Result<Link, HandshakeError> {
        let remote = incoming.remote_address();
        let after = self.limits.handshake_timeout;
        let admit = tokio::time::timeout(after, self.admit(incoming, remote));
        admit
            .await
            .unwrap_or(Err(HandshakeError::TimedOut { remote, after }))
    }

    async fn admit(self, incoming: Incoming, remote: SocketAddr) -> Result<Link, HandshakeError> {
        let local = |what: &dyn ToString| HandshakeError::Local {
            remote,
            what: what.to_string(),
        };
        let verifier = PeerVerifier::new(&self.material, Role::Participant);
        let crypto = tls::server(&self.material, Arc::clone(&verifier)).map_err(|e| local(&e))?;
        let mut config = self.base;
        config.crypto = Arc::new(crypto);
        let own = self.material.identity();
        let failed = |error: &quinn::ConnectionError| match verifier.finding() {
            Some(found) => HandshakeError::Refused(Box::new(RefusedPeer {
                remote,
                claimed: found.claimed.clone(),
                reason: found.reason.clone(),
            })),
            None => explain(error, remote, own, self.limits.handshake_timeout),
        };
        let connecting = incoming
            .accept_with(Arc::new(config))
            .map_err(|e| failed(&e))?;
        let quic = connecting.await.map_err(|error| failed(&error))?;
        let (send, recv) = admission::grant(&quic, remote)
            .await
            .map_err(|error| error.explained(failed))?;
        let permit = Some(self.connection);
        let connection = Connection::new(quic, self.endpoint, permit).map_err(|reason| {
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
}
