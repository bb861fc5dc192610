//! What can happen to a run, from whichever part of the server it comes.

use protocol::close::RefusalReason;
use protocol::message::{ToServer, TransferHeader};
use protocol::quic::{Closed, HandshakeError, Link, TlsMaterial};
use protocol::{ConnectionId, ParticipantName, TransferId};
use tokio::sync::oneshot;

use crate::error::ServerError;
use crate::fold::{Folded, Merged};
use crate::round::Traffic;
use crate::spool::Upload;
use crate::tally::Tally;

/// Everything that can happen to a run.
#[derive(Debug)]
pub(crate) enum Event {
    /// A peer came as far as the handshake.
    Arrived(Result<Link, HandshakeError>),
    /// A connection is gone.
    Disconnected {
        connection: ConnectionId,
        how: Closed,
    },
    /// A message arrived.
    Message {
        connection: ConnectionId,
        message: ToServer,
    },
    /// Something arrived that is no message.
    Malformed {
        connection: ConnectionId,
        what: String,
    },
    /// Bytes of an update arrived.
    Moved {
        connection: ConnectionId,
        received: u64,
        total: u64,
    },
    /// Bytes went out, or a participant waits for room on our side.
    Waiting { connection: ConnectionId },
    /// A transfer to a participant broke off, and so many of its bytes never left.
    Unsent {
        connection: ConnectionId,
        participant: ParticipantName,
        unsent: (TransferId, u64),
    },
    /// A transfer began that nobody asked for; it was turned away.
    Unasked {
        connection: ConnectionId,
        header: TransferHeader,
    },
    /// An update broke off; so much of it is kept.
    Kept {
        connection: ConnectionId,
        participant: ParticipantName,
        transfer: TransferId,
        bytes: u64,
        /// On the connection that broke.
        received: u64,
    },
    /// What arrived is another content than announced.
    Unusable {
        connection: ConnectionId,
        header: TransferHeader,
    },
    /// The sender of an update broke it off; its connection lives.
    Cut {
        connection: ConnectionId,
        transfer: TransferId,
        what: String,
    },
    /// A stream was opened and let go of, and we had asked for nothing.
    Stray { connection: ConnectionId },
    /// An update arrived whole.
    Received {
        connection: ConnectionId,
        header: TransferHeader,
        upload: Upload,
    },
    /// An update arrived, and not as announced.
    Spoiled {
        connection: ConnectionId,
        header: TransferHeader,
        reason: RefusalReason,
        what: String,
    },
    /// Updates were folded in, or not.
    Folded(Vec<Folded>),
    /// The masks of a round's sum cannot be taken off, or no sum of updates is under them.
    Unopened {
        /// Why.
        detail: String,
        /// What was moved for it, to be counted with what follows.
        traffic: Traffic,
        /// Whom we turned away meanwhile.
        turned_away: Tally,
    },
    /// A round's adapter is on disk.
    Merged(Box<Merged>),
    /// Our certificate, the authority's or its revocation list changed; or why the change is of no use.
    Identity(Result<TlsMaterial, String>),
    /// A day has passed since the run began, or since this was told.
    NewDay,
    /// The folding thread cannot go on.
    Failed(ServerError),
    /// The coordinator's deadline has come.
    Deadline,
    /// The operator wants the server to stop.
    Shutdown,
    /// Monitoring wants to know whether this loop goes round.
    Probed(oneshot::Sender<()>),
    /// A part of the server ended that must not.
    Broken(&'static str),
}
