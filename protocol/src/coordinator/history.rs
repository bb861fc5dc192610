//! What a run must remember over a crash of the server: entries to be written down, and what they add up to.
//!
//! The coordinator asks for an entry with [`Action::Record`](super::Action::Record) before anything that follows from it is
//! said to a participant. An owner that writes entries down in that order, and performs what comes after them only once
//! they are safe, can be killed at any instant: [`Coordinator::resume`](super::Coordinator::resume) goes on from their sum.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Admission;
use crate::close::RefusalReason;
use crate::ids::{Digest, ParticipantName, Round};
use crate::secagg::{AttemptId, Failure};

/// One thing that must not be forgotten.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Entry {
    /// A participant agreed to the plan.
    Joined {
        /// Who.
        participant: ParticipantName,
    },
    /// A participant needs nothing more: it declined, left, or has the final adapter.
    Parted {
        /// Who.
        participant: ParticipantName,
    },
    /// A round was opened.
    Opened {
        /// Which.
        round: Round,
    },
    /// A participant was asked for an update of the open round, by a plan that does not ask everybody.
    Asked {
        /// Who.
        participant: ParticipantName,
        /// In which round.
        round: Round,
    },
    /// A round was closed without the update that a participant works on; it may count in a later one.
    Postponed {
        /// Who.
        participant: ParticipantName,
        /// What it works on.
        late: Late,
    },
    /// A postponed update was counted, refused or given up.
    LateSettled {
        /// Whose.
        participant: ParticipantName,
    },
    /// An update counts. Its bytes are the owner's to keep.
    Accepted(Admission),
    /// A participant is out of the open round.
    Refused {
        /// Who.
        participant: ParticipantName,
        /// Of which round.
        round: Round,
        /// Why.
        reason: RefusalReason,
    },
    /// An attempt at secure aggregation began: its number is not used again.
    Attempted {
        /// Of which round.
        round: Round,
        /// Its number.
        number: u32,
    },
    /// Members are asked to open the sum of these: the round has no other.
    SumFixed {
        /// The round.
        round: Round,
        /// Whose updates are in it.
        members: Vec<ParticipantName>,
    },
    /// What was opened turned out to be no sum of updates.
    SumUnopened {
        /// The round.
        round: Round,
        /// For which time in it.
        times: u32,
    },
    /// A round was closed: what was accepted so far is what it comes to.
    Closed {
        /// Which.
        round: Round,
    },
    /// An attempt at secure aggregation came to nothing, and not because the server ended.
    AttemptFailed {
        /// Which.
        attempt: AttemptId,
        /// Over whom.
        failure: Failure,
    },
}

/// An update that was not there when its round closed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Late {
    /// The round it is trained for.
    pub round: Round,
    /// SHA-256 of the global adapter that it starts from.
    pub global: Digest,
}

/// The sum of a run's entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Rounds whose adapter is safe: on disk, or formed again from what is.
    pub rounds_done: u32,
    /// Participants that agreed to the plan and still need something.
    pub joined: BTreeSet<ParticipantName>,
    /// Participants that work on an update of an earlier round.
    pub late: BTreeMap<ParticipantName, Late>,
    /// The round after those, if it was opened.
    pub open: Option<OpenHistory>,
}

/// What is known of a round that was opened and not aggregated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpenHistory {
    /// Participants that were asked, if not everybody is.
    pub asked: BTreeSet<ParticipantName>,
    /// Updates that count.
    pub accepted: BTreeMap<ParticipantName, Admission>,
    /// Participants that are out.
    pub refused: BTreeMap<ParticipantName, RefusalReason>,
    /// Whether it was closed.
    pub is_closed: bool,
    /// The last attempt at secure aggregation that began; 0 if none did.
    pub attempts: u32,
    /// The attempts that came to nothing, by number, but for those that the server's end cut short.
    pub failures: BTreeMap<u32, Failure>,
    /// Whose updates are in the sum that members were asked to open; nobody's if they were not.
    pub summed: BTreeSet<ParticipantName>,
    /// The attempt in which they were asked first; 0 if they were not.
    pub summed_in: u32,
    /// How often that sum turned out to be none.
    pub unopened: u32,
}

impl History {
    /// Adds an entry. One about another round than the present one changes nothing.
    pub fn note(&mut self, entry: Entry) {
        match entry {
            Entry::Joined { participant } => {
                self.joined.insert(participant);
            }
            Entry::Parted { participant } => {
                self.joined.remove(&participant);
                self.late.remove(&participant);
            }
            Entry::Asked { participant, round } => {
                if let Some(open) = self.present(round) {
                    open.asked.insert(participant);
                }
            }
            Entry::Postponed { participant, late } => {
                self.late.insert(participant, late);
            }
            Entry::LateSettled { participant } => {
                self.late.remove(&participant);
            }
            Entry::Opened { round } => {
                if round == self.round() {
                    self.open.get_or_insert_default();
                }
            }
            Entry::Accepted(admission) => {
                if let Some(open) = self.present(admission.round) {
                    open.accepted
                        .insert(admission.participant.clone(), admission);
                }
            }
            Entry::Refused {
                participant,
                round,
                reason,
            } => {
                if let Some(open) = self.present(round) {
                    open.refused.insert(participant, reason);
                }
            }
            Entry::Attempted { round, number } => {
                if let Some(open) = self.present(round) {
                    open.attempts = open.attempts.max(number);
                }
            }
            Entry::AttemptFailed { attempt, failure } => {
                if let Some(open) = self.present(attempt.round) {
                    open.failures.insert(attempt.number, failure);
                }
            }
            Entry::SumFixed { round, members } => {
                if let Some(open) = self.present(round) {
                    if open.summed.is_empty() {
                        open.summed_in = open.attempts;
                    }
                    open.summed = members.into_iter().collect();
                }
            }
            Entry::SumUnopened { round, times } => {
                if let Some(open) = self.present(round) {
                    open.unopened = open.unopened.max(times);
                }
            }
            Entry::Closed { round } => {
                if let Some(open) = self.present(round) {
                    open.is_closed = true;
                }
            }
        }
    }

    /// The fewest entries that say who takes part and who is late, in an order in which they can be noted.
    pub fn standing(&self) -> Vec<Entry> {
        let joined = self.joined.iter().cloned();
        let joined = joined.map(|participant| Entry::Joined { participant });
        let late = self.late.iter().map(|(participant, late)| {
            let (participant, late) = (participant.clone(), *late);
            Entry::Postponed { participant, late }
        });
        joined.chain(late).collect()
    }

    /// The present round's adapter is safe: its entries have served.
    pub fn round_done(&mut self) {
        self.rounds_done = self.rounds_done.saturating_add(1);
        self.open = None;
    }

    /// The round after those that are done.
    pub fn round(&self) -> Round {
        Round(self.rounds_done).next()
    }

    fn present(&mut self, round: Round) -> Option<&mut OpenHistory> {
        let is_present = round == self.round();
        self.open.as_mut().filter(|_| is_present)
    }
}
