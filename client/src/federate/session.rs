//! One connection: tasks that move messages and bytes between the network and the driver, and decide nothing.

use bytes::Bytes;
use protocol::{
    close::CloseCode,
    message::{ToClient, ToServer, TransferHeader},
    quic::{
        self, Closed, Connection, ControlFault, ControlReceiver, ControlSender, DatagramMeter,
        HandshakeError, Link, TransferFault,
    },
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
};

use super::happening::{Attempt, DialError, Happening};
use crate::{observer::Event, settings::Settings};

/// The driver's hold on a connection. Dropping it ends the tasks and the connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) attempt: Attempt,
    pub(super) connection: Connection,
    outgoing: UnboundedSender<ToServer>,
    tasks: JoinSet<()>,
}

impl Session {
    /// Starts the tasks of a fresh connection.
    pub(super) fn start(
        link: Link,
        attempt: Attempt,
        transfer_bytes_max: u64,
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
        tasks.spawn(take_transfers(connected, attempt, transfer_bytes_max, told));
        Self {
            attempt,
            connection,
            outgoing,
            tasks,
        }
    }

    /// Queues a message.
    pub(super) fn send(&self, message: ToServer) {
        // Without a receiver the connection is gone, which its reader reports.
        let _ = self.outgoing.send(message);
    }

    /// Sends the update's bytes.
    pub(super) fn deliver(
        &mut self,
        header: TransferHeader,
        payload: Bytes,
        observe: impl Fn(&Event) + Send + Sync + 'static,
        happenings: UnboundedSender<Happening>,
    ) {
        let connection = self.connection.clone();
        self.tasks.spawn(async move {
            let (round, bytes) = (header.round, header.bytes);
            let progress = |sent| observe(&Event::Uploading { round, sent, bytes });
            match connection.send_transfer(&header, payload, progress).await {
                Ok(()) => drop(happenings.send(Happening::Delivered(bytes))),
                // The server says on the control stream why it stopped reading, and a lost connection is reported by
                // its reader; either way the update is offered again if it is still wanted.
                Err(error) => tracing::debug!(%round, %error, "the update was not delivered"),
            }
        });
    }

    /// Ends the connection with a code for the server.
    pub(super) fn close(&self, code: CloseCode) {
        self.connection.close(code);
    }
}

/// Resolves the server's name and connects to the first address that answers.
pub(super) async fn dial(settings: Settings, meter: &DatagramMeter) -> Result<Link, DialError> {
    let server = &settings.server;
    let unknown = |what: String| DialError::Address(format!("cannot resolve {server}: {what}"));
    let addresses = tokio::net::lookup_host(server.as_str()).await;
    let addresses: Vec<_> = addresses
        .map_err(|error| unknown(error.to_string()))?
        .collect();
    let mut last = None;
    for address in addresses {
        match quic::connect_metered(address, &settings.tls, &settings.limits, meter).await {
            Ok(link) => return Ok(link),
            Err(error) if error.is_temporary() => last = Some(error),
            Err(error) => return Err(DialError::Handshake(error)),
        }
    }
    let nowhere = || unknown("the name has no address".to_owned());
    Err(last.map_or_else(nowhere, |error: HandshakeError| DialError::Handshake(error)))
}

async fn write(mut sender: ControlSender, mut queue: UnboundedReceiver<ToServer>) {
    while let Some(message) = queue.recv().await {
        tracing::trace!(message = message.name(), "sending");
        if let Err(error) = sender.send(&message).await {
            tracing::debug!(%error, "a message was not sent");
            return;
        }
    }
}

async fn read(
    mut receiver: ControlReceiver,
    connection: Connection,
    attempt: Attempt,
    happenings: UnboundedSender<Happening>,
) {
    loop {
        let happening = match receiver.recv::<ToClient>().await {
            Ok(Some(message)) => Happening::Message(attempt, message),
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

async fn take_transfers(
    connection: Connection,
    attempt: Attempt,
    bytes_max: u64,
    happenings: UnboundedSender<Happening>,
) {
    loop {
        let received = async {
            let incoming = connection.accept_transfer().await?;
            let header = *incoming.header();
            incoming
                .receive(bytes_max, |_| {})
                .await
                .map(|bytes| (header, bytes))
        };
        let happening = match received.await {
            Ok((header, bytes)) => Happening::Received(attempt, Box::new(header), bytes),
            Err(error) => match error.fault {
                // The reader of the control stream reports the end.
                TransferFault::Closed(_) => return,
                // The server broke it off: it sends again what is still wanted.
                TransferFault::Abandoned | TransferFault::Refused(_) => continue,
                _ => Happening::Malformed(attempt, error.to_string()),
            },
        };
        let is_last = !matches!(happening, Happening::Received(..));
        if happenings.send(happening).is_err() || is_last {
            return;
        }
    }
}
