//! A round's sum while it grows: what is in it, what was refused, and what opened it.

use std::collections::BTreeMap;

use protocol::ParticipantName;
use protocol::message::TransferHeader;
use protocol::secagg::Opening;

use super::Refused;
use crate::total::Total;

/// A round's sum and what was refused.
#[derive(Debug)]
pub(crate) struct Sum {
    pub(super) total: Total,
    /// The updates that are in it.
    pub(super) updates: Vec<TransferHeader>,
    pub(super) refused: BTreeMap<ParticipantName, Refused>,
    /// What opened it, if it was masked.
    pub(super) opening: Option<Box<Opening>>,
    /// Why it cannot be used.
    pub(super) failure: Option<String>,
}

impl Sum {
    /// The sum of these updates, of which nothing was refused.
    pub(crate) fn of(total: Total, updates: Vec<TransferHeader>) -> Self {
        Self {
            total,
            updates,
            refused: BTreeMap::new(),
            opening: None,
            failure: None,
        }
    }

    /// Takes the masks off, and looks whether a sum of updates is under them.
    pub(super) fn open(&mut self, opening: Box<Opening>) {
        let opened = match &mut self.total {
            Total::Values(_) | Total::Ballot(_) => {
                Err("the run's updates are not masked".to_owned())
            }
            Total::Ring(sum) => crate::opening::open(sum, &opening).and_then(|liars| {
                for participant in liars {
                    let attempt = opening.attempt;
                    tracing::warn!(%attempt, %participant, "shares that are wrong were left aside");
                }
                sum.check().map_err(|error| error.to_string())
            }),
        };
        self.failure = opened.err();
        self.opening = Some(opening);
    }
}
