//! The coordinator's actions, performed; and the end of the loop.

use std::time::Duration;

use protocol::Text;
use protocol::close::{CloseCode, RunFailure};
use protocol::coordinator::{Action, Entry, Outcome, Report};
use protocol::message::TransferKind;
use protocol::quic::Listener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Driver, Ended, Event};
use crate::error::ServerError;
use crate::fold::Job;
use crate::observer::RunEvent;
use crate::released::Payload;
use crate::session::Outgoing;

/// The entry that an action asks for.
fn entry(action: &Action) -> Option<Entry> {
    match action {
        Action::Record(entry) => Some(entry.clone()),
        _ => None,
    }
}

/// Whether a connection that ends with this code was ended for what its participant did or left undone.
fn is_held_against(code: CloseCode) -> bool {
    match code {
        CloseCode::Finished
        | CloseCode::Left
        | CloseCode::Declined
        | CloseCode::Superseded
        | CloseCode::ServerStopping
        | CloseCode::RunFailed
        | CloseCode::BadTranscript
        | CloseCode::Withdrawn
        | CloseCode::Expired
        | CloseCode::Internal => false,
        CloseCode::Stalled
        | CloseCode::VersionMismatch
        | CloseCode::NotInCohort
        | CloseCode::Full
        | CloseCode::Malformed
        | CloseCode::Unexpected
        | CloseCode::WrongPlan
        | CloseCode::WrongRound
        | CloseCode::BadTransfer
        | CloseCode::BadSignature
        | CloseCode::BadPlan
        | CloseCode::Silent
        | CloseCode::Revoked
        | CloseCode::Flooding
        | CloseCode::Deceived
        | CloseCode::TooOften
        | CloseCode::TooMuch => true,
    }
}

/// How long peers have to take notice of the end.
const GOODBYE: Duration = Duration::from_secs(5);

impl Driver {
    /// Performs what the coordinator wants done now.
    pub(super) fn perform_all(&mut self) {
        let mut actions = self.poll_actions();
        let entries: Vec<_> = actions.iter().filter_map(entry).collect();
        if let Err(error) = self.journal.record(&entries) {
            // Nothing of what depends on these entries is said.
            let was_over = self.coordinator.is_over();
            self.give_up(error.into());
            actions = self.poll_actions();
            if was_over {
                self.end_unsaid();
            }
        }
        for action in actions {
            self.perform(action);
        }
        self.global.handed_over();
    }

    /// Ends a run whose end could not be written down. The coordinator ends only once, and that end was among what is not
    /// said: without another the loop would wait for ever.
    fn end_unsaid(&mut self) {
        let reason = RunFailure::Stopped;
        let detail = Text::new(reason.sentence());
        self.outcome = Some(Outcome::Failed { reason, detail });
        for peer in self.peers.values() {
            peer.outbox.put(Outgoing::Close(CloseCode::ServerStopping));
        }
    }

