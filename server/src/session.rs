//! One connection: moves bytes between the network and the driver, and decides nothing.
//!
//! Three tasks a connection: one reads the control stream, one receives updates, one writes what the driver hands over. Each
//! transfer that is sent is a task, too. All end with the connection; the thread that writes an update ends soon after. What must
//! not grow is bounded here: messages in wait to be written, pieces in wait for the disk, updates over all participants that are
//! received at a time or held in memory until they are judged, what each may send ahead of our reading, and the time a peer may
//! refuse to read.

mod ending;
mod outbox;
mod pace;
mod sending;
mod window;

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::close::CloseCode;
use protocol::message::{ToServer, TransferHeader, TransferKind};
use protocol::quic::{
    Closed, Connection, ControlFault, ControlReceiver, ControlSender, IncomingTransfer, Link,
    TransferFault,
};
use protocol::{ConnectionId, ParticipantName, Round};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{timeout, timeout_at};

use self::ending::{Ending, Stop, ending};
use self::outbox::{Asked, Queued};
pub(crate) use self::outbox::{Outbox, Outgoing};
use self::pace::{MOVED_INTERVAL, Pace};
use self::sending::Sending;
pub(crate) use self::window::NARROW_BYTES;
use self::window::Window;
use crate::driver::Event;
use crate::released::Payload;
use crate::spool::{Arrival, Piece, Spool};

/// Handfuls of an update that may wait for the disk, each of at most 64 packets.
const PIECES_MAX: usize = 4;
/// How long the transport may take to hand one message to a peer that does not read.
const SEND_LIMIT: Duration = Duration::from_secs(20);
/// How long a peer has to read why the run failed before its connection is closed.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Stall limits after which an update that does not move gives its room back. After one the coordinator ends the connection of who owes
/// it; this is for one that it does not wait for any more.
const STALL_LIMITS: u32 = 2;
/// How often a participant that waits for room on our side is reported as moving.
const WAITING_INTERVAL: Duration = Duration::from_secs(1);

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
    let asked = Asked::default();
    let (refused, told) = watch::channel(Round(0));
    let connection = link.connection.clone();
    let session = Session {
        id,
        name,
        connection: connection.clone(),
        shared,
        asked: Arc::clone(&asked),
        refused: told,
    };
    tasks.spawn(session.run(link, outgoing));
    Outbox::new(queue, (asked, refused), connection)
}

#[derive(Clone)]
struct Session {
    id: ConnectionId,
    name: ParticipantName,
    connection: Connection,
    shared: Shared,
    asked: Asked,
    /// The last round whose update was refused: what still comes of it nobody waits for.
    refused: watch::Receiver<Round>,
}

impl Session {
    async fn run(self, link: Link, outgoing: mpsc::UnboundedReceiver<Queued>) {
        let mut readers = JoinSet::new();
        readers.spawn(self.clone().read(link.receiver));
        readers.spawn(self.clone().receive_updates());
        self.write(link.sender, outgoing).await;
        // Nobody takes up any more what was asked for.
        readers.shutdown().await;
        self.tell_unbegun().await;
        let how = self.connection.close_reason().unwrap_or(Closed::Here);
        self.tell(Event::Disconnected {
            connection: self.id,
            how,
        })
        .await;
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

    async fn receive_updates(self) {
        let connection = self.id;
        let mut window = Window::new(self.shared.window_bytes);
        loop {
            match self.connection.accept_transfer().await {
                Ok(incoming) => self.receive_update(incoming, &mut window).await,
                Err(error) => match error.fault {
                    TransferFault::Closed(_) => return,
                    TransferFault::Abandoned => self.abandoned(error.fault).await,
                    fault => {
                        let what = fault.to_string();
                        return self.tell(Event::Malformed { connection, what }).await;
                    }
                },
            }
        }
    }

    /// The peer let go of a stream before its header was whole: of what we asked for, if we asked for anything.
    async fn abandoned(&self, fault: TransferFault) {
        let (connection, what) = (self.id, fault.to_string());
        let asked = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.take()
        };
        let event = match asked {
            Some((transfer, _)) => Event::Cut {
                connection,
                transfer,
                what,
            },
            None => Event::Stray { connection },
        };
        self.tell(event).await;
    }

