//! One connection: moves bytes between the network and the driver, and decides nothing.
//!
//! Three tasks a connection: one reads the control stream, one receives updates, one writes what the driver hands over. Each
//! transfer that is sent is a task, too. All end with the connection; the thread that writes an update ends soon after. What must
//! not grow is bounded here: messages in wait to be written, pieces in wait for the disk, updates over all participants that are
//! received at a time or held in memory until they are judged, what each may send ahead of our reading, and the time a peer may
//! refuse to read.

mod asked;
mod ending;
mod outbox;
mod pace;
mod receiving;
mod sending;
mod unsent;
mod window;

use std::sync::Arc;
use std::time::Duration;

use protocol::close::CloseCode;
use protocol::message::ToServer;
use protocol::quic::{Closed, Connection, ControlFault, ControlReceiver, ControlSender, Link};
use protocol::{ConnectionId, ParticipantName};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::timeout;

use self::asked::Asked;
use self::outbox::Queued;
pub(crate) use self::outbox::{Outbox, Outgoing};
use self::sending::Sending;
use self::unsent::Unsent;
pub(crate) use self::window::NARROW_BYTES;
use crate::driver::Event;
use crate::spool::Spool;

/// How long the transport may take to hand one message to a peer that does not read.
const SEND_LIMIT: Duration = Duration::from_secs(20);
/// How long a peer has to read why the run failed before its connection is closed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What all sessions of a server share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) events: mpsc::Sender<Event>,
    /// Room for updates that are on their way or held in memory, in bytes.
    pub(crate) room: Arc<Semaphore>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) update_bytes: u64,
    /// What a participant may send ahead of our reading while its update is received.
    pub(crate) window_bytes: u32,
    /// A delivery slower than this is not reported as moving.
    pub(crate) bytes_per_second_min: u64,
    /// The plan's: how long a delivery may go without moving.
    pub(crate) stall_limit: Duration,
}

/// Starts the tasks of a connection. The session's end is reported as [`Event::Disconnected`].
pub(crate) fn start(
    tasks: &mut JoinSet<()>,
    (id, name): (ConnectionId, ParticipantName),
    link: Link,
    shared: Shared,
) -> Outbox {
    let (queue, outgoing) = mpsc::unbounded_channel();
    let (asked, unsent) = (Asked::default(), Unsent::default());
    let connection = link.connection.clone();
    let session = Session {
        id,
        name,
        connection: connection.clone(),
        shared,
        asked: asked.clone(),
        unsent: unsent.clone(),
    };
    tasks.spawn(session.run(link, outgoing));
    Outbox::new(queue, (asked, unsent), connection)
}

#[derive(Clone)]
struct Session {
    id: ConnectionId,
    name: ParticipantName,
    connection: Connection,
    shared: Shared,
    asked: Asked,
    unsent: Unsent,
}

