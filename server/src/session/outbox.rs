//! What waits to be written to a peer: bounded, so that one that does not read is cut off and not waited for.

use std::sync::Arc;

use protocol::close::CloseCode;
use protocol::message::{ToClient, TransferHeader};
use protocol::quic::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::asked::Asked;
use super::unsent::Unsent;
use crate::released::Payload;

/// Messages and transfers that may wait for one peer, besides records. A peer that reads gets by with a handful.
const OUTBOX_MAX: usize = 64;

/// Something to be written to a peer.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Message(Box<ToClient>),
    Transfer {
        header: TransferHeader,
        payload: Payload,
    },
    Close(CloseCode),
}

/// The driver's end of a session.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: mpsc::UnboundedSender<Queued>,
    /// What may still be queued, in places.
    room: Arc<Semaphore>,
    asked: Asked,
    unsent: Unsent,
    connection: Connection,
}

/// What waits to be written, with its place in the outbox; records wait without one.
pub(super) type Queued = (Outgoing, Option<OwnedSemaphorePermit>);

impl Outbox {
    pub(super) fn new(
        queue: mpsc::UnboundedSender<Queued>,
        (asked, unsent): (Asked, Unsent),
        connection: Connection,
    ) -> Self {
        Self {
            queue,
            room: Arc::new(Semaphore::new(OUTBOX_MAX)),
            asked,
            unsent,
            connection,
        }
    }

    /// The connection itself.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Queues something for the peer. One that lets its queue fill up is cut off.
    pub(crate) fn put(&self, outgoing: Outgoing) {
        match &outgoing {
            Outgoing::Message(message) => self.asked.note(message),
            Outgoing::Transfer { header, .. } => {
                self.unsent.begin(header, self.connection.bytes_sent());
            }
            Outgoing::Close(_) => {}
        }
        let place = if is_record(&outgoing) {
            None
        } else {
            let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
                return self.connection.close(CloseCode::Stalled);
            };
            Some(place)
        };
        // A session that has ended needs nothing more.
        let _ = self.queue.send((outgoing, place));
    }
}

/// Whether this is a round's record. A newcomer is sent those of all rounds at once, each of them once a connection: that
/// many say nothing about how well it reads, and there are never more than rounds.
fn is_record(outgoing: &Outgoing) -> bool {
    matches!(outgoing, Outgoing::Message(message) if matches!(**message, ToClient::Recorded(_)))
}
