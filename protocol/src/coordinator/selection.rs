//! Who is asked in a round when not everybody is: drawn by lot, the same lot on every machine.
//!
//! More may be asked than are needed (`select` and `enough` in the plan), so that a round need not wait for its slowest. In
//! the place of one that is refused, leaves or loses its connection the next is asked.

use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::round::{Lateness, Work};
use super::{Coordinator, Entry, Phase};
use crate::ids::{Digest, ParticipantName, Round};

impl Coordinator {
    /// Asks as many as the plan says, if fewer are at work, and returns who was asked now.
    pub(super) fn fill(&mut self, now: Instant) -> Vec<ParticipantName> {
        let drawn = self.draw();
        for name in &drawn {
            self.engage(name, now);
        }
        drawn
    }

    /// Asks one that has no work in the open round.
    pub(super) fn engage(&mut self, name: &ParticipantName, now: Instant) {
        let Phase::Open(open) = &mut self.phase else {
            return;
        };
        let round = open.round;
        open.works.insert(name.clone(), Work::Training { step: 0 });
        // Without a selection everybody who joined is asked.
        if self.plan.cohort.select.is_some() {
            self.record(Entry::Asked {
                participant: name.clone(),
                round,
            });
        }
        self.ask(name, round, now);
    }

    /// Whether one more may be asked in the open round.
    pub(super) fn has_room(&self) -> bool {
        let Phase::Open(open) = &self.phase else {
            return false;
        };
        let full = self.plan.limits.participants_max as usize <= open.works.len();
        let chosen = self
            .plan
            .cohort
            .select
            .is_some_and(|select| select as usize <= open.engaged(&self.roster));
        let is_ending =
            open.lateness > Lateness::InTime && self.plan.cohort.quorum <= open.accepted();
        !full && !chosen && !is_ending && open.fixed.is_none()
    }

    /// Draws those to be asked next: all who may be, if the plan does not select.
    fn draw(&self) -> Vec<ParticipantName> {
        let Phase::Open(open) = &self.phase else {
            return Vec::new();
        };
        // Those who are expected back may be at work already.
        if !self.has_room() || self.plan.cohort.select.is_some() && self.returning.is_anybody() {
            return Vec::new();
        }
        let idle = self.ready().filter(|name| !open.works.contains_key(name));
        let mut drawn: Vec<_> = idle.cloned().collect();
        let wanted = match self.plan.cohort.select {
            None => drawn.len(),
            Some(select) => {
                drawn.sort_by_cached_key(|name| lot(self.plan.lots(), open.round, name));
                (select as usize).saturating_sub(open.engaged(&self.roster))
            }
        };
        let room = (self.plan.limits.participants_max as usize).saturating_sub(open.works.len());
        drawn.truncate(wanted.min(room));
        drawn
    }
}

/// A participant's lot in a round; the lowest are drawn. Nobody can choose it: names are the authority's.
fn lot(lots: Digest, round: Round, name: &ParticipantName) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"foedus/lot/1");
    hash.update(lots.0);
    hash.update(round.0.to_le_bytes());
    hash.update(name.as_str());
    hash.finalize().into()
}
