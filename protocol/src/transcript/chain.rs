//! Records that continue each other, and every way in which one may not.

use crate::ids::{Digest, Round};
use crate::seal::SealFault;

use super::record::Heading;

/// The end of a chain of records: what the next one must continue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chain {
    plan: Digest,
    round: Round,
    last: Digest,
    after: Option<Digest>,
}

impl Chain {
    /// A run's chain before its first record.
    pub fn new(plan: Digest) -> Self {
        Self {
            plan,
            round: Round(0),
            last: plan,
            after: None,
        }
    }

    /// The digest of the run plan.
    pub fn plan(&self) -> Digest {
        self.plan
    }

    /// The round of the last record; 0 before the first.
    pub fn round(&self) -> Round {
        self.round
    }

    /// The hash of the last record; the plan's digest before the first.
    pub fn last(&self) -> Digest {
        self.last
    }

    /// The adapter that the last record came to, as it travels.
    pub fn after(&self) -> Option<Digest> {
        self.after
    }

    /// Adds a record that continues the chain.
    ///
    /// # Errors
    /// [`TranscriptFault`] says how it does not; the chain is then as before.
    pub fn extend(&mut self, heading: &Heading) -> Result<(), TranscriptFault> {
        let (expected, found) = (self.round.next(), heading.round);
        if heading.plan != self.plan {
            return Err(TranscriptFault::OtherPlan { round: found });
        }
        if found != expected {
            return Err(TranscriptFault::Order { expected, found });
        }
        if heading.previous != self.last {
            return Err(TranscriptFault::Fork { round: found });
        }
        if self.after.is_some_and(|after| after != heading.before) {
            return Err(TranscriptFault::Start { round: found });
        }
        self.round = found;
        self.last = heading.hash();
        self.after = Some(heading.after);
        Ok(())
    }
}

/// What is wrong with a transcript, and from which record on.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TranscriptFault {
    /// A record of another run.
    #[error("the record of round {round} is one of another run plan")]
    OtherPlan {
        /// Its round.
        round: Round,
    },
    /// A record is missing, repeated, or out of order.
    #[error("the record of round {found} came where that of round {expected} belongs")]
    Order {
        /// The round that follows.
        expected: Round,
        /// The round found.
        found: Round,
    },
    /// The record continues another history than the one known.
    #[error(
        "the record of round {round} does not continue the record before it: the transcript was forked or changed"
    )]
    Fork {
        /// Its round.
        round: Round,
    },
    /// The round started from another adapter than the round before came to.
    #[error("round {round} did not start from the adapter that its transcript names")]
    Start {
        /// The round.
        round: Round,
    },
    /// The record's seal is not believed.
    #[error("the record of round {round} is not the server's: {fault}")]
    Seal {
        /// Its round.
        round: Round,
        /// What is wrong.
        fault: SealFault,
    },
    /// The lines are not those of the signed heading.
    #[error("the lines of the record of round {round}: {what}")]
    Lines {
        /// Its round.
        round: Round,
        /// What is wrong.
        what: &'static str,
    },
    /// An update that was acknowledged is not counted.
    #[error("the server acknowledged our update of round {round}, and no record counts it")]
    Dropped {
        /// The round.
        round: Round,
    },
    /// Another update than ours is counted under our name.
    #[error(
        "the record of round {round} counts the update {found} as ours, and we sent {expected}"
    )]
    OtherUpdate {
        /// The round.
        round: Round,
        /// SHA-256 of what we sent.
        expected: Digest,
        /// SHA-256 of what is counted.
        found: Digest,
    },
    /// Our update counts with another weight.
    #[error(
        "the record of round {round} counts our update with weight {found}, and we sent {expected}"
    )]
    OtherWeight {
        /// The round.
        round: Round,
        /// The weight that we sent.
        expected: u64,
        /// The weight that is counted.
        found: u64,
    },
    /// An adapter that no record names.
    #[error(
        "the adapter sent after round {round} is not the one that the record of that round names"
    )]
    Aggregate {
        /// The round that it should have come out of.
        round: Round,
    },
    /// The server goes on from another round than its records end with.
    #[error(
        "the server goes on after round {found}, and its transcript, as we hold it, ends with round {seen}"
    )]
    Unrecorded {
        /// The round that the server went on from.
        found: Round,
        /// The last round of which there is a record.
        seen: Round,
    },
}
