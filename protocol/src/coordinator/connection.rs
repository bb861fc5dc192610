//! Connections that open and end, and what they bring that is no message.

use std::time::Instant;

use super::{Action, Coordinator, Report};
use crate::close::CloseCode;
use crate::ids::{ConnectionId, ParticipantName};
use crate::violation::{Breach, Party, Violation};

impl Coordinator {
    /// A participant, known by its certificate, opened a connection. It supersedes an older one of its own.
    pub fn handle_connected(
        &mut self,
        connection: ConnectionId,
        name: ParticipantName,
        now: Instant,
    ) {
        if let Some((code, violation)) = self.refusal_to_connect(&name, now) {
            self.actions.push_back(Action::Close {
                connection,
                code,
                violation,
            });
            return;
        }
        if let Some(old) = self.roster.connect(connection, name.clone(), now) {
            self.interrupt_delivery(&name);
            self.expect_back(&name, now);
            self.actions.push_back(Action::Close {
                connection: old,
                code: CloseCode::Superseded,
                violation: None,
            });
        }
        self.settle(now);
    }

    /// A connection is gone. The participant may come back.
    pub fn handle_disconnected(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(participant) = self.roster.disconnect(connection) {
            self.interrupt_delivery(&participant);
            self.expect_back(&participant, now);
            self.report(Report::Disconnected { participant });
            self.settle(now);
        }
    }

    /// The participant closed its connection with [`CloseCode::Left`]: it has said its last word, and does not come back.
    ///
    /// What it said may have been lost with the connection, also that it has the final adapter.
    pub fn handle_left(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(participant) = self.roster.name(connection).cloned() {
            self.roster.withdraw(&participant);
            self.part(&participant);
            self.handle_disconnected(connection, now);
        }
    }

    /// What arrived on the control stream is no message, or a bulk stream has no readable header.
    pub fn handle_malformed(&mut self, connection: ConnectionId, now: Instant) {
        if self.roster.name(connection).is_some() {
            self.close(connection, CloseCode::Malformed, None);
            self.settle(now);
        }
    }

    /// The participant opened a bulk stream and let go of it, or sent one that was not asked for. It costs as much as a
    /// message that moves nothing on.
    pub fn handle_stray_stream(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(name) = self.roster.name(connection).cloned()
            && let Err(breach) = self.accounts.message(&name, now)
        {
            self.punish(connection, breach);
            self.settle(now);
        }
    }

    /// Bytes moved on a transfer of this connection, in either direction.
    pub fn handle_transfer_progress(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(link) = self.roster.link_mut(connection) {
            link.moved_at = link.moved_at.max(now);
        }
    }

    /// Forgets a connection and has it closed.
    pub(super) fn close(
        &mut self,
        connection: ConnectionId,
        code: CloseCode,
        violation: Option<Violation>,
    ) {
        if let Some(participant) = self.roster.disconnect(connection) {
            self.interrupt_delivery(&participant);
            self.actions.push_back(Action::Close {
                connection,
                code,
                violation,
            });
            self.report(Report::Disconnected { participant });
        }
    }

    pub(super) fn punish(&mut self, connection: ConnectionId, breach: Breach) {
        let (code, violation) = punishment(breach);
        self.close(connection, code, Some(violation));
    }

    fn interrupt_delivery(&mut self, name: &ParticipantName) {
        let may_return = !self.roster.is_withdrawn(name);
        if let Some(taking) = self.phase.taking_mut() {
            taking.interrupt(name, may_return);
        }
    }
}

/// The code and the words for a participant that broke a rule.
pub(super) fn punishment(breach: Breach) -> (CloseCode, Violation) {
    let code = breach.close_code();
    let guilty = Party::Participant;
    (code, Violation { guilty, breach })
}
