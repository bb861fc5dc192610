//! Adapters and the anchor on their way to a participant: whole or as a delta, from which byte, once more if need be, and within
//! what it may have sent to it.

use std::time::Instant;

use super::{Action, Coordinator, Phase, Report};
use crate::close::RefusalReason;
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

    /// Chooses how an adapter is sent to a participant that needs it, and charges that: as a delta if it has the base of it, and
    /// that is shorter.
    pub(super) fn charge_adapter(
        &mut self,
        connection: ConnectionId,
        adapter: TransferHeader,
        now: Instant,
    ) -> Result<TransferHeader, Breach> {
        let delta = self
            .delta_for(connection, adapter)
            .filter(|delta| self.lacking(connection, delta) < self.lacking(connection, &adapter));
        let header = self.charge_transfer(connection, delta.unwrap_or(adapter), now)?;
        if let Some(link) = self.roster.link_mut(connection) {
            link.sent = Some(adapter);
        }
        Ok(header)
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

    /// Has a content begin at the first byte that the participant lacks, and charges the rest.
    pub(super) fn charge_transfer(
        &mut self,
        connection: ConnectionId,
        header: TransferHeader,
        now: Instant,
    ) -> Result<TransferHeader, Breach> {
        let offset = header.bytes - self.lacking(connection, &header);
        let begins = header.at(offset);
        self.charge(connection, &begins, now)?;
        if let Some(link) = self.roster.link_mut(connection) {
            // What is there is known for the first transfer after joining; later ones bring it whole.
            let begun = &mut link.begun;
            if let Some(place) = begun.iter().position(|one| one.sha256 == header.sha256) {
                begun.swap_remove(place);
            }
            if 0 < offset || header.kind.is_delta() {
                link.resendable.push(header.id);
            }
        }
        Ok(begins)
    }

    /// Charges the bytes of a transfer from its offset on, if the participant may have so many more sent to it.
    fn charge(
        &mut self,
        connection: ConnectionId,
        header: &TransferHeader,
        now: Instant,
    ) -> Result<(), Breach> {
        let Some(name) = self.roster.name(connection).cloned() else {
            return Ok(());
        };
        let anchor = self.anchor.map_or(0, |anchor| anchor.bytes);
        let each = self.plan.encoded_bytes().saturating_add(anchor);
        let times = u64::from(self.accounts.allowance().downloads_per_round);
        let limit_bytes = each.saturating_mul(times);
        let fetched = self.accounts.fetched(&name, now);
        if fetched.begin(connection, header.id, header.remaining(), limit_bytes) {
            Ok(())
        } else {
            Err(Breach::Fetching { limit_bytes })
        }
    }

    /// One that has fetched too much is out for the round that it owes an update; where it owes none its connection is closed.
    pub(super) fn deny(
        &mut self,
        connection: ConnectionId,
        name: &ParticipantName,
        breach: Breach,
    ) {
        match &self.phase {
            Phase::Open(open) if open.owes(name) => {
                let round = open.task(name);
                self.turn_down(name, round, RefusalReason::OverAllowance);
            }
            _ => self.punish(connection, breach),
        }
    }

    /// A transfer to a participant broke off, with so many bytes that never went out: those are not charged.
    pub fn transfer_unsent(
        &mut self,
        connection: ConnectionId,
        name: &ParticipantName,
        (transfer, bytes): (TransferId, u64),
        now: Instant,
    ) {
        let fetched = self.accounts.fetched(name, now);
        fetched.break_off(connection, transfer, bytes);
    }

    /// Has a transfer sent that was charged.
    pub(super) fn send_transfer(&mut self, connection: ConnectionId, header: TransferHeader) {
        self.actions
            .push_back(Action::SendTransfer { connection, header });
    }

    /// A beginning turned out to be damaged, or a delta of no use: the whole follows, once, if it is still wanted.
    pub(super) fn take_resend(
        &mut self,
        connection: ConnectionId,
        name: &ParticipantName,
        (transfer, reason): (TransferId, ResendReason),
        now: Instant,
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
            if let Err(breach) = self.charge(connection, &header, now) {
                self.deny(connection, name, breach);
                return Ok(());
            }
            self.report(Report::Resending {
                participant: name.clone(),
                round: header.round,
                kind: header.kind,
                reason,
            });
            self.send_transfer(connection, header);
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
