//! What an event changes: the one place where events become numbers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use protocol::ParticipantName;
use protocol::close::{CloseCode, RefusalReason, RunFailure};

use super::facts::Facts;
use super::histogram::Histogram;
use super::phase::Phase;
use crate::observer::RunEvent;

/// Bounds of the classes of rounds by duration, in seconds: from a trial's to a day.
const ROUND_SECONDS: &[f64] = &[
    10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0,
];

/// Why a peer is not let in, as `HandshakeError::label` has it: all are shown from the start, because a count that
/// appears only with its first event hides that event from `increase()`.
pub(super) const HANDSHAKE_REASONS: [&str; 19] = [
    "authority-expired",
    "busy",
    "closed",
    "expired",
    "foreign",
    "local",
    "malformed-certificate",
    "no-certificate",
    "not-yet-valid",
    "own-role",
    "revocation-unknown",
    "revoked",
    "timed-out",
    "turned-away",
    "unchecked",
    "wrong-authority",
    "wrong-federation",
    "wrong-purpose",
    "wrong-role",
];

/// One participant, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Party {
    /// A newer one may be there before the older is gone.
    pub(super) connections: u32,
    pub(super) has_joined: bool,
    /// When the certificate that it showed last ends.
    pub(super) expires: Option<SystemTime>,
    pub(super) accepted: u64,
}

/// All counts of a run, since this process began.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub(super) facts: Facts,
    pub(super) phase: Phase,
    pub(super) phase_since: Instant,
    /// The open round, or the one before.
    pub(super) round: u32,
    pub(super) rounds_finished: u32,
    pub(super) round_asked: usize,
    pub(super) round_accepted: usize,
    /// What was late for its round and counts in the one that is not open yet.
    early: usize,
    /// The named ones, and of others those that are connected.
    pub(super) parties: BTreeMap<ParticipantName, Party>,
    pub(super) connections: u64,
    pub(super) rejected: BTreeMap<&'static str, u64>,
    pub(super) closed: BTreeMap<&'static str, u64>,
    pub(super) declined: u64,
    pub(super) left: u64,
    pub(super) stalled: u64,
    pub(super) accepted: u64,
    pub(super) refused: BTreeMap<&'static str, u64>,
    pub(super) postponed: u64,
    pub(super) resent: u64,
    pub(super) attempts: u64,
    pub(super) attempts_failed: u64,
    pub(super) left_out: u64,
    /// Since when the open round waits beyond its soft deadline for a quorum.
    pub(super) waits_since: Option<Instant>,
    waited: Duration,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    pub(super) round_seconds: Histogram,
    pub(super) reloads: u64,
    pub(super) reloads_failed: u64,
    /// Whether the files of our identity could not be used when they were last read.
    pub(super) has_unusable_files: bool,
    pub(super) broken: Option<String>,
    pub(super) failed: Option<(RunFailure, String)>,
}

impl Counts {
    pub(super) fn new(facts: Facts, now: Instant) -> Self {
        let parties = facts.named.iter().cloned();
        Self {
            parties: parties.map(|name| (name, Party::default())).collect(),
            facts,
            phase: Phase::Joining,
            phase_since: now,
            round: 0,
            rounds_finished: 0,
            round_asked: 0,
            round_accepted: 0,
            early: 0,
            connections: 0,
            rejected: zeros(HANDSHAKE_REASONS),
            closed: zeros(CloseCode::ALL.iter().map(|code| code.label())),
            declined: 0,
            left: 0,
            stalled: 0,
            accepted: 0,
            refused: zeros(RefusalReason::ALL.iter().map(|reason| reason.label())),
            postponed: 0,
            resent: 0,
            attempts: 0,
            attempts_failed: 0,
            left_out: 0,
            waits_since: None,
            waited: Duration::ZERO,
            received_bytes: 0,
            sent_bytes: 0,
            round_seconds: Histogram::new(ROUND_SECONDS),
            reloads: 0,
            reloads_failed: 0,
            has_unusable_files: false,
            broken: None,
            failed: None,
        }
    }

    /// Takes note of an event.
    pub(super) fn take(&mut self, event: &RunEvent, now: Instant) {
        match event {
            // That a connection was closed because its certificate is over is counted by the code.
            RunEvent::Listening { .. }
            | RunEvent::Progress { .. }
            | RunEvent::Receiving { .. }
            | RunEvent::Expired { .. } => {}
            RunEvent::Resumed { .. }
            | RunEvent::RoundOpened { .. }
            | RunEvent::QuorumMissing { .. }
            | RunEvent::RoundClosed { .. }
            | RunEvent::RoundFinished(_)
            | RunEvent::AttemptBegan { .. }
            | RunEvent::AttemptFailed { .. }
            | RunEvent::LeftOut { .. }
            | RunEvent::Finished { .. }
            | RunEvent::Broken { .. }
            | RunEvent::Failed { .. } => self.take_of_run(event, now),
            RunEvent::IdentityReloaded { .. }
            | RunEvent::IdentityKept { .. }
            | RunEvent::HandshakeRejected { .. }
            | RunEvent::Connected { .. }
            | RunEvent::Closed { .. }
            | RunEvent::Joined { .. }
            | RunEvent::Disconnected { .. }
            | RunEvent::Declined { .. }
            | RunEvent::Left { .. }
            | RunEvent::Stalled { .. } => self.take_of_peers(event),
            RunEvent::Accepted { .. }
            | RunEvent::Refused { .. }
            | RunEvent::Postponed { .. }
            | RunEvent::Resending { .. }
            | RunEvent::Transferred { .. } => self.take_of_updates(event, now),
        }
    }

