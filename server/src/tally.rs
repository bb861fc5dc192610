//! Whom the server turned away, and why, counted between two lines of `rounds.jsonl`.
//!
//! Bounded: a participant has a name of the federation and the reasons are a table, while strangers, who may claim any name,
//! are counted together.

use std::collections::BTreeMap;

use protocol::ParticipantName;

use crate::record::TurnedAway;

/// The counts since the last line.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<(Option<ParticipantName>, &'static str), u64>);

impl Tally {
    /// Counts one refusal; without a name it is a stranger's.
    pub(crate) fn count(&mut self, name: Option<&ParticipantName>, reason: &'static str) {
        *self.0.entry((name.cloned(), reason)).or_default() += 1;
    }

    /// Adds counts that could not be written down.
    pub(crate) fn add(&mut self, Self(counts): Self) {
        for (key, count) in counts {
            *self.0.entry(key).or_default() += count;
        }
    }

    /// Gives the counts as they are written down.
    pub(crate) fn into_records(self) -> Vec<TurnedAway> {
        let records = self
            .0
            .into_iter()
            .map(|((name, reason), count)| TurnedAway {
                name: name.map(String::from),
                reason: reason.to_owned(),
                count,
            });
        records.collect()
    }
}
