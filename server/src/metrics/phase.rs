//! Where a run stands.

/// One of the phases of `protocol::coordinator`, as far as events tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Waiting for the cohort.
    Joining,
    /// A round is open.
    Open,
    /// The next adapter is being formed.
    Aggregating,
    /// The final adapter is on its way.
    Finishing,
    /// Nothing more happens.
    Over,
}

impl Phase {
    pub(super) const ALL: [Self; 5] = [
        Self::Joining,
        Self::Open,
        Self::Aggregating,
        Self::Finishing,
        Self::Over,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Open => "open",
            Self::Aggregating => "aggregating",
            Self::Finishing => "finishing",
            Self::Over => "over",
        }
    }
}
