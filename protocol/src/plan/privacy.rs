//! What the plan promises about the records behind an update, and what it may cost.
//!
//! With a [`PrivacyPlan`] every participant trains by DP-SGD: gradients are clipped unit by unit, the noise is drawn at the site
//! and never from the plan's seed, and a site's own accountant says what a run costs its records. The plan's numbers are what all
//! must do; how many records a site has, and so its sampling rate and its epsilon, stays at the site.

use serde::{Deserialize, Serialize};

use super::check::{PlanError, ensure, positive};

/// Differential privacy of the records that participants train on.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PrivacyPlan {
    /// What is protected as a whole.
    pub unit: PrivacyUnit,
    /// Largest norm of one unit's gradient; longer ones are scaled down to it.
    pub clip_norm: f64,
    /// Standard deviation of the noise on a step's sum of gradients, over `clip_norm`.
    pub noise_multiplier: f64,
    /// The epsilon that the whole run may cost a unit at any participant. A site whose records are too few for it declines.
    pub epsilon_max: f64,
    /// The delta at which epsilon is counted; at most one over a site's number of units.
    pub delta: f64,
}

/// What one neighbouring data set has more or less than the other.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum PrivacyUnit {
    /// One record of the training text. A person with several records is protected less.
    Record,
    /// All records of one person: every site must say by which field of its records they belong together.
    Group,
}

impl PrivacyPlan {
    /// Checks every field, and that no exact weight leaves beside private updates.
    ///
    /// # Errors
    /// [`PlanError`] for the first field that breaks its rule.
    pub(super) fn check(&self, weight_max: u64) -> Result<(), PlanError> {
        ensure(
            "privacy.clip_norm",
            self.clip_norm,
            "must be 0.000001 to 1000000: beyond, rounding of sums to f32 would move them by more than the noise is made for",
            (1e-6..=1e6).contains(&self.clip_norm),
        )?;
        ensure(
            "privacy.noise_multiplier",
            self.noise_multiplier,
            "must be 0.01 to 1000000; without noise there is no privacy",
            (0.01..=1e6).contains(&self.noise_multiplier),
        )?;
        positive("privacy.epsilon_max", self.epsilon_max)?;
        ensure(
            "privacy.delta",
            self.delta,
            "must be above 0 and below 1; at most one over the number of a site's records is meant",
            0.0 < self.delta && self.delta < 1.0,
        )?;
        ensure(
            "limits.weight_max",
            weight_max,
            "must be 1 under [privacy]: weighting by the number of examples tells exactly how many records a site has, and no \
             noise is on that number; updates count alike instead (E_DP_WEIGHTED)",
            weight_max == 1,
        )
    }
}
