//! Transfers on their way to one peer: of adapters at most one, the newest.
//!
//! A peer that stays but does not read its adapter would otherwise make the server keep one a round: what is on its way holds the
//! memory that it is sent from. Nobody needs the adapter of an earlier round, so the newer one takes its place.

use protocol::message::{TransferHeader, TransferKind};
use tokio::task::{AbortHandle, JoinSet};

use super::Session;
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
