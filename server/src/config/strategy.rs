//! The section `[strategy]` as typed, and what it says in a plan.

use protocol::plan::StrategyPlan;
use serde::{Deserialize, Serialize};

use super::error::ValueError;

/// Steps toward the geometric median, unless the file says otherwise.
const PASSES: u32 = 8;

/// `[strategy]`: how updates become the next global adapter.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawStrategy {
    /// The rule.
    pub rule: RawRule,
    /// Values left out at either end by a trimmed mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trim: Option<u32>,
    /// Hostile participants that Krum bears.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byzantine: Option<u32>,
    /// Updates whose mean Krum takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// Steps toward the geometric median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passes: Option<u32>,
}

/// The name of a rule.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawRule {
    /// The mean, weighted by examples.
    #[default]
    #[serde(rename = "fedavg")]
    FedAvg,
    /// The coordinate-wise median.
    Median,
    /// The coordinate-wise mean without the lowest and highest values.
    TrimmedMean,
    /// The mean of the updates that are closest to the others.
    Krum,
    /// The point with the least sum of distances to all updates.
    GeometricMedian,
}

impl RawRule {
    fn name(self) -> &'static str {
        match self {
            Self::FedAvg => "fedavg",
            Self::Median => "median",
            Self::TrimmedMean => "trimmed-mean",
            Self::Krum => "krum",
            Self::GeometricMedian => "geometric-median",
        }
    }

    /// The keys that the rule looks at.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::FedAvg | Self::Median => &[],
            Self::TrimmedMean => &["strategy.trim"],
            Self::Krum => &["strategy.byzantine", "strategy.keep"],
            Self::GeometricMedian => &["strategy.passes"],
        }
    }
}

impl RawStrategy {
    /// Gives the plan's strategy; whether its numbers fit the quorum is checked with the plan.
    ///
    /// # Errors
    /// [`ValueError`] names a number that the rule lacks, or one that it does not look at.
    pub fn plan(&self) -> Result<StrategyPlan, ValueError> {
        let name = self.rule.name();
        let given = [
            ("strategy.trim", self.trim),
            ("strategy.byzantine", self.byzantine),
            ("strategy.keep", self.keep),
            ("strategy.passes", self.passes),
        ];
        for (key, value) in given {
            if value.is_some() && !self.rule.keys().contains(&key) {
                let what = format!("has no effect with strategy.rule \"{name}\"; remove it");
                return Err(ValueError::new(key, what));
            }
        }
        let needed = |key, value: Option<u32>| {
            let what = format!(
                "missing, but strategy.rule is \"{name}\"; say how many hostile participants it is to bear"
            );
            value.ok_or_else(|| ValueError::new(key, what))
        };
        Ok(match self.rule {
            RawRule::FedAvg => StrategyPlan::FedAvg,
            RawRule::Median => StrategyPlan::Median,
            RawRule::TrimmedMean => StrategyPlan::TrimmedMean {
                trim: needed("strategy.trim", self.trim)?,
            },
            RawRule::Krum => StrategyPlan::Krum {
                byzantine: needed("strategy.byzantine", self.byzantine)?,
                keep: self.keep.unwrap_or(1),
            },
            RawRule::GeometricMedian => StrategyPlan::GeometricMedian {
                passes: self.passes.unwrap_or(PASSES),
            },
        })
    }
}