    fn poll_actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.coordinator.poll_action()).collect()
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send {
                connection,
                message,
            } => {
                self.put(connection, Outgoing::Message(Box::new(message)));
            }
            Action::SendTransfer { connection, header } => {
                let payload = match header.kind {
                    TransferKind::Anchor => Payload::Bytes(self.anchor.clone()),
                    TransferKind::GlobalAdapter
                    | TransferKind::FinalAdapter
                    | TransferKind::GlobalDelta
                    | TransferKind::FinalDelta
                    | TransferKind::Update => self.global.payload(header.kind),
                };
                // Counted when handed over, so that equal runs report equal bytes whatever the network does.
                self.count_sent(header.remaining());
                self.put(connection, Outgoing::Transfer { header, payload });
            }
            Action::Close {
                connection,
                code,
                violation,
            } => {
                if let Some(peer) = self.peers.get(&connection) {
                    let participant = peer.name.clone();
                    if is_held_against(code) {
                        self.tally.count(Some(&participant), code.label());
                    }
                    let violation = violation.map(|violation| violation.to_string());
                    self.narrator.tell(&RunEvent::Closed {
                        participant,
                        code,
                        violation,
                    });
                }
                self.put(connection, Outgoing::Close(code));
            }
            Action::Aggregate { summary } => {
                self.narrator.tell(&RunEvent::RoundClosed {
                    round: summary.round,
                    accepted: summary.accepted.len(),
                });
                let traffic = std::mem::take(&mut self.round_traffic);
                let turned_away = std::mem::take(&mut self.tally);
                self.give_job(Job::Merge {
                    summary,
                    traffic,
                    turned_away,
                    signer: self.tls.clone(),
                });
            }
            Action::BeginSum { .. } => self.give_job(Job::Begin),
            Action::OpenSum(opening) => self.give_job(Job::Open(opening)),
            // Written down with all others before anything was performed.
            Action::Record(_) => {}
            Action::Report(report) => self.report(report),
            Action::End(outcome) => self.outcome = Some(outcome),
        }
    }

    fn give_job(&mut self, job: Job) {
        if self.jobs.send(job).is_err() {
            self.give_up(ServerError::Internal {
                what: "the folding thread ended".to_owned(),
            });
        }
    }

    fn report(&mut self, report: Report) {
        let event = match report {
            Report::Accepted { .. } | Report::Postponed { .. } | Report::Refused { .. } => {
                return self.report_update(report);
            }
            Report::AttemptBegan { .. }
            | Report::AttemptFailed { .. }
            | Report::LeftOut { .. }
            | Report::Expired { .. } => return self.report_attempt(report),
            Report::Joined {
                participant,
                software,
            } => RunEvent::Joined {
                participant,
                software: software.to_string(),
            },
            // Told when the transport reports it, with its reason.
            Report::Disconnected { .. } => return,
            Report::Declined {
                participant,
                reason,
            } => RunEvent::Declined {
                participant,
                reason: reason.to_string(),
            },
            Report::Left {
                participant,
                reason,
            } => RunEvent::Left {
                participant,
                reason: reason.to_string(),
            },
            Report::Stalled { participant } => RunEvent::Stalled { participant },
            Report::Resending {
                participant,
                round,
                kind,
                reason,
            } => RunEvent::Resending {
                participant,
                round,
                kind,
                reason,
            },
            Report::RoundOpened { round, asked } => RunEvent::RoundOpened { round, asked },
            Report::Progress {
                participant,
                round,
                step,
                steps,
            } => RunEvent::Progress {
                participant,
                round,
                step,
                steps,
            },
            Report::QuorumMissing {
                round,
                accepted,
                quorum,
            } => RunEvent::QuorumMissing {
                round,
                accepted,
                quorum,
            },
        };
        self.narrator.tell(&event);
    }

    /// What became of an attempt at secure aggregation, and of those in it.
    fn report_attempt(&mut self, report: Report) {
        let event = match report {
            Report::AttemptBegan { attempt, members } => {
                RunEvent::AttemptBegan { attempt, members }
            }
            Report::LeftOut {
                attempt,
                participant,
                failures,
            } => RunEvent::LeftOut {
                attempt,
                participant,
                failures,
            },
            Report::Expired { participant } => RunEvent::Expired { participant },
            Report::AttemptFailed { attempt, reason } => RunEvent::AttemptFailed {
                attempt,
                reason: reason.to_string(),
            },
            // Of rounds, connections and updates.
            _ => return,
        };
        self.narrator.tell(&event);
    }

    /// What became of an update.
    fn report_update(&mut self, report: Report) {
        let event = match report {
            Report::Accepted { participant, round } => RunEvent::Accepted { participant, round },
            Report::Refused {
                participant,
                round,
                reason,
            } => {
                self.tally.count(Some(&participant), reason.label());
                let detail = self.findings.remove(&participant);
                RunEvent::Refused {
                    participant,
                    round,
                    reason,
                    detail,
                }
            }
            Report::Postponed {
                participant,
                round,
                until,
            } => RunEvent::Postponed {
                participant,
                round,
                until,
            },
            // Of rounds, connections and attempts.
            _ => return,
        };
        self.narrator.tell(&event);
    }

    /// Lets every session say goodbye and closes the socket.
    pub(super) async fn end(
        mut self,
        listener: Listener,
        mut events: mpsc::Receiver<Event>,
        outcome: Outcome,
    ) -> Ended {
        if let Outcome::Failed { reason, detail } = &outcome {
            self.narrator.tell(&RunEvent::Failed {
                reason: *reason,
                detail: detail.to_string(),
            });
        }
        let code = match &outcome {
            Outcome::Finished { .. } => CloseCode::Finished,
            Outcome::Failed {
                reason: RunFailure::Stopped,
                ..
            } => CloseCode::ServerStopping,
            Outcome::Failed { .. } => CloseCode::RunFailed,
        };
        // No session has anything to tell any more, and none may wait for us to listen.
        events.close();
        let farewell = async { while self.sessions.join_next().await.is_some() {} };
        if timeout(GOODBYE, farewell).await.is_err() {
            tracing::debug!("some participants did not take notice of the end");
        }
        self.peers.clear();
        // A peer that does not acknowledge is cut off with the socket.
        let _ = timeout(GOODBYE, listener.close(code)).await;
        let Self {
            records,
            traffic,
            broken,
            ..
        } = self;
        Ended {
            outcome,
            records,
            traffic,
            broken,
        }
    }
}
