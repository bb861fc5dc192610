//! One connection: tasks that move messages and bytes between the network and the driver, and decide nothing.

use std::{net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use protocol::{
    TransferId,
    close::CloseCode,
    message::{ToClient, ToServer, TransferHeader},
    quic::{
        self, Closed, Connection, ControlFault, ControlReceiver, ControlSender, DatagramMeter,
        HandshakeError, Link, TransferError, TransferFault,
    },
};
use tokio::{
    sync::{
        OwnedSemaphorePermit, Semaphore,
        mpsc::{UnboundedReceiver, UnboundedSender, channel, unbounded_channel},
        oneshot,
    },
    task::{AbortHandle, JoinSet, spawn_blocking},
};

use super::{
    arrivals::{Arrival, Arrivals, Piece},
    egress::Recorded,
    happening::{Attempt, DialError, Happening, Heard},
};
use crate::{observer::Event, settings::Settings, state::StateError};

/// Handfuls of a transfer that may wait for the disk, each of at most 64 packets.
const PIECES_MAX: usize = 4;
/// Messages that may wait for the driver, each of at most 64 KiB.
pub(super) const MESSAGES_MAX: usize = 16;
/// Transfers that may, each of which may be an adapter. The next one is read when this one was looked at.
const TRANSFERS_MAX: usize = 1;

/// The driver's hold on a connection. Dropping it ends the tasks and the connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) attempt: Attempt,
    pub(super) connection: Connection,
    outgoing: UnboundedSender<Recorded<ToServer>>,
    /// The last update that was to be sent.
    upload: Option<(TransferId, AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Session {
    /// Starts the tasks of a fresh connection.
    pub(super) fn start(
        link: Link,
        attempt: Attempt,
        transfer_bytes_max: u64,
        arrivals: &Arc<Arrivals>,
        happenings: &UnboundedSender<Happening>,
    ) -> Self {
        let Link {
            connection,
            sender,
            receiver,
        } = link;
        let (outgoing, queue) = unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(write(sender, queue));
        tasks.spawn(read(
            receiver,
            connection.clone(),
            attempt,
            happenings.clone(),
        ));
        let (connected, told) = (connection.clone(), happenings.clone());
        let arrivals = Arc::clone(arrivals);
        tasks.spawn(take_transfers(
            connected,
            attempt,
            transfer_bytes_max,
            arrivals,
            told,
        ));
        Self {
            attempt,
            connection,
            outgoing,
            upload: None,
            tasks,
        }
    }

    /// Queues a message.
    pub(super) fn send(&self, message: Recorded<ToServer>) {
        // Without a receiver the connection is gone, which its reader reports.
        let _ = self.outgoing.send(message);
    }

    /// Sends the update's bytes, the last ones once it is `kept`.
    pub(super) fn deliver(
        &mut self,
        header: Recorded<TransferHeader>,
        (payload, kept): (Bytes, impl Future<Output = ()> + Send + 'static),
        observe: impl Fn(&Event) + Send + Sync + 'static,
        happenings: UnboundedSender<Happening>,
    ) {
        let (connection, header) = (self.connection.clone(), header.leaves());
        let missing = header.remaining();
        let upload = self.tasks.spawn(async move {
            let (round, bytes) = (header.round, header.bytes);
            let progress = |sent| observe(&Event::Uploading { round, sent, bytes });
            let sending = connection.send_transfer_held(&header, payload, kept, progress);
            match sending.await {
                Ok(()) => drop(happenings.send(Happening::Delivered(missing))),
                // The server says on the control stream why it stopped reading, and a lost connection is reported by
                // its reader; either way the update is offered again if it is still wanted.
                Err(error) => tracing::debug!(%round, %error, "the update was not delivered"),
            }
        });
        // What is asked for anew, from another byte, is sent instead and not besides.
        if let Some((_, before)) = self.upload.replace((header.id, upload)) {
            before.abort();
        }
    }

    /// Sends no more of this update: what has not left does not leave, and the server hears that it was withdrawn.
    pub(super) fn withdraw(&mut self, transfer: TransferId) {
        if let Some((_, upload)) = self.upload.take_if(|(id, _)| *id == transfer) {
            upload.abort();
        }
    }

    /// Ends the connection with a code for the server.
    pub(super) fn close(&self, code: CloseCode) {
        self.connection.close(code);
    }
}

/// Resolves the server's name and connects to the first address that answers.
pub(super) async fn dial(
    settings: Settings,
    meter: &DatagramMeter,
    of: (Attempt, &UnboundedSender<Happening>),
) -> Result<Link, DialError> {
    let server = &settings.server;
    let unknown = |what: String| DialError::Address(format!("cannot resolve {server}: {what}"));
    let addresses = tokio::net::lookup_host(server.as_str()).await;
    let addresses: Vec<_> = addresses
        .map_err(|error| unknown(error.to_string()))?
        .collect();
    let answered = dial_in_turn(&addresses, &settings, meter, of).await;
    let nowhere = || Err(unknown("the name has no address".to_owned()));
    answered.map_or_else(nowhere, |link| link.map_err(DialError::Handshake))
}

/// Connects to the first of these addresses that answers; nothing if there is none. The driver has written down that the first is
/// dialed, and does so for each that follows.
pub(super) async fn dial_in_turn(
    addresses: &[SocketAddr],
    settings: &Settings,
    meter: &DatagramMeter,
    (attempt, happenings): (Attempt, &UnboundedSender<Happening>),
) -> Option<Result<Link, HandshakeError>> {
    let mut last = None;
    for &address in addresses {
        if last.is_some() {
            let (written, told) = oneshot::channel();
            let next = Happening::Redialing {
                attempt,
                address,
                written,
            };
            // Of a driver that does not answer nobody waits for this connection.
            if happenings.send(next).is_err() || told.await.is_err() {
                break;
            }
        }
        let dialed = quic::connect_metered(address, &settings.tls, &settings.limits, meter).await;
        match dialed {
            Err(error) if error.is_temporary() => last = Some(Err(error)),
            done => return Some(done),
        }
    }
    last
}

async fn write(mut sender: ControlSender, mut queue: UnboundedReceiver<Recorded<ToServer>>) {
    while let Some(message) = queue.recv().await.map(Recorded::leaves) {
        tracing::trace!(message = message.name(), "sending");
        if let Err(error) = sender.send(&message).await {
            tracing::debug!(%error, "a message was not sent");
            return;
        }
    }
}

/// Waits until there is room for one more.
async fn free_place(places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let place = Arc::clone(places).acquire_owned().await;
    place.expect("a semaphore that nobody closes")
}

async fn read(
    mut receiver: ControlReceiver,
    connection: Connection,
    attempt: Attempt,
    happenings: UnboundedSender<Happening>,
) {
    let places = Arc::new(Semaphore::new(MESSAGES_MAX));
    loop {
        let heard = Heard {
            attempt,
            _place: free_place(&places).await,
        };
        let happening = match receiver.recv::<ToClient>().await {
            Ok(Some(message)) => Happening::Message(heard, message),
            // The server says nothing more; the connection's own end follows.
            Ok(None) => Happening::Gone(attempt, connection.closed().await),
            Err(error) => match error.fault {
                ControlFault::Closed(closed) => Happening::Gone(attempt, closed),
                ControlFault::Cut | ControlFault::Abandoned => {
                    Happening::Gone(attempt, Closed::Broken(error.to_string()))
                }
                ControlFault::Encode(_) | ControlFault::Frame(_) | ControlFault::Decode(_) => {
                    Happening::Malformed(attempt, error.to_string())
                }
            },
        };
        let is_last = !matches!(happening, Happening::Message(..));
        if happenings.send(happening).is_err() || is_last {
            return;
        }
    }
}

/// What one transfer came to: its header, and what became of its bytes unless they cannot be kept.
type Taken = (TransferHeader, Result<Arrival, StateError>);

async fn take_transfers(
    connection: Connection,
    attempt: Attempt,
    bytes_max: u64,
    arrivals: Arc<Arrivals>,
    happenings: UnboundedSender<Happening>,
) {
    let places = Arc::new(Semaphore::new(TRANSFERS_MAX));
    loop {
        let heard = Heard {
            attempt,
            _place: free_place(&places).await,
        };
        let happening = match take_transfer(&connection, bytes_max, &arrivals).await {
            Ok((header, Ok(Arrival::Whole(bytes)))) => {
                Happening::Received(heard, Box::new(header), bytes)
            }
            Ok((header, Ok(Arrival::Rebuilt(rebuilt)))) => {
                Happening::Rebuilt(heard, Box::new(header), rebuilt)
            }
            Ok((header, Ok(Arrival::Unusable(unusable)))) => {
                Happening::Unusable(heard, Box::new(header), unusable)
            }
            Ok((header, Ok(Arrival::Misfit))) => Happening::Misfit(heard, Box::new(header)),
            Ok((header, Ok(Arrival::Damaged))) => Happening::Damaged(heard, Box::new(header)),
            // The reader of the control stream reports the end.
            Ok((_, Ok(Arrival::Part))) => return,
            Ok((_, Err(error))) => Happening::Unkept(error),
            Err(error) => match error.fault {
                TransferFault::Closed(_) => return,
                // The server broke it off: it sends again what is still wanted.
                TransferFault::Abandoned | TransferFault::Refused(_) => continue,
                _ => Happening::Malformed(attempt, error.to_string()),
            },
        };
        let is_last = matches!(happening, Happening::Unkept(_) | Happening::Malformed(..));
        if happenings.send(happening).is_err() || is_last {
            return;
        }
    }
}

/// Takes in the next transfer; its bytes are kept and hashed on a thread that may wait for the disk.
async fn take_transfer(
    connection: &Connection,
    bytes_max: u64,
    arrivals: &Arc<Arrivals>,
) -> Result<Taken, TransferError> {
    let mut incoming = connection.accept_transfer().await?;
    incoming.limit(bytes_max)?;
    let header = *incoming.header();
    if let Some(turned_away) = arrivals.turn_away(&header) {
        incoming.refuse(CloseCode::BadTransfer);
        return Ok((header, Ok(turned_away)));
    }
    if 0 < header.offset {
        let (kind, offset, bytes) = (header.kind.label(), header.offset, header.bytes);
        tracing::info!(kind, offset, bytes, "a transfer goes on where it broke off");
    }
    let (pieces, queue) = channel(PIECES_MAX);
    let kept = Arc::clone(arrivals);
    let writer = spawn_blocking(move || kept.receive(&header, queue));
    while let Some(handful) = incoming.next().await? {
        if pieces.send(Piece::Bytes(handful)).await.is_err() {
            // The writer says below why it stopped.
            break;
        }
    }
    // Without its writer there is nothing to end.
    let _ = pieces.send(Piece::End).await;
    drop(pieces);
    let arrival = writer.await.unwrap_or_else(|panic| {
        let source = std::io::Error::other(panic);
        Err(StateError::io("keep", Path::new("what arrives"))(source))
    });
    Ok((header, arrival))
}
