//! Adapters and the anchor on their way to a participant: whole or as a delta, from which byte, and once more if need be.

use super::{Action, Coordinator, Phase, Report};
use crate::ids::{ConnectionId, ParticipantName, Round, TransferId};
use crate::message::{ResendReason, TransferHeader, TransferKind};
use crate::plan::Download;
use crate::violation::Breach;

impl Coordinator {
    /// The transfer of the adapter that a round starts from.
    pub(super) fn global(&self, round: Round) -> TransferHeader {
        let kind = TransferKind::GlobalAdapter;
        TransferHeader::from_server(kind, round, self.plan.digest(), self.release.adapter)
    }

    /// Has an adapter sent to a participant that needs it: as a delta if it has the base of it, and that is shorter.
    pub(super) fn send_adapter(&mut self, connection: ConnectionId, adapter: TransferHeader) {
        let header = self
            .delta_for(connection, adapter)
            .filter(|delta| self.lacking(connection, delta) < self.lacking(connection, &adapter));
        if let Some(link) = self.roster.link_mut(connection) {
            link.sent = Some(adapter);
        }
        self.send_transfer(connection, header.unwrap_or(adapter));
    }

    /// The delta of this adapter, if the participant has its base.
    fn delta_for(
        &self,
        connection: ConnectionId,
        adapter: TransferHeader,
    ) -> Option<TransferHeader> {
        // One that saves nothing is of no use to its receiver.
        let delta = self.release.delta;
        let delta = delta.filter(|delta| delta.content.bytes < adapter.bytes)?;
        let name = self.roster.name(connection)?;
        let has_base = self.roster.link(name)?.bases.contains(&delta.base);
        (has_base && self.plan.download == Download::Delta)
            .then(|| adapter.delta(delta.content))
            .flatten()
    }

    /// Bytes of a content that are not there by what Ready listed.
    fn lacking(&self, connection: ConnectionId, header: &TransferHeader) -> u64 {
        let link = self.roster.name(connection);
        let link = link.and_then(|name| self.roster.link(name));
        let mut begun = link.into_iter().flat_map(|link| &link.begun);
        let begun = begun.find(|begun| begun.sha256 == header.sha256);
        header
            .bytes
            .saturating_sub(begun.map_or(0, |begun| begun.bytes))
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
            if 0 < offset || header.kind.is_delta() {
                link.resendable.push(header.id);
            }
        }
        let header = header.at(offset);
        self.actions
            .push_back(Action::SendTransfer { connection, header });
    }

    /// A beginning turned out to be damaged, or a delta of no use: the whole follows, once, if it is still wanted.
    pub(super) fn take_resend(
        &mut self,
        connection: ConnectionId,
        name: &ParticipantName,
        (transfer, reason): (TransferId, ResendReason),
    ) -> Result<(), Breach> {
        let Some(link) = self.roster.link_mut(connection) else {
            return Ok(());
        };
        let Some(place) = link.resendable.iter().position(|&id| id == transfer) else {
            return Err(Breach::BadTransfer {
                what: "id in Resend",
                found: transfer.to_string(),
                expected:
                    "that of a delta, or of a transfer which was not sent from its first byte"
                        .to_owned(),
            });
        };
        link.resendable.swap_remove(place);
        let delta = self.release.delta;
        let is_meant = |header: &TransferHeader| {
            let delta = delta.and_then(|delta| header.delta(delta.content));
            header.id == transfer || delta.is_some_and(|delta| delta.id == transfer)
        };
        let wanted = self.on_offer().find(is_meant);
        if let Some(header) = wanted {
            self.report(Report::Resending {
                participant: name.clone(),
                round: header.round,
                kind: header.kind,
                reason,
            });
            self.actions
                .push_back(Action::SendTransfer { connection, header });
        }
        Ok(())
    }

    /// The adapter that was sent last is whole at the participant: the next one may be a delta against it. Whether it is news.
    pub(super) fn note_base(&mut self, connection: ConnectionId, transfer: TransferId) -> bool {
        let Some(link) = self.roster.link_mut(connection) else {
            return false;
        };
        let sent = link.sent.take_if(|sent| sent.id == transfer);
        let is_news = sent.is_some();
        if let Some(sent) = sent {
            link.bases = vec![sent.sha256];
        }
        is_news
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
