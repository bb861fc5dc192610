//! What becomes of updates, told to the coordinator: bytes that moved, broke off or arrived, verdicts, merged adapters.

use std::time::Instant;

use protocol::close::RefusalReason;
use protocol::message::TransferHeader;
use protocol::{ConnectionId, Text, TransferId};

use super::{Driver, Event};
use crate::error::ServerError;
use crate::fold::{Folded, Job, Merged, Refused};
use crate::observer::RunEvent;
use crate::round::Traffic;
use crate::spool::Upload;
use crate::tally::Tally;

impl Driver {
    /// What happened to updates and their sum.
    pub(super) fn handle_bulk(&mut self, event: Event, now: Instant) {
        match event {
            Event::Moved {
                connection,
                received,
                total,
            } => self.moved(connection, received, total, now),
            Event::Waiting { connection } => {
                self.coordinator.handle_transfer_progress(connection, now)
            }
            Event::Unsent {
                connection,
                participant,
                unsent,
            } => self
                .coordinator
                .transfer_unsent(connection, &participant, unsent, now),
            Event::Unasked { connection, header } => {
                let what = "the transfer was not asked for".to_owned();
                self.spoil(connection, &header, RefusalReason::WrongTransfer, what, now);
            }
            Event::Kept {
                connection,
                participant,
                transfer,
                bytes,
                received,
            } => {
                self.count_received(received);
                self.coordinator
                    .update_kept(connection, &participant, transfer, bytes);
            }
            Event::Cut {
                connection,
                transfer,
                what,
            } => self.cut(connection, transfer, what, now),
            Event::Stray { connection } => self.coordinator.handle_stray_stream(connection, now),
            Event::Unusable { connection, header } => self.unusable(connection, &header, now),
            Event::Received {
                connection,
                header,
                upload,
            } => self.receive(connection, &header, upload, now),
            Event::Spoiled {
                connection,
                header,
                reason,
                what,
            } => {
                self.spoil(connection, &header, reason, what, now);
            }
            Event::Folded(updates) => self.answer_all(updates, now),
            Event::Unopened {
                detail,
                traffic,
                turned_away,
            } => self.unopened(&detail, (traffic, turned_away), now),
            Event::Merged(merged) => self.merged(*merged, now),
            // The others are the loop's own.
            Event::Arrived(_)
            | Event::Disconnected { .. }
            | Event::Message { .. }
            | Event::Malformed { .. }
            | Event::Identity(_)
            | Event::NewDay
            | Event::Failed(_)
            | Event::Deadline
            | Event::Shutdown
            | Event::Probed(_)
            | Event::Broken(_) => {}
        }
    }

    /// Counts contents that arrived, for the round's line and for who listens.
    fn count_received(&mut self, received: u64) {
        self.round_traffic.up += received;
        self.traffic.up += received;
        let sent = 0;
        self.narrator
            .tell(&RunEvent::Transferred { received, sent });
    }

    /// Counts contents that are handed over to be sent.
    pub(super) fn count_sent(&mut self, sent: u64) {
        self.round_traffic.down += sent;
        self.traffic.down += sent;
        let received = 0;
        self.narrator
            .tell(&RunEvent::Transferred { received, sent });
    }

    /// Bytes of an update arrived.
    pub(super) fn moved(
        &mut self,
        connection: ConnectionId,
        received: u64,
        total: u64,
        now: Instant,
    ) {
        self.coordinator.handle_transfer_progress(connection, now);
        if let Some(peer) = self.peers.get(&connection) {
            let participant = peer.name.clone();
            self.narrator.tell(&RunEvent::Receiving {
                participant,
                received,
                total,
            });
        }
    }

    /// What arrived is another content than announced.
    pub(super) fn unusable(
        &mut self,
        connection: ConnectionId,
        header: &TransferHeader,
        now: Instant,
    ) {
        if header.offset == 0 {
            let what = "its bytes do not have the SHA-256 announced".to_owned();
            self.spoil(connection, header, RefusalReason::WrongDigest, what, now);
        } else {
            // The beginning may be what was damaged, and that one was in our keeping.
            self.coordinator
                .restart_delivery(connection, header.id, now);
        }
    }

    /// The sender broke an update off.
    pub(super) fn cut(
        &mut self,
        connection: ConnectionId,
        transfer: TransferId,
        what: String,
        now: Instant,
    ) {
        let Some(participant) = self.peers.get(&connection).map(|peer| peer.name.clone()) else {
            return;
        };
        tracing::warn!(%participant, what, "a delivery was broken off");
        let is_out = self.coordinator.delivery_cut(connection, transfer, now);
        if is_out {
            self.findings.insert(participant, what);
        }
    }

    pub(super) fn receive(
        &mut self,
        connection: ConnectionId,
        header: &TransferHeader,
        upload: Upload,
        now: Instant,
    ) {
        self.count_received(header.remaining());
        let Some(admission) = self
            .coordinator
            .handle_update_received(connection, header, now)
        else {
            return;
        };
        if self.jobs.send(Job::Fold { admission, upload }).is_err() {
            self.give_up(ServerError::Internal {
                what: "the folding thread ended".to_owned(),
            });
        }
    }

    /// Refuses an update that did not come as announced.
    pub(super) fn spoil(
        &mut self,
        connection: ConnectionId,
        header: &TransferHeader,
        reason: RefusalReason,
        what: String,
        now: Instant,
    ) {
        if let Some(peer) = self.peers.get(&connection) {
            self.findings.insert(peer.name.clone(), what);
        }
        if let Some(admission) = self
            .coordinator
            .handle_update_received(connection, header, now)
        {
            let refused =
                self.coordinator
                    .handle_update_refused(&admission.participant, reason, now);
            self.must(refused);
        }
    }

    fn answer_all(&mut self, updates: Vec<Folded>, now: Instant) {
        for folded in updates {
            self.answer(folded, now);
        }
    }

    pub(super) fn answer(&mut self, folded: Folded, now: Instant) {
        let Folded {
            participant,
            round,
            verdict,
        } = folded;
        let answered = match verdict {
            Ok(()) => self.coordinator.handle_update_accepted(&participant, now),
            Err(Refused { reason, detail }) => {
                tracing::debug!(%participant, %round, detail, "update refused by admission");
                self.findings.insert(participant.clone(), detail);
                self.coordinator
                    .handle_update_refused(&participant, reason, now)
            }
        };
        self.must(answered);
    }

    /// A masked round's sum cannot be read.
    fn unopened(&mut self, detail: &str, (traffic, turned_away): (Traffic, Tally), now: Instant) {
        tracing::error!(detail, "the round's sum cannot be opened");
        self.round_traffic.add(traffic);
        self.tally.add(turned_away);
        self.coordinator.sum_not_opened(Text::new(detail), now);
    }

    pub(super) fn merged(&mut self, merged: Merged, now: Instant) {
        let Merged {
            released,
            record,
            sealed,
        } = merged;
        let release = released.release;
        self.global = released;
        self.narrator
            .tell(&RunEvent::RoundFinished(Box::new(record.clone())));
        self.records.push(record);
        let went_on = self.coordinator.round_aggregated(release, sealed, now);
        self.must(went_on);
    }
}
