//! Opening a round, asking for updates, and telling those who come back where the run stands.

use std::time::Instant;

use super::roster::Stage;
use super::round::{Lateness, OpenRound, Work};
use super::{Coordinator, Entry, Phase, Report};
use crate::close::RefusalReason;
use crate::ids::{ParticipantName, Round};
use crate::message::ToClient;

impl Coordinator {
    /// Opens a round and asks everyone who is ready.
    pub(super) fn open(&mut self, round: Round, now: Instant) {
        self.phase = Phase::Open(OpenRound::new(round, now));
        self.record(Entry::Opened { round });
        let asked: Vec<_> = self.ready().cloned().collect();
        self.report(Report::RoundOpened {
            round,
            asked: asked.clone(),
        });
        for name in &asked {
            self.bring_up_to_date(name, now);
        }
    }

    /// Tells a participant that is ready where the run stands: it just joined, came back, or a round was opened.
    pub(super) fn bring_up_to_date(&mut self, name: &ParticipantName, now: Instant) {
        match &self.phase {
            Phase::Open(open) => {
                let (round, work) = (open.round, open.works.get(name).cloned());
                match work {
                    None if self.may_still_enter() => {
                        self.set_work(name, Work::Training { step: 0 });
                        self.ask(name, round, now);
                    }
                    None | Some(Work::Folding(_) | Work::Summed(_)) => {}
                    Some(Work::Training { .. } | Work::Delivering(_)) => self.ask(name, round, now),
                    Some(Work::Trained(_)) => {
                        self.rejoin_attempt(name);
                        self.ask(name, round, now);
                    }
                    Some(Work::Accepted(_)) => self.tell(name, ToClient::Accepted { round }),
                    Some(Work::Refused(reason)) => {
                        self.tell(name, ToClient::Refused { round, reason })
                    }
                }
            }
            Phase::Aggregating { closed } => {
                let round = closed.round;
                match closed.works.get(name) {
                    Some(Work::Accepted(_)) => self.tell(name, ToClient::Accepted { round }),
                    Some(&Work::Refused(reason)) => {
                        self.tell(name, ToClient::Refused { round, reason })
                    }
                    // Told once the sum has become an adapter that is safe.
                    None | Some(Work::Summed(_)) => {}
                    Some(_) => self.tell(
                        name,
                        ToClient::Refused {
                            round,
                            reason: RefusalReason::Late,
                        },
                    ),
                }
            }
            Phase::Finishing { .. } => self.hand_over(name, now),
            Phase::Joining { .. } | Phase::Over { .. } => {}
        }
    }

    /// Whether a participant that was not asked yet may enter the open round: there is room in the sum, and the
    /// round is not merely waiting for its last deliveries.
    fn may_still_enter(&self) -> bool {
        let Phase::Open(open) = &self.phase else {
            return false;
        };
        let room = (open.works.len() as u64) < u64::from(self.plan.limits.participants_max);
        let ending = open.lateness > Lateness::InTime && self.plan.cohort.quorum <= open.accepted();
        room && !ending
    }

    /// Sends Train, and the global adapter unless the participant has it.
    fn ask(&mut self, name: &ParticipantName, round: Round, now: Instant) {
        let global = self.global(round);
        let Some(connection) = self.roster.ready(name).map(|link| link.connection) else {
            return;
        };
        let mut held = false;
        if let Some(link) = self.roster.link_mut(connection) {
            link.moved_at = now;
            if let Stage::Ready { holds } = &mut link.stage {
                held = holds.contains(&global.sha256);
                // What it holds is known for the first request after joining; later adapters are always sent.
                holds.clear();
            }
        }
        self.send(connection, ToClient::Train { global });
        if !held {
            self.send_transfer(connection, global);
        }
    }
}
