//! Opening a round, asking for updates, and telling those who come back where the run stands.

use std::time::Instant;

use super::roster::Stage;
use super::round::{OpenRound, Work};
use super::{Coordinator, Entry, Phase, Report};
use crate::close::RefusalReason;
use crate::ids::{ParticipantName, Round};
use crate::message::ToClient;

impl Coordinator {
    /// Opens a round and asks those who are ready, or as many of them as the plan says.
    pub(super) fn open(&mut self, mut open: OpenRound, now: Instant) {
        let round = open.round;
        open.opened_at = now;
        self.phase = Phase::Open(open);
        self.accounts.begin_round(now);
        self.record(Entry::Opened { round });
        let asked = self.fill(now);
        self.report(Report::RoundOpened { round, asked });
    }

    /// Tells a participant that is ready where the run stands: it just joined, came back, or a round was opened.
    pub(super) fn bring_up_to_date(&mut self, name: &ParticipantName, now: Instant) {
        if self.remind(name) {
            return;
        }
        if let Phase::Aggregating { closed, .. } = &mut self.phase {
            closed.unasked.insert(name.clone());
        }
        match &self.phase {
            Phase::Open(open) => {
                let (round, work) = (open.round, open.works.get(name).cloned());
                if matches!(work, Some(Work::Trained(_))) && !self.awaits_vector(name) {
                    // Whether it still has its update it says itself; no attempt begins with it before.
                    self.set_work(name, Work::Training { step: 0 });
                }
                match work {
                    None if self.has_room() => self.engage(name, now),
                    None | Some(Work::Folding(_)) => {}
                    Some(
                        Work::Training { .. }
                        | Work::Delivering(_)
                        | Work::Trained(_)
                        | Work::Summed(_),
                    ) => self.ask(name, round, now),
                    Some(Work::Accepted(_)) => self.tell(name, ToClient::Accepted { round }),
                    Some(Work::Refused(reason)) => {
                        self.tell(name, ToClient::Refused { round, reason })
                    }
                }
            }
            Phase::Aggregating { closed, .. } => {
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

    /// Sends Train, and the global adapter unless the participant has it.
    pub(super) fn ask(&mut self, name: &ParticipantName, round: Round, now: Instant) {
        let global = self.global(round);
        let Some(connection) = self.roster.ready(name).map(|link| link.connection) else {
            return;
        };
        let mut held = false;
        if let Some(link) = self.roster.link_mut(connection) {
            link.moved_at = now;
            if let Stage::Ready { holds, .. } = &mut link.stage {
                held = holds.contains(&global.sha256);
                // What it holds is known for the first request after joining; later adapters are always sent.
                holds.clear();
            }
        }
        let adapter = if held {
            None
        } else {
            match self.charge_adapter(connection, global, now) {
                Ok(header) => Some(header),
                Err(breach) => return self.deny(connection, name, breach),
            }
        };
        self.tell_records(name);
        self.send(connection, ToClient::Train { global });
        if let Some(header) = adapter {
            self.send_transfer(connection, header);
        }
    }
}
