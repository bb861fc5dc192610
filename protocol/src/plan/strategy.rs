//! The part of a plan that says how updates become the next global adapter, and the rules for it.
//!
//! A rule's condition on the number of updates is held against the quorum here, so that no round that closes can fail it. How a
//! rule computes is `aggregation::strategy`'s business.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::RunPlan;
use super::check::{PlanError, ensure, within};

/// How updates become the next global adapter. Under every rule but the first, updates count alike whatever they weigh.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum StrategyPlan {
    /// The mean of both factors, weighted by examples.
    #[default]
    FedAvg,
    /// The coordinate-wise median. Bears fewer than half hostile participants.
    Median,
    /// The coordinate-wise mean without the lowest and the highest values. Bears `trim` hostile participants.
    TrimmedMean {
        /// Values left out at either end.
        trim: u32,
    },
    /// The mean of the updates that are closest to the others: Krum if one is kept, Multi-Krum if more are.
    Krum {
        /// Hostile participants that it bears.
        byzantine: u32,
        /// Updates whose mean is taken.
        keep: u32,
    },
    /// The geometric median. Bears fewer than half hostile participants.
    GeometricMedian {
        /// Steps from the coordinate-wise median toward it.
        passes: u32,
    },
}

/// The most updates of a round that are looked at together.
pub const ROBUST_PARTICIPANTS_MAX: u32 = 1000;

/// More passes change nothing any more.
const PASSES_MAX: u32 = 100;

impl fmt::Display for StrategyPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl StrategyPlan {
    /// The names of all rules, as configurations and policies write them.
    pub const NAMES: [&'static str; 5] = [
        "fedavg",
        "median",
        "trimmed-mean",
        "krum",
        "geometric-median",
    ];

    /// The rule's name.
    pub fn name(self) -> &'static str {
        let [fedavg, median, trimmed_mean, krum, geometric_median] = Self::NAMES;
        match self {
            Self::FedAvg => fedavg,
            Self::Median => median,
            Self::TrimmedMean { .. } => trimmed_mean,
            Self::Krum { .. } => krum,
            Self::GeometricMedian { .. } => geometric_median,
        }
    }

    /// Whether all updates of a round are looked at together, instead of being added up one by one.
    pub fn is_robust(self) -> bool {
        self != Self::FedAvg
    }
}

impl RunPlan {
    pub(super) fn check_strategy(&self) -> Result<(), PlanError> {
        if !self.strategy.is_robust() {
            return Ok(());
        }
        self.check_updates_are_seen()?;
        within(
            "limits.participants_max with a robust strategy",
            self.limits.participants_max,
            1,
            ROBUST_PARTICIPANTS_MAX,
        )?;
        let quorum = self.cohort.quorum;
        match self.strategy {
            StrategyPlan::FedAvg => Ok(()),
            StrategyPlan::Median => check_middle(quorum),
            StrategyPlan::TrimmedMean { trim } => check_trimmed_mean(trim, quorum),
            StrategyPlan::Krum { byzantine, keep } => check_krum(byzantine, keep, quorum),
            StrategyPlan::GeometricMedian { passes } => {
                within("strategy.passes", passes, 1, PASSES_MAX)?;
                check_middle(quorum)
            }
        }
    }

    /// A robust rule compares updates, so the server must see each.
    fn check_updates_are_seen(&self) -> Result<(), PlanError> {
        ensure(
            "strategy",
            format!("{} with secure aggregation", self.strategy),
            "needs every participant's update by itself, and secure aggregation reveals only their sum: use \"fedavg\" with it, \
             which trusts every participant, or this rule without it, which trusts the server with every update \
             (E_KRUM_SECAGG)",
            self.secure_aggregation.is_none(),
        )?;
        ensure(
            "strategy",
            format!("{} with ring", self.strategy),
            "works on values, and vectors in a ring are only added up: leave ring out, or use \"fedavg\" (E_KRUM_SECAGG)",
            self.ring.is_none(),
        )
    }
}

fn check_middle(quorum: u32) -> Result<(), PlanError> {
    ensure(
        "cohort.quorum",
        quorum,
        "must be at least 3 for a median: of two values neither is in the middle, and one hostile participant moves their mean \
         anywhere",
        3 <= quorum,
    )
}

fn check_trimmed_mean(trim: u32, quorum: u32) -> Result<(), PlanError> {
    within("strategy.trim", trim, 1, ROBUST_PARTICIPANTS_MAX)?;
    let needed = 2 * trim + 1;
    ensure(
        "cohort.quorum",
        quorum,
        &format!(
            "must be at least {needed} with strategy.trim {trim}: nothing is left of fewer updates than twice what is trimmed, and one \
             more; raise the quorum or lower strategy.trim (E_TRIM_N)"
        ),
        needed <= quorum,
    )
}

fn check_krum(byzantine: u32, keep: u32, quorum: u32) -> Result<(), PlanError> {
    within("strategy.byzantine", byzantine, 1, ROBUST_PARTICIPANTS_MAX)?;
    within("strategy.keep", keep, 1, ROBUST_PARTICIPANTS_MAX)?;
    let needed = 2 * byzantine + 3;
    ensure(
        "cohort.quorum",
        quorum,
        &format!(
            "must be at least {needed} with strategy.byzantine {byzantine}: of fewer than 2f + 3 updates f hostile ones can be closest \
             to each other; raise the quorum, lower strategy.byzantine, or use \"median\" (E_KRUM_N)"
        ),
        needed <= quorum,
    )?;
    ensure(
        "strategy.keep",
        keep,
        &format!(
            "must be at most {}: of a quorum of {quorum}, {byzantine} may be hostile and have no part in the mean (E_KRUM_N)",
            quorum - byzantine
        ),
        keep <= quorum - byzantine,
    )
}
