//! Adapters and the anchor on their way to a participant: from which byte, and once more if need be.

use super::{Action, Coordinator, Phase};
use crate::ids::{ConnectionId, Round, TransferId};
use crate::message::{TransferHeader, TransferKind};
use crate::violation::Breach;

impl Coordinator {
    /// The transfer of the adapter that a round starts from.
    pub(super) fn global(&self, round: Round) -> TransferHeader {
        let kind = TransferKind::GlobalAdapter;
        TransferHeader::from_server(kind, round, self.plan.digest(), self.adapter)
    }

    /// Has a content sent, from the first byte that the participant lacks.
    pub(super) fn send_transfer(&mut self, connection: ConnectionId, header: TransferHeader) {
        let mut offset = 0;
        if let Some(link) = self.roster.link_mut(connection) {
            let listed = link
                .begun
                .iter()
                .position(|begun| begun.sha256 == header.sha256);
            // What is there is known for the first transfer after joining; later ones bring it whole.
            offset = listed.map_or(0, |place| link.begun.swap_remove(place).bytes);
            offset = offset.min(header.bytes);
            if 0 < offset {
                link.continued.push(header.id);
            }
        }
        let header = header.at(offset);
        self.actions
            .push_back(Action::SendTransfer { connection, header });
    }

    /// A beginning turned out to be damaged: the whole follows, once, if it is still of use.
    pub(super) fn take_resend(
        &mut self,
        connection: ConnectionId,
        transfer: TransferId,
    ) -> Result<(), Breach> {
        let Some(link) = self.roster.link_mut(connection) else {
            return Ok(());
        };
        let Some(place) = link.continued.iter().position(|&id| id == transfer) else {
            return Err(Breach::BadTransfer {
                what: "id in Resend",
                found: transfer.to_string(),
                expected: "that of a transfer which was not sent from its first byte".to_owned(),
            });
        };
        link.continued.swap_remove(place);
        let wanted = self.on_offer().find(|header| header.id == transfer);
        if let Some(header) = wanted {
            self.actions
                .push_back(Action::SendTransfer { connection, header });
        }
        Ok(())
    }

    /// What participants may need now.
    fn on_offer(&self) -> impl Iterator<Item = TransferHeader> {
        let adapter = match &self.phase {
            Phase::Open(open) => Some(self.global(open.round)),
            Phase::Finishing { adapter, .. } => Some(*adapter),
            Phase::Joining { .. } | Phase::Aggregating { .. } | Phase::Over { .. } => None,
        };
        self.anchor.into_iter().chain(adapter)
    }
}