    /// Receives one update, if it was asked for; its bytes are not read otherwise.
    async fn receive_update(&self, mut incoming: IncomingTransfer, window: &mut Window) {
        let (connection, header) = (self.id, *incoming.header());
        if !self.is_asked(&header) {
            incoming.refuse(CloseCode::BadTransfer);
            return self.tell(Event::Unasked { connection, header }).await;
        }
        let Some(room) = self.room(header.remaining()).await else {
            return;
        };
        if !self.begins(&header) {
            // Another one was asked for in the meantime.
            return incoming.refuse(CloseCode::BadTransfer);
        }
        let (pieces, writer) = self.start_writer(header, room);
        let stop = match incoming.limit(self.shared.update_bytes) {
            Ok(()) => self.pass_on(&mut incoming, &pieces, window).await,
            Err(error) => Some(Stop::Fault(error.fault)),
        };
        if let Some(code) = stop.as_ref().and_then(Stop::code) {
            incoming.refuse(code);
        }
        let last = match stop.as_ref().map(ending) {
            None => Some(Piece::End),
            Some(Ending::Spoiled(_)) => Some(Piece::Spoiled),
            Some(Ending::Lost | Ending::Cut) => None,
        };
        if let Some(last) = last {
            // Without its writer there is nothing to end.
            let _ = pieces.send(last).await;
        }
        drop(pieces);
        // The writer tells what became of the bytes, also if this task does not live to see it.
        if writer.await.is_err() {
            return self
                .tell(Event::Broken("the writer of an update panicked"))
                .await;
        }
        let Some(stop) = stop else { return };
        let what = stop.to_string();
        match ending(&stop) {
            Ending::Lost => {}
            Ending::Cut => {
                self.tell(Event::Cut {
                    connection,
                    transfer: header.id,
                    what,
                })
                .await;
            }
            Ending::Spoiled(reason) => {
                self.tell(Event::Spoiled {
                    connection,
                    header,
                    reason,
                    what,
                })
                .await;
            }
        }
    }

    /// Starts the thread that takes an update's bytes and tells the driver what became of them; one that stays in memory keeps its room.
    fn start_writer(
        &self,
        header: TransferHeader,
        room: OwnedSemaphorePermit,
    ) -> (mpsc::Sender<Piece>, JoinHandle<()>) {
        let (pieces, queue) = mpsc::channel(PIECES_MAX);
        let (connection, name) = (self.id, self.name.clone());
        let Shared { events, spool, .. } = self.shared.clone();
        let writer = spawn_blocking(move || {
            let event = match spool.receive(&name, &header, queue, room) {
                Ok(Arrival::Whole(upload)) => Event::Received {
                    connection,
                    header,
                    upload,
                },
                Ok(Arrival::Part(bytes)) => {
                    let transfer = header.id;
                    Event::Kept {
                        connection,
                        participant: name,
                        transfer,
                        bytes,
                        received: bytes - header.offset,
                    }
                }
                Ok(Arrival::Other) => Event::Unusable { connection, header },
                Err(error) => Event::Failed(error),
            };
            // The driver is gone when its run was abandoned: then nobody wants the answer.
            let _ = events.blocking_send(event);
        });
        (pieces, writer)
    }

