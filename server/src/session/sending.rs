//! Transfers on their way to one peer: of adapters at most one, the newest.
//!
//! A peer that stays but does not read its adapter would otherwise make the server keep one a round: what is on its way holds the
//! memory that it is sent from. Nobody needs the adapter of an earlier round, so the newer one takes its place.

use std::time::Instant;

use protocol::message::{TransferHeader, TransferKind};
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};

use super::Session;
use super::pace::MOVED_INTERVAL;
use crate::driver::Event;
use crate::released::Payload;

/// The tasks that send. Dropping it breaks off what they send.
#[derive(Default)]
pub(super) struct Sending {
    tasks: JoinSet<()>,
    adapter: Option<AbortHandle>,
}

impl Sending {
    /// Starts to send; an earlier adapter that is still on its way is taken back.
    pub(super) fn start(&mut self, session: &Session, header: TransferHeader, payload: Payload) {
        let is_adapter = header.kind != TransferKind::Anchor;
        let task = session.clone().send_transfer(header, payload);
        let handle = self.tasks.spawn(task);
        if is_adapter && let Some(earlier) = self.adapter.replace(handle) {
            earlier.abort();
        }
    }

    /// Waits until one of them has ended; for ever if there is none.
    pub(super) async fn ended(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending().await
        }
    }
}

impl Session {
    /// Tells what broke off with the connection.
    pub(super) async fn tell_unsent(&self) {
        for unsent in self.unsent.take(self.connection.bytes_sent()) {
            self.tell(Event::Unsent {
                connection: self.id,
                participant: self.name.clone(),
                unsent,
            })
            .await;
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
            Ok(()) => {
                self.unsent.end(header.id);
                self.tell(Event::Waiting { connection }).await;
            }
            Err(error) => {
                tracing::debug!(participant = self.connection.peer().name(), %error, "transfer not sent");
            }
        }
    }
}
