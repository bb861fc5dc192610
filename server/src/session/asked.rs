//! What the coordinator wants of one peer: the delivery that it has asked for and that has not begun, and what it wants no more.

use std::sync::{Arc, Mutex, PoisonError};

use protocol::close::RefusalReason;
use protocol::message::{ToClient, TransferHeader, TransferKind};
use protocol::{Round, TransferId};
use tokio::sync::watch;

/// Shared by the driver's end of a session, which hears what is said to the peer, and the task that receives updates.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// The transfer and from which byte, until it begins.
    delivery: Arc<Mutex<Option<(TransferId, u64)>>>,
    /// The last round whose update was refused: what still comes of it nobody waits for.
    refused: Arc<watch::Sender<Round>>,
}

impl Asked {
    /// Takes note of a message to the peer.
    pub(super) fn note(&self, message: &ToClient) {
        if let ToClient::Deliver { transfer, offset } = message {
            self.change(|delivery| *delivery = Some((*transfer, *offset)));
        }
        if let Some(round) = round_over(message) {
            self.refused
                .send_modify(|refused| *refused = round.max(*refused));
        }
    }

    /// Whether this is the transfer that was asked for, and not an earlier one again.
    pub(super) fn is(&self, header: &TransferHeader) -> bool {
        let found = Some((header.id, header.offset));
        header.kind == TransferKind::Update && self.change(|delivery| *delivery == found)
    }

    /// Takes note that the transfer that was asked for begins, if it is this one.
    pub(super) fn begins(&self, header: &TransferHeader) -> bool {
        let found = (header.id, header.offset);
        self.change(|delivery| delivery.take_if(|asked| *asked == found))
            .is_some()
    }

    /// Forgets what was asked for and did not begin, and gives it.
    pub(super) fn take(&self) -> Option<(TransferId, u64)> {
        self.change(Option::take)
    }

    /// Waits until the update of this round is wanted no more.
    pub(super) async fn refused(&self, round: Round) {
        let is_over = |refused: &Round| round <= *refused;
        let told = self.refused.subscribe().wait_for(is_over).await.map(drop);
        told.expect("the sender is held here, so the channel is open");
    }

    fn change<T>(&self, change: impl FnOnce(&mut Option<(TransferId, u64)>) -> T) -> T {
        let mut delivery = self.delivery.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut delivery)
    }
}

/// The round that is over for a peer once it is told so; none if it was told of an update that was never the one asked for.
fn round_over(message: &ToClient) -> Option<Round> {
    match message {
        ToClient::Refused {
            reason: RefusalReason::WrongPlan | RefusalReason::WrongRound,
            ..
        } => None,
        ToClient::Refused { round, .. } => Some(*round),
        _ => None,
    }
}
