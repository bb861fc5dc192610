//! Updates on their way from one peer: one at a time, each to the thread that puts it on disk or holds it in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::close::CloseCode;
use protocol::message::TransferHeader;
use protocol::quic::{IncomingTransfer, TransferFault};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{timeout, timeout_at};

use super::ending::{Ending, Stop, ending};
use super::pace::Pace;
use super::window::{self, Window};
use super::{Session, Shared};
use crate::driver::Event;
use crate::spool::{Arrival, Piece};

/// Handfuls of an update that may wait for the disk, each of at most 64 packets.
const PIECES_MAX: usize = 4;
/// Stall limits after which an update that does not move gives its room back. After one the coordinator ends the connection of who owes
/// it; this is for one that it does not wait for any more.
const STALL_LIMITS: u32 = 2;
/// How often a participant that waits for room on our side is reported as moving.
const WAITING_INTERVAL: Duration = Duration::from_secs(1);

impl Session {
    /// Receives one update after the other until the connection is gone.
    pub(super) async fn receive_updates(self) {
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
        let event = match self.asked.take() {
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
        if !self.asked.is(&header) {
            incoming.refuse(CloseCode::BadTransfer);
            return self.tell(Event::Unasked { connection, header }).await;
        }
        let Some(room) = self.room(header.remaining()).await else {
            return;
        };
        if !self.asked.begins(&header) {
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
        let limit = STALL_LIMITS * self.shared.stall_limit;
        let round = incoming.header().round;
        tokio::select! {
            () = self.asked.refused(round) => Err(Stop::Refused),
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

    /// Of what was asked for and did not begin, for want of room or of a connection, nothing came: it is not charged.
    pub(super) async fn tell_unbegun(&self) {
        if let Some((transfer, bytes)) = self.asked.take() {
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
}
