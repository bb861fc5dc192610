//! The end of a run: the final adapter to everyone who is there, or a failure with its reason.

use std::time::{Duration, Instant};

use super::roster::Stage;
use super::{Action, Coordinator, Outcome, Phase, Report};
use crate::close::{CloseCode, RefusalReason, RunFailure};
use crate::ids::{ConnectionId, ParticipantName, Round, TransferId};
use crate::message::{ToClient, TransferHeader, TransferKind};
use crate::text::Text;

/// Bytes of the final adapter that one takes a second at least: as few as an update may bring, unless the operator says otherwise.
const HANDED_PER_SECOND_MIN: u64 = 4 << 10;

impl Coordinator {
    /// Ends the run without an adapter: the owner cannot go on.
    pub fn give_up(&mut self, detail: Text) {
        self.fail(RunFailure::Internal, detail);
    }

    /// Ends the run because the operator wants the server to stop. Participants may try again later.
    pub fn stop(&mut self) {
        if !self.is_over() {
            let detail = Text::new(RunFailure::Stopped.sentence());
            self.end(
                CloseCode::ServerStopping,
                Outcome::Failed {
                    reason: RunFailure::Stopped,
                    detail,
                },
            );
        }
    }

    /// Tells everyone that the run failed, and why.
    pub(super) fn fail(&mut self, reason: RunFailure, detail: Text) {
        if self.is_over() {
            return;
        }
        let connections: Vec<_> = self
            .roster
            .links()
            .map(|(_, link)| link.connection)
            .collect();
        for connection in connections {
            self.send(
                connection,
                ToClient::Failed {
                    reason,
                    detail: detail.clone(),
                },
            );
        }
        self.end(CloseCode::RunFailed, Outcome::Failed { reason, detail });
    }

    /// Sends the final adapter to everyone who is there.
    pub(super) fn finish(&mut self, now: Instant) {
        let round = Round(self.plan.rounds);
        let adapter = TransferHeader::from_server(
            TransferKind::FinalAdapter,
            round,
            self.plan.digest(),
            self.release.adapter,
        );
        self.phase = Phase::Finishing {
            adapter,
            since: now,
        };
        self.accounts.begin_round(now);
        let names: Vec<_> = self.ready().cloned().collect();
        for name in &names {
            self.hand_over(name, now);
        }
    }

    /// Sends the final adapter to one participant.
    pub(super) fn hand_over(&mut self, name: &ParticipantName, now: Instant) {
        let Phase::Finishing { adapter, .. } = self.phase else {
            return;
        };
        let Some(connection) = self.roster.ready(name).map(|link| link.connection) else {
            return;
        };
        let header = match self.charge_adapter(connection, adapter, now) {
            Ok(header) => header,
            Err(breach) => return self.deny(connection, name, breach),
        };
        self.handle_transfer_progress(connection, now);
        self.tell_records(name);
        let rounds = self.plan.rounds;
        self.send(connection, ToClient::Finished { rounds, adapter });
        self.send_transfer(connection, header);
    }

    pub(super) fn take_received(
        &mut self,
        connection: ConnectionId,
        transfer: TransferId,
        now: Instant,
    ) {
        // Any other says nothing that was not known: whoever repeats it does not move on.
        if self.note_base(connection, transfer) {
            self.handle_transfer_progress(connection, now);
        }
        match self.phase {
            Phase::Finishing { adapter, .. } if adapter.id == transfer => {
                if let Some(name) = self.roster.name(connection).cloned() {
                    self.part(&name);
                }
                self.close(connection, CloseCode::Finished, None);
            }
            // The anchor or a round's adapter: nothing else depends on it.
            _ => {}
        }
    }

    /// A connection broke while its participant was taking the final adapter: it is expected back for the stall limit, and
    /// nobody keeps the run from its end beyond the hard deadline.
    pub(super) fn expect_back(&mut self, name: &ParticipantName, now: Instant) {
        let Phase::Finishing { since, .. } = self.phase else {
            return;
        };
        if self.joined.contains(name) {
            let cohort = &self.plan.cohort;
            let until = (now + cohort.stall_limit).min(since + cohort.hard_deadline);
            self.returning.expect(name.clone(), until);
        }
    }

    /// How long the final adapter may be on its way, however steadily it is taken: a little now and then would keep the run from
    /// its end for days.
    pub(super) fn handing_over_limit(&self, adapter: &TransferHeader) -> Duration {
        let slowest = Duration::from_secs(adapter.bytes / HANDED_PER_SECOND_MIN);
        slowest.max(self.plan.cohort.hard_deadline)
    }

    /// Ends the run once nobody is left who waits for the final adapter. Who was away before is not waited for, unless it was
    /// our own restart that sent it away.
    pub(super) fn settle_finishing(&mut self) {
        if self.roster.all_ready().next().is_none() && !self.returning.is_anybody() {
            let outcome = Outcome::Finished {
                rounds: self.plan.rounds,
                adapter: self.release.adapter,
            };
            self.end(CloseCode::Finished, outcome);
        }
    }

    /// The connections whose limit has passed.
    pub(super) fn roster_overdue(&self, now: Instant) -> Vec<ConnectionId> {
        self.overdue_links(now)
    }

    /// Closes a connection that did not move on: silent while joining, or stalled at work.
    pub(super) fn close_overdue(&mut self, connection: ConnectionId) {
        let Some(name) = self.roster.name(connection).cloned() else {
            return;
        };
        let at_work = matches!(
            self.roster.link(&name).map(|link| &link.stage),
            Some(Stage::Ready { .. })
        );
        if at_work {
            self.report(Report::Stalled {
                participant: name.clone(),
            });
            self.count_stall(&name);
        }
        self.close(
            connection,
            if at_work {
                CloseCode::Stalled
            } else {
                CloseCode::Silent
            },
            None,
        );
    }

    /// One that stalls again and again is out for the round: it would keep others from delivering.
    fn count_stall(&mut self, name: &ParticipantName) {
        let limit = self.accounts.allowance().interruptions_per_round;
        let Phase::Open(open) = &mut self.phase else {
            return;
        };
        let round = open.task(name);
        if open.owes(name) && !open.sent_by(name).interrupt(limit) {
            self.exclude(name, RefusalReason::BrokenOff);
            self.report(Report::Refused {
                participant: name.clone(),
                round,
                reason: RefusalReason::BrokenOff,
            });
        }
    }

    fn end(&mut self, code: CloseCode, outcome: Outcome) {
        let connections: Vec<_> = self
            .roster
            .links()
            .map(|(_, link)| link.connection)
            .collect();
        for connection in connections {
            self.close(connection, code, None);
        }
        self.phase = Phase::Over { code };
        self.actions.push_back(Action::End(outcome));
    }

    /// The participant's name, for owners that know only its connection.
    pub fn participant(&self, connection: ConnectionId) -> Option<&ParticipantName> {
        self.roster.name(connection)
    }
}