    fn take_of_run(&mut self, event: &RunEvent, now: Instant) {
        match event {
            RunEvent::Resumed {
                round,
                accepted,
                is_open,
            } => self.resume(round.0, *accepted, *is_open, now),
            RunEvent::RoundOpened { round, asked } => {
                self.enter(Phase::Open, now);
                self.round = round.0;
                self.round_asked = asked.len();
                self.round_accepted = std::mem::take(&mut self.early);
            }
            RunEvent::QuorumMissing { .. } => {
                self.waits_since.get_or_insert(now);
            }
            RunEvent::RoundClosed { round, accepted } => {
                self.enter(Phase::Aggregating, now);
                self.round = round.0;
                self.round_accepted = *accepted;
            }
            RunEvent::RoundFinished(record) => {
                self.round_seconds.observe(record.seconds);
                self.rounds_finished = record.round;
                if record.round == self.facts.rounds {
                    self.enter(Phase::Finishing, now);
                }
            }
            RunEvent::AttemptBegan { .. } => self.attempts += 1,
            RunEvent::AttemptFailed { .. } => {
                self.attempts_failed += 1;
                if self.phase == Phase::Aggregating {
                    // Its sum was none: the round is open again.
                    self.enter(Phase::Open, now);
                    self.round_accepted = 0;
                }
            }
            RunEvent::LeftOut { .. } => self.left_out += 1,
            RunEvent::Finished { .. } => self.enter(Phase::Over, now),
            RunEvent::Broken { what } => self.broken = Some(what.clone()),
            RunEvent::Failed { reason, detail } => {
                self.enter(Phase::Over, now);
                self.failed = Some((*reason, detail.clone()));
            }
            // The others are told apart before.
            _ => {}
        }
    }

    fn take_of_peers(&mut self, event: &RunEvent) {
        match event {
            RunEvent::IdentityReloaded {
                expires,
                revocations_due,
                ..
            } => {
                self.reloads += 1;
                self.has_unusable_files = false;
                self.facts.expires = *expires;
                self.facts.revocations_due = *revocations_due;
            }
            RunEvent::IdentityKept { .. } => {
                self.reloads_failed += 1;
                self.has_unusable_files = true;
            }
            RunEvent::HandshakeRejected { label, count, .. } => {
                *self.rejected.entry(label).or_default() += count;
            }
            RunEvent::Connected {
                participant,
                expires,
            } => {
                self.connections += 1;
                let party = self.parties.entry(participant.clone()).or_default();
                party.connections += 1;
                party.expires = Some(*expires);
            }
            RunEvent::Closed { code, .. } => {
                *self.closed.entry(code.label()).or_default() += 1;
            }
            RunEvent::Joined { participant, .. } => {
                if let Some(party) = self.parties.get_mut(participant) {
                    party.has_joined = true;
                }
            }
            RunEvent::Disconnected { participant, .. } => self.disconnect(participant),
            RunEvent::Declined { .. } => self.declined += 1,
            RunEvent::Left { .. } => self.left += 1,
            RunEvent::Stalled { .. } => self.stalled += 1,
            // The others are told apart before.
            _ => {}
        }
    }

    fn take_of_updates(&mut self, event: &RunEvent, now: Instant) {
        match event {
            RunEvent::Accepted { participant, round } => {
                self.accepted += 1;
                if let Some(party) = self.parties.get_mut(participant) {
                    party.accepted += 1;
                }
                if self.round < round.0 {
                    self.early += 1;
                    return;
                }
                self.round_accepted += 1;
                if self.facts.quorum as usize <= self.round_accepted {
                    self.stop_waiting(now);
                }
            }
            RunEvent::Refused { reason, .. } => {
                *self.refused.entry(reason.label()).or_default() += 1;
            }
            RunEvent::Postponed { .. } => self.postponed += 1,
            RunEvent::Resending { .. } => self.resent += 1,
            RunEvent::Transferred { received, sent } => {
                self.received_bytes += received;
                self.sent_bytes += sent;
            }
            // The others are told apart before.
            _ => {}
        }
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.stop_waiting(now);
        (self.phase, self.phase_since) = (phase, now);
    }

    /// Goes on where an earlier process was. Rounds before the one that is named are done.
    fn resume(&mut self, round: u32, accepted: usize, is_open: bool, now: Instant) {
        self.rounds_finished = round.saturating_sub(1);
        if self.facts.rounds <= self.rounds_finished {
            self.round = self.rounds_finished;
            self.enter(Phase::Finishing, now);
        } else if is_open {
            self.round = round;
            self.round_accepted = accepted;
            self.enter(Phase::Open, now);
        }
    }

    fn disconnect(&mut self, participant: &ParticipantName) {
        let is_named = self.facts.named.contains(participant);
        let Some(party) = self.parties.get_mut(participant) else {
            return;
        };
        party.connections = party.connections.saturating_sub(1);
        if party.connections == 0 {
            party.has_joined = false;
            if !is_named {
                self.parties.remove(participant);
            }
        }
    }

    fn stop_waiting(&mut self, now: Instant) {
        if let Some(since) = self.waits_since.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }

    /// How long rounds have waited beyond their soft deadlines for a quorum, the open one included.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        let present = self.waits_since;
        self.waited + present.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Participants that have a connection.
    pub(super) fn connected(&self) -> usize {
        let parties = self.parties.values();
        parties.filter(|party| 0 < party.connections).count()
    }

    /// Participants that have agreed to the plan and are connected.
    pub(super) fn joined(&self) -> usize {
        self.parties
            .values()
            .filter(|party| party.has_joined)
            .count()
    }
}

fn zeros(labels: impl IntoIterator<Item = &'static str>) -> BTreeMap<&'static str, u64> {
    labels.into_iter().map(|label| (label, 0)).collect()
}

#[cfg(test)]
pub(super) mod tests;
