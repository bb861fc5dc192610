//! The records of a run as the coordinator keeps them, to tell each participant of each round.
//!
//! All of a cohort hear of the same record one after the other, so the hash tree of the one that was told of last is kept beside them:
//! hashed anew for each, a round of a thousand would cost a million hashes.

use super::record::{Excerpt, SealedRecord};
use super::tree::Tree;
use crate::ids::{ParticipantName, Round};

/// Records from round 1 on.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    records: Vec<SealedRecord>,
    /// The tree of the record that was told of last, and its place.
    last_told: Option<(usize, Tree)>,
}

impl From<Vec<SealedRecord>> for Archive {
    fn from(records: Vec<SealedRecord>) -> Self {
        Self {
            records,
            last_told: None,
        }
    }
}

impl Archive {
    /// Takes in the next round's record.
    pub(crate) fn push(&mut self, record: SealedRecord) {
        self.records.push(record);
    }

    /// The last round that is on record; 0 before the first.
    pub(crate) fn last_round(&self) -> Round {
        Round(u32::try_from(self.records.len()).unwrap_or(u32::MAX))
    }

    /// What a participant gets of the records after this round, in their order.
    pub(crate) fn excerpts_after(&mut self, known: Round, name: &ParticipantName) -> Vec<Excerpt> {
        let Self { records, last_told } = self;
        let told = records.iter().enumerate().skip(known.0 as usize);
        let excerpts = told.map(|(place, record)| {
            let kept = last_told.take().filter(|(of, _)| *of == place);
            let (_, tree) = last_told.insert(kept.unwrap_or_else(|| (place, record.record.tree())));
            record.excerpt_of(tree, name)
        });
        excerpts.collect()
    }
}
