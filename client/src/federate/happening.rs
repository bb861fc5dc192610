//! Everything that the driver can hear of while it waits.

use std::net::SocketAddr;

use bytes::Bytes;
use protocol::{
    Round,
    message::{ToClient, TransferHeader},
    plan::CheckedPlan,
    quic::{Closed, Link},
    secagg::{AttemptId, MemberId},
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc::UnboundedSender, oneshot},
    task::spawn_blocking,
};

use super::{
    arrivals::{Rebuilt, Unusable},
    driver::Masked,
    training::TrainingEnd,
};
use crate::{error::ClientError, site::Agreement, state::StateError};

/// One thing that happened.
pub(super) enum Happening {
    /// The server does not answer at one of its addresses: the next one is dialed once this is answered, and not if nobody does.
    Redialing {
        /// The attempt.
        attempt: Attempt,
        /// The next address.
        address: SocketAddr,
        /// To be told when the greeting is written down.
        written: oneshot::Sender<()>,
    },
    /// A connection is open, or could not be opened.
    Dialed {
        /// The attempt.
        attempt: Attempt,
        /// The link or the reason.
        outcome: Result<Link, DialError>,
    },
    /// A message arrived.
    Message(Heard, ToClient),
    /// What arrived is no message, or a transfer is broken.
    Malformed(Attempt, String),
    /// The connection is gone.
    Gone(Attempt, Closed),
    /// A content is here whole.
    Received(Heard, Box<TransferHeader>, Bytes),
    /// An adapter was rebuilt from the delta with this header.
    Rebuilt(Heard, Box<TransferHeader>, Rebuilt),
    /// No adapter came of the delta with this header.
    Unusable(Heard, Box<TransferHeader>, Unusable),
    /// What was announced is nothing that the plan has, and was not taken in.
    Misfit(Heard, Box<TransferHeader>),
    /// With what was here before it is another content than announced.
    Damaged(Heard, Box<TransferHeader>),
    /// The disk does not keep what arrives.
    Unkept(StateError),
    /// The update's bytes were delivered.
    Delivered(u64),
    /// The plan was compared with what this site has.
    PlanChecked(Box<Result<Agreed, ClientError>>),
    /// Steps were done.
    Stepped(Round, u32),
    /// A training has ended.
    Trained(Box<TrainingEnd>),
    /// The finished update is on disk, or cannot be put there.
    Kept(Result<(), StateError>),
    /// The update is masked for an attempt, or the shares of a member cannot be used.
    Masked(AttemptId, Box<Result<Masked, MemberId>>),
    /// A thread of ours ended without a result.
    Lost(String),
}

impl Happening {
    /// Works on a blocking thread, and tells what came of it even if that thread panics: the machine waits to hear.
    pub(super) fn of_thread(
        what: &'static str,
        work: impl FnOnce() -> Self + Send + 'static,
        happenings: UnboundedSender<Self>,
    ) {
        tokio::spawn(async move {
            let happening = spawn_blocking(work).await;
            let happening =
                happening.unwrap_or_else(|panic| Self::Lost(format!("{what}: {panic}")));
            // Without a receiver the run is over.
            let _ = happenings.send(happening);
        });
    }
}

/// Numbers the attempts to connect, so that what an old connection still says is not taken for the new one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt(pub(super) u64);

/// On which connection something came. Until it was handled it has one of the few places that the connection has for what came, so a
/// server that says more than is listened to has to wait, and its words take up no memory.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) attempt: Attempt,
    pub(super) _place: OwnedSemaphorePermit,
}

/// Why no connection came about.
pub(super) enum DialError {
    /// The server's name has no address now.
    Address(String),
    /// The handshake failed.
    Handshake(protocol::quic::HandshakeError),
}

impl std::fmt::Display for DialError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(what) => f.write_str(what),
            Self::Handshake(error) => error.fmt(f),
        }
    }
}

/// A plan that we can agree to, with what it takes.
pub(super) struct Agreed {
    pub(super) plan: CheckedPlan,
    pub(super) agreement: Box<dyn Agreement>,
}
