//! What the participant is doing in the round.

use crate::ids::{Digest, ParticipantName, Round};
use crate::message::{Metrics, TransferHeader};

use super::Spooled;

/// The round's work. It outlives connections.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Work {
    /// Nothing is asked.
    Idle,
    /// Asked, and waiting for the global adapter or the anchor.
    Receiving { global: TransferHeader },
    /// The owner trains.
    Training { global: TransferHeader },
    /// The update is offered until it is counted or refused.
    Delivering { global: Digest, offer: Offer },
    /// The update waits to be summed with others, which takes one attempt or more.
    Summing {
        /// SHA-256 of the global adapter that it was trained from.
        global: Digest,
        /// The update without masks, under the transfer by which the owner keeps it. It is never sent.
        plain: TransferHeader,
        /// What is reported beside it.
        metrics: Metrics,
        /// The masked update of the attempt under way.
        offer: Option<Offer>,
    },
    /// The run is over; the final adapter is on its way.
    Parting {
        rounds: u32,
        adapter: TransferHeader,
    },
}

/// An update as it is offered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Offer {
    /// Its transfer.
    pub(super) transfer: TransferHeader,
    /// Its weight, in training examples.
    pub(super) weight: u64,
    /// What is reported beside it.
    pub(super) metrics: Metrics,
}

impl Work {
    /// The state in words, for errors.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Idle => "waiting for a round",
            Self::Receiving { .. } => "receiving the global adapter",
            Self::Training { .. } => "training",
            Self::Delivering { .. } => "delivering the update",
            Self::Summing { .. } => "waiting for the round's sum",
            Self::Parting { .. } => "receiving the final adapter",
        }
    }

    /// The round and the digest of the global adapter that the work is for.
    pub(super) fn task(&self) -> Option<(Round, Digest)> {
        match self {
            Self::Receiving { global } | Self::Training { global } => {
                Some((global.round, global.sha256))
            }
            Self::Delivering { global, offer } => Some((offer.transfer.round, *global)),
            Self::Summing { global, plain, .. } => Some((plain.round, *global)),
            Self::Idle | Self::Parting { .. } => None,
        }
    }

    /// The digest of the global adapter that need not be sent again.
    pub(super) fn holds_global(&self) -> Option<Digest> {
        match self {
            Self::Training { global } => Some(global.sha256),
            Self::Delivering { global, .. } | Self::Summing { global, .. } => Some(*global),
            Self::Idle | Self::Receiving { .. } | Self::Parting { .. } => None,
        }
    }
}

impl Spooled {
    /// The offer of this update.
    pub(super) fn offer(&self, sender: &ParticipantName) -> Offer {
        Offer {
            transfer: TransferHeader::update(sender, self.round, self.plan, self.update),
            weight: self.weight,
            metrics: self.metrics,
        }
    }
}
