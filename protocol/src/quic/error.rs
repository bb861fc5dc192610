//! What goes wrong between two endpoints, and whose fault it is.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::ConnectionError;
use thiserror::Error;

use super::rejection::{PeerRefusal, Rejection};
use crate::close::CloseCode;
use crate::identity::{Identity, Role};

/// QUIC's transport error code for a connection refused before its handshake (RFC 9000, 20.1).
const CONNECTION_REFUSED: u64 = 0x02;

/// Why an endpoint cannot listen.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Our certificate is not a server's.
    #[error("{identity} cannot listen: the certificate of a server is needed")]
    Role {
        /// Whose certificate it is.
        identity: Box<Identity>,
    },
    /// The UDP socket cannot be opened.
    #[error("cannot listen on UDP {address}: {cause}")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
}

/// Why a connection did not come about.
///
/// An identity in it is what the peer's certificate claims, which a stranger can also claim: it
/// is good for a log line and for nothing else.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// We refused the peer's certificate.
    #[error("refused {}: {}", .0.peer(), .0.reason)]
    Refused(Box<RefusedPeer>),
    /// The peer refused our certificate.
    #[error("the peer at {remote} refused {own}: {reason}")]
    RefusedByPeer {
        /// Where the peer is.
        remote: SocketAddr,
        /// Who we are.
        own: Box<Identity>,
        /// What its alert says, and what to do.
        reason: PeerRefusal,
    },
    /// The server is at its limit of connections or handshakes.
    #[error("the server at {remote} takes no more connections now; try again later")]
    Busy {
        /// Where the server is.
        remote: SocketAddr,
    },
    /// We are at a limit, and turned peers away unseen. At most one of these a second; the last peer stands for all.
    #[error(
        "turned {count} away unseen, the last at {remote}: as many {limit} as are allowed are open"
    )]
    TurnedAway {
        /// Where the last of them is.
        remote: SocketAddr,
        /// How many since the last time.
        count: u64,
        /// What there are too many of.
        limit: &'static str,
    },
    /// The peer ended the connection before it was admitted.
    #[error("the peer at {remote} ended the handshake: {closed}")]
    Closed {
        /// Where the peer is.
        remote: SocketAddr,
        /// How.
        closed: Closed,
    },
    /// No answer, or too slow a one.
    #[error(
        "no complete handshake with {remote} within {} s; \
         is it up, and does the firewall let UDP through?",
        after.as_secs_f32()
    )]
    TimedOut {
        /// Where the peer should be.
        remote: SocketAddr,
        /// How long we waited.
        after: Duration,
    },
    /// The peer speaks something else.
    #[error("the peer at {remote} does not speak foedus/1: {what}")]
    Foreign {
        /// Where the peer is.
        remote: SocketAddr,
        /// What it did instead.
        what: String,
    },
    /// Our certificate is not a participant's, so that no server would take it.
    #[error("{identity} cannot connect: the certificate of a {expected} is needed")]
    Role {
        /// Whose certificate it is.
        identity: Box<Identity>,
        /// The role needed.
        expected: Role,
    },
    /// Our own socket or address.
    #[error("cannot reach {remote}: {what}")]
    Local {
        /// Where we wanted to go.
        remote: SocketAddr,
        /// What stood in the way.
        what: String,
    },
}

/// A peer whose certificate we refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RefusedPeer {
    /// Where it is.
    pub remote: SocketAddr,
    /// Who its certificate claims to be, if that could be read.
    pub claimed: Option<Identity>,
    /// What is wrong.
    pub reason: Rejection,
}

impl RefusedPeer {
    fn peer(&self) -> String {
        match &self.claimed {
            Some(identity) => format!("{identity} at {}", self.remote),
            None => format!("a peer at {}", self.remote),
        }
    }
}

impl HandshakeError {
    /// Returns the peer whose certificate we refused, if that is what happened.
    pub fn refused(&self) -> Option<&RefusedPeer> {
        match self {
            Self::Refused(peer) => Some(peer),
            _ => None,
        }
    }

    /// Says whether the same attempt can succeed later without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Busy { .. }
            | Self::TurnedAway { .. }
            | Self::TimedOut { .. }
            | Self::Local { .. } => true,
            Self::Closed { closed, .. } => closed.is_temporary(),
            Self::Refused(_)
            | Self::RefusedByPeer { .. }
            | Self::Foreign { .. }
            | Self::Role { .. } => false,
        }
    }

    /// Returns a short constant name, for metrics and structured logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Refused(peer) => peer.reason.label(),
            Self::RefusedByPeer { reason, .. } => reason.label(),
            Self::Busy { .. } => "busy",
            Self::TurnedAway { .. } => "turned-away",
            Self::Closed { .. } => "closed",
            Self::TimedOut { .. } => "timed-out",
            Self::Foreign { .. } => "foreign",
            Self::Role { .. } => "own-role",
            Self::Local { .. } => "local",
        }
    }
}