impl Session {
    async fn run(self, link: Link, outgoing: mpsc::UnboundedReceiver<Queued>) {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.clone().read(link.receiver));
        tasks.spawn(self.clone().receive_updates());
        let writer = tasks.spawn(self.clone().write(link.sender, outgoing)).id();
        self.wait_for_writer(tasks, writer).await;
        self.tell_unbegun().await;
        self.tell_unsent().await;
        let how = self.connection.close_reason().unwrap_or(Closed::Here);
        self.tell(Event::Disconnected {
            connection: self.id,
            how,
        })
        .await;
    }

    /// Returns once the writer has ended, and no task of the connection is left.
    async fn wait_for_writer(&self, mut tasks: JoinSet<()>, writer: task::Id) {
        while let Some(ended) = tasks.join_next_with_id().await {
            match ended {
                Ok((task, ())) if task == writer => break,
                // A peer that has nothing more to say may still listen.
                Ok(_) => {}
                Err(panic) => self.give_up(&panic),
            }
        }
        // Nobody takes up any more what was asked for.
        tasks.shutdown().await;
    }

    /// A task of the connection panicked. Without it the connection is of no use, and a new one begins anew.
    fn give_up(&self, panic: &JoinError) {
        tracing::error!(participant = %self.name, %panic, "a connection is closed for an error of ours");
        self.connection.close(CloseCode::Internal);
    }

    /// Hands an event to the driver. It is gone only when the whole run was dropped.
    async fn tell(&self, event: Event) {
        let _ = self.shared.events.send(event).await;
    }

    async fn read(self, mut receiver: ControlReceiver) {
        let connection = self.id;
        loop {
            match receiver.recv::<ToServer>().await {
                Ok(Some(message)) => {
                    self.tell(Event::Message {
                        connection,
                        message,
                    })
                    .await
                }
                // A peer that has nothing more to say may still listen.
                Ok(None) => return,
                Err(error) => match error.fault {
                    ControlFault::Closed(_) => return,
                    fault => {
                        let what = fault.to_string();
                        return self.tell(Event::Malformed { connection, what }).await;
                    }
                },
            }
        }
    }

    async fn write(self, mut sender: ControlSender, mut outgoing: mpsc::UnboundedReceiver<Queued>) {
        let mut sending = Sending::default();
        loop {
            let next = tokio::select! {
                // What is being written has left its place.
                next = outgoing.recv() => next.map(|(next, _place)| next),
                _ = self.connection.closed() => return,
                () = sending.ended() => continue,
            };
            match next {
                Some(Outgoing::Message(message)) => {
                    match timeout(SEND_LIMIT, sender.send(message.as_ref())).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return self.connection.close(CloseCode::Internal),
                        Err(_) => return self.connection.close(CloseCode::Stalled),
                    }
                }
                Some(Outgoing::Transfer { header, payload }) => {
                    sending.start(&self, header, payload);
                }
                Some(Outgoing::Close(code)) => return self.close(sender, code).await,
                None => return self.connection.close(CloseCode::ServerStopping),
            }
        }
    }

    /// Closes the connection. Closing drops what is still on its way, so why a run failed gets time to arrive.
    async fn close(&self, sender: ControlSender, code: CloseCode) {
        if code == CloseCode::RunFailed {
            sender.finish();
            // Either way the connection is closed next.
            let _ = timeout(LAST_WORDS, self.connection.closed()).await;
        }
        self.connection.close(code);
    }
}

#[cfg(test)]
mod tests {
    use certs::throwaway::{Federation, Material};
    use protocol::quic::{self, Limits, TlsMaterial};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn tls(of: &Material) -> TlsMaterial {
        TlsMaterial::from_pem(&of.certificate, &of.key, &of.authority, None).unwrap()
    }

    fn shared(folder: &std::path::Path) -> Shared {
        let (events, _) = mpsc::channel(8);
        let (spool, _) = Spool::open(folder, &[], 0).unwrap();
        Shared {
            events,
            room: Arc::new(Semaphore::new(1 << 20)),
            spool: Arc::new(spool),
            update_bytes: 1 << 20,
            window_bytes: 1 << 16,
            bytes_per_second_min: 1,
            stall_limit: PATIENCE,
        }
    }

    #[tokio::test]
    async fn a_task_that_panics_ends_its_connection_as_an_error_of_ours() {
        let certificates = Federation::create("treaty", &["north"]).unwrap();
        let limits = Limits::default();
        let own = tls(certificates.server());
        let mut listener = quic::listen("127.0.0.1:0".parse().unwrap(), &own, &limits).unwrap();
        let theirs = tls(certificates.participant("north").unwrap());
        let dial = quic::connect(listener.local_address(), &theirs, &limits);
        let (dialed, accepted) = tokio::join!(dial, listener.accept());
        let (site, link) = (dialed.unwrap(), accepted.unwrap().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let session = Session {
            id: ConnectionId(1),
            name: "north".parse().unwrap(),
            connection: link.connection.clone(),
            shared: shared(folder.path()),
            asked: Asked::default(),
            unsent: Unsent::default(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async { panic!("a defect") });
        tasks.spawn(std::future::pending());
        let connection = link.connection.clone();
        let writer = tasks.spawn(async move { drop(connection.closed().await) });
        let writer = writer.id();
        timeout(PATIENCE, session.wait_for_writer(tasks, writer))
            .await
            .unwrap();
        let closed = timeout(PATIENCE, site.connection.closed()).await.unwrap();
        assert_eq!(closed, Closed::ByPeer(CloseCode::Internal));
    }
}