    /// Hands the bytes to the writer as they arrive; gives what kept the transfer from its end.
    async fn pass_on(
        &self,
        incoming: &mut IncomingTransfer,
        pieces: &mpsc::Sender<Piece>,
        window: &mut Window,
    ) -> Option<Stop> {
        let (connection, header) = (self.id, *incoming.header());
        let mut received = header.offset;
        let mut pace = Pace::new(self.shared.bytes_per_second_min);
        self.allow(window.widen(header.remaining()));
        loop {
            self.allow(window.narrow(header.bytes.saturating_sub(received)));
            let bytes = match self.next(incoming, &pace).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return None,
                Err(stop) => return Some(stop),
            };
            let count: u64 = bytes.iter().map(|piece| piece.len() as u64).sum();
            received += count;
            if pieces.send(Piece::Bytes(bytes)).await.is_err() {
                // The writer has told the driver why it stopped.
                return None;
            }
            if pace.is_to_be_told(count) {
                // If the driver is behind, one report less does no harm: the next one follows.
                let _ = self.shared.events.try_send(Event::Moved {
                    connection,
                    received,
                    total: header.bytes,
                });
            }
        }
    }

    /// The next bytes of an update that is wanted; none after the last.
    async fn next(
        &self,
        incoming: &mut IncomingTransfer,
        pace: &Pace,
    ) -> Result<Option<Vec<Bytes>>, Stop> {
        let (limit, round) = (
            STALL_LIMITS * self.shared.stall_limit,
            incoming.header().round,
        );
        let refused = async {
            let is_over = |refused: &Round| round <= *refused;
            if self.refused.clone().wait_for(is_over).await.is_err() {
                // The driver has let go of the connection, which is about to end.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = refused => Err(Stop::Refused),
            next = timeout_at(pace.stalls_at(limit).into(), incoming.next()) => match next {
                Ok(next) => next.map_err(|error| Stop::Fault(error.fault)),
                Err(_) => Err(Stop::Stalled(limit)),
            },
        }
    }

    fn allow(&self, window: Option<u32>) {
        if let Some(bytes) = window {
            self.connection.allow_ahead(bytes);
        }
    }

    /// Whether this is the transfer that was asked for, and not an earlier one again.
    fn is_asked(&self, header: &TransferHeader) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        header.kind == TransferKind::Update && *asked == Some((header.id, header.offset))
    }

    /// Takes note that the transfer that was asked for begins, if it is this one.
    fn begins(&self, header: &TransferHeader) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let found = (header.id, header.offset);
        asked.take_if(|asked| *asked == found).is_some()
    }

    /// Of what was asked for and did not begin, for want of room or of a connection, nothing came: it is not charged.
    async fn tell_unbegun(&self) {
        let asked = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.take()
        };
        if let Some((transfer, bytes)) = asked {
            self.tell(Event::Kept {
                connection: self.id,
                participant: self.name.clone(),
                transfer,
                bytes,
                received: 0,
            })
            .await;
        }
    }

    /// Waits for room for an update. That is our own slowness: the participant does not stall meanwhile.
    async fn room(&self, remaining: u64) -> Option<OwnedSemaphorePermit> {
        let share = window::share(remaining, self.shared.window_bytes);
        let room = Arc::clone(&self.shared.room).acquire_many_owned(share);
        tokio::pin!(room);
        loop {
            match timeout(WAITING_INTERVAL, &mut room).await {
                Ok(room) => return room.ok(),
                Err(_) => {
                    self.tell(Event::Waiting {
                        connection: self.id,
                    })
                    .await
                }
            }
        }
    }

    async fn write(
        &self,
        mut sender: ControlSender,
        mut outgoing: mpsc::UnboundedReceiver<Queued>,
    ) {
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
                    sending.start(self, header, payload);
                }
                Some(Outgoing::Close(code)) => return self.close(sender, code).await,
                None => return self.connection.close(CloseCode::ServerStopping),
            }
        }
    }

    async fn send_transfer(self, header: TransferHeader, payload: Payload) {
        let connection = self.id;
        let bytes = match payload {
            Payload::Bytes(bytes) => bytes,
            Payload::Adapter(adapter) => {
                let Ok(bytes) = spawn_blocking(move || adapter.get()).await else {
                    let what = "the encoding of an adapter panicked";
                    return self.tell(Event::Broken(what)).await;
                };
                bytes
            }
        };
        let events = self.shared.events.clone();
        let mut told_at: Option<Instant> = None;
        let progress = move |_| {
            if told_at.is_none_or(|told| told.elapsed() >= MOVED_INTERVAL) {
                told_at = Some(Instant::now());
                let _ = events.try_send(Event::Waiting { connection });
            }
        };
        match self
            .connection
            .send_transfer(&header, bytes, progress)
            .await
        {
            Ok(()) => self.tell(Event::Waiting { connection }).await,
            Err(error) => {
                tracing::debug!(participant = self.connection.peer().name(), %error, "transfer not sent");
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