/// How a connection ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Closed {
    /// The peer closed it with a code of the close table.
    ByPeer(CloseCode),
    /// The peer closed it with a code that this version does not know.
    ByPeerUnknown(u64),
    /// The peer refused our certificate.
    RefusedByPeer(PeerRefusal),
    /// We closed it.
    Here,
    /// The peer fell silent.
    Silent,
    /// The peer restarted or broke the transport's rules; the text is ours.
    Broken(String),
}

impl Closed {
    /// Says whether a new attempt is sensible without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Silent | Self::Broken(_) => true,
            Self::ByPeer(code) => code.is_temporary(),
            Self::ByPeerUnknown(_) | Self::RefusedByPeer(_) | Self::Here => false,
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByPeer(code) => write!(f, "closed by the peer: {code}"),
            Self::ByPeerUnknown(code) => {
                write!(f, "closed by the peer with the unknown code {code}")
            }
            Self::RefusedByPeer(reason) => write!(f, "refused by the peer: {reason}"),
            Self::Here => f.write_str("closed on our side"),
            Self::Silent => f.write_str("the peer fell silent"),
            Self::Broken(what) => f.write_str(what),
        }
    }
}

impl From<&ConnectionError> for Closed {
    fn from(error: &ConnectionError) -> Self {
        match error {
            // Our own side always gives a reason: this is quinn closing what a peer dropped.
            ConnectionError::ApplicationClosed(close) if close.reason.is_empty() => {
                Self::Broken("the peer dropped the connection".to_owned())
            }
            ConnectionError::ApplicationClosed(close) => {
                let wire = close.error_code.into_inner();
                let known = u32::try_from(wire).ok().and_then(CloseCode::from_wire);
                known.map_or(Self::ByPeerUnknown(wire), Self::ByPeer)
            }
            ConnectionError::ConnectionClosed(close) => {
                let refusal = alert(u64::from(close.error_code)).and_then(PeerRefusal::from_alert);
                refusal.map_or_else(
                    || Self::Broken(format!("the peer gave up: {}", close.error_code)),
                    Self::RefusedByPeer,
                )
            }
            ConnectionError::LocallyClosed => Self::Here,
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::Reset => Self::Broken("the peer has restarted".to_owned()),
            ConnectionError::TransportError(error) => {
                Self::Broken(format!("the peer broke the rules of QUIC: {}", error.code))
            }
            ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => {
                Self::Broken(error.to_string())
            }
        }
    }
}

/// Returns the TLS alert in a transport error code (RFC 9001, section 4.8).
fn alert(code: u64) -> Option<u8> {
    u8::try_from(code.checked_sub(0x100)?).ok()
}

/// Explains a handshake that failed for a reason other than what our verifier found.
pub(super) fn explain(
    error: &ConnectionError,
    remote: SocketAddr,
    own: &Identity,
    timeout: Duration,
) -> HandshakeError {
    match error {
        ConnectionError::TransportError(error) => {
            local_fault(u64::from(error.code), &error.to_string(), remote)
        }
        ConnectionError::ConnectionClosed(close)
            if u64::from(close.error_code) == CONNECTION_REFUSED =>
        {
            HandshakeError::Busy { remote }
        }
        ConnectionError::TimedOut => HandshakeError::TimedOut {
            remote,
            after: timeout,
        },
        ConnectionError::VersionMismatch => HandshakeError::Foreign {
            remote,
            what: "another version of QUIC".to_owned(),
        },
        other => match Closed::from(other) {
            Closed::RefusedByPeer(reason) => HandshakeError::RefusedByPeer {
                remote,
                own: Box::new(own.clone()),
                reason,
            },
            closed => HandshakeError::Closed { remote, closed },
        },
    }
}

/// Explains an error that our own TLS or QUIC raised about what the peer sent.
fn local_fault(code: u64, text: &str, remote: SocketAddr) -> HandshakeError {
    const CERTIFICATE_REQUIRED: u8 = 116;
    if alert(code) == Some(CERTIFICATE_REQUIRED) {
        return HandshakeError::Refused(Box::new(RefusedPeer {
            remote,
            claimed: None,
            reason: Rejection::NoCertificate,
        }));
    }
    HandshakeError::Foreign {
        remote,
        what: text.escape_debug().to_string(),
    }
}
