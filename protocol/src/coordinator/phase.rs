//! Where a run stands: one phase follows the other, and a round that leaves one is put into the next.

use std::time::Instant;

use super::round::OpenRound;
use crate::close::CloseCode;
use crate::message::TransferHeader;

/// Where the run stands.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of it, and it is replaced twice a round"
)]
pub(super) enum Phase {
    /// Waiting for the cohort.
    Joining { since: Instant },
    /// A round is open.
    Open(OpenRound),
    /// The owner forms the next adapter. What is late for the closed round may come for the next meanwhile.
    Aggregating { closed: OpenRound, next: OpenRound },
    /// The final adapter is on its way to the participants.
    Finishing {
        adapter: TransferHeader,
        since: Instant,
    },
    /// Nothing more happens; late connections are closed with this code.
    Over { code: CloseCode },
}

impl Phase {
    /// The phase in words, for errors.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Joining { .. } => "waiting for the cohort",
            Self::Open(_) => "a round is open",
            Self::Aggregating { .. } => "a round is being aggregated",
            Self::Finishing { .. } => "the final adapter is being sent",
            Self::Over { .. } => "the run is over",
        }
    }

    /// The round that updates come for: the open one, or while one is aggregated the next.
    pub(super) fn taking(&self) -> Option<&OpenRound> {
        match self {
            Self::Open(open) | Self::Aggregating { next: open, .. } => Some(open),
            Self::Joining { .. } | Self::Finishing { .. } | Self::Over { .. } => None,
        }
    }

    /// The same round, to be changed.
    pub(super) fn taking_mut(&mut self) -> Option<&mut OpenRound> {
        match self {
            Self::Open(open) | Self::Aggregating { next: open, .. } => Some(open),
            Self::Joining { .. } | Self::Finishing { .. } | Self::Over { .. } => None,
        }
    }

    /// The open round, to be put into another phase at once; any other phase stays as it is.
    pub(super) fn take_open(&mut self) -> Option<OpenRound> {
        match std::mem::replace(self, Self::BETWEEN) {
            Self::Open(open) => Some(open),
            phase => {
                *self = phase;
                None
            }
        }
    }

    /// The closed round and the next, to be put into another phase at once; any other phase stays as it is.
    pub(super) fn take_aggregating(&mut self) -> Option<(OpenRound, OpenRound)> {
        match std::mem::replace(self, Self::BETWEEN) {
            Self::Aggregating { closed, next } => Some((closed, next)),
            phase => {
                *self = phase;
                None
            }
        }
    }

    /// What is in the place of a phase while it becomes another.
    const BETWEEN: Self = Self::Over {
        code: CloseCode::Internal,
    };
}
