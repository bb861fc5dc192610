//! The updates of a round under a robust rule: all kept on disk until the round closes, and looked at together then.
//!
//! In memory are their names and places only. That they keep the plan's limits was found out when they arrived; that there are
//! enough for the rule follows from the quorum.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aggregation::encoded::EncodedUpdate;
use aggregation::strategy::robust::{Outcome, RobustError, RobustRule};
use aggregation::{AdapterLayout, Encoding};
use protocol::ParticipantName;

use crate::spool::KeptUpdate;

/// The updates of a round, by participant: whoever comes first, the rule sees them in the order of names.
#[derive(Debug)]
pub(crate) struct Ballot {
    rule: RobustRule,
    layout: Arc<AdapterLayout>,
    encoding: Encoding,
    updates: BTreeMap<ParticipantName, KeptUpdate>,
}

/// What the rule made of each update, as far as the round's line tells.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) rule: RobustRule,
    /// The Euclidean distance of each update from the result.
    pub(crate) distances: BTreeMap<ParticipantName, f64>,
    /// Who has no part in the result.
    pub(crate) left_out: BTreeSet<ParticipantName>,
}

impl Ballot {
    /// Begins without updates.
    pub(crate) fn new(rule: RobustRule, layout: Arc<AdapterLayout>, encoding: Encoding) -> Self {
        Self {
            rule,
            layout,
            encoding,
            updates: BTreeMap::new(),
        }
    }

    /// Takes an update that was admitted and kept. One that its participant sent before is replaced.
    pub(crate) fn add(&mut self, participant: ParticipantName, update: KeptUpdate) {
        self.updates.insert(participant, update);
    }

    /// Has the rule make one update of all.
    ///
    /// # Errors
    /// An update is not what it was when it was admitted, or there are too few for the rule.
    pub(crate) fn count(&self) -> Result<(Vec<f32>, Counted), RobustError> {
        let updates = self.updates.iter();
        let updates: BTreeMap<_, _> = updates
            .map(|(name, file)| (name, EncodedUpdate::new(file, self.encoding)))
            .collect();
        let Outcome {
            update,
            distances,
            left_out,
        } = self.rule.apply(&self.layout, &updates)?;
        let names: Vec<_> = self.updates.keys().cloned().collect();
        let left_out = left_out.into_iter().map(|position| names[position].clone());
        let counted = Counted {
            rule: self.rule,
            left_out: left_out.collect(),
            distances: names.iter().cloned().zip(distances).collect(),
        };
        Ok((update, counted))
    }
}
