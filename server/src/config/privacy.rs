//! The sections `[privacy]` and `[participant_privacy]` as typed, and what they say in a plan.

use protocol::plan::{ClipPlan, ParticipantPrivacyPlan, PrivacyPlan, PrivacyUnit};
use serde::{Deserialize, Serialize};

use super::error::ValueError;
use super::raw::{AnyWord, RawCohort, RawParticipants};

/// What privacy protects as a whole.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RawUnit {
    /// One record.
    Record,
    /// All records of one person, by the field that each site names.
    Group,
}

/// `[privacy]`: participants train by DP-SGD, and no update tells much about any one unit.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPrivacy {
    /// Whether any of this is used.
    pub enabled: bool,
    /// What is protected.
    pub unit: RawUnit,
    /// Largest norm of one unit's gradient.
    pub clip_norm: f64,
    /// Noise on a step's sum of gradients, over `clip_norm`.
    pub noise_multiplier: f64,
    /// What the whole run may cost a unit at any participant.
    pub epsilon_max: f64,
    /// At which delta that is counted.
    pub delta: f64,
}

impl Default for RawPrivacy {
    fn default() -> Self {
        Self {
            enabled: false,
            unit: RawUnit::Record,
            clip_norm: 1.0,
            noise_multiplier: 1.0,
            epsilon_max: 8.0,
            delta: 1e-5,
        }
    }
}

/// How updates are brought within a norm.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RawClip {
    /// The same norm throughout; participants shrink their own updates.
    Fixed,
    /// A norm that follows the updates; the server shrinks them.
    Adaptive,
}

/// `[participant_privacy]`: whether a whole participant took part shows in no adapter.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawParticipantPrivacy {
    /// Whether any of this is used.
    pub enabled: bool,
    /// How updates are brought within a norm.
    pub clip: RawClip,
    /// Largest norm of an update; with an adaptive norm that of the first round.
    pub clip_norm: f64,
    /// Share of updates that an adaptive norm lets through as they are.
    pub quantile: f64,
    /// How fast an adaptive norm moves.
    pub clip_learning_rate: f64,
    /// Noise on the count that an adaptive norm follows; a twentieth of the participants expected if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count_noise: Option<f64>,
    /// Noise on a round's sum, over the norm.
    pub noise_multiplier: f64,
    /// What the whole run may cost a participant.
    pub epsilon_max: f64,
    /// At which delta that is counted.
    pub delta: f64,
    /// Participants expected in a round, by which sums are divided; those selected or named if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<u32>,
    /// Whether this is meant with fewer than a hundred participants too.
    pub force: bool,
}

impl Default for RawParticipantPrivacy {
    fn default() -> Self {
        Self {
            enabled: false,
            clip: RawClip::Fixed,
            clip_norm: 1.0,
            quantile: 0.5,
            clip_learning_rate: 0.2,
            count_noise: None,
            noise_multiplier: 6.5,
            epsilon_max: 8.0,
            delta: 1e-5,
            expected: None,
            force: false,
        }
    }
}

impl RawPrivacy {
    /// Gives the plan's part, if any of it is used.
    pub(super) fn plan(&self) -> Option<PrivacyPlan> {
        self.enabled.then_some(PrivacyPlan {
            unit: match self.unit {
                RawUnit::Record => PrivacyUnit::Record,
                RawUnit::Group => PrivacyUnit::Group,
            },
            clip_norm: self.clip_norm,
            noise_multiplier: self.noise_multiplier,
            epsilon_max: self.epsilon_max,
            delta: self.delta,
        })
    }
}

impl RawParticipantPrivacy {
    /// Gives the plan's part, if any of it is used.
    ///
    /// # Errors
    /// [`ValueError`] if nothing says how many participants are expected in a round.
    pub(super) fn plan(
        &self,
        cohort: &RawCohort,
    ) -> Result<Option<ParticipantPrivacyPlan>, ValueError> {
        if !self.enabled {
            return Ok(None);
        }
        let named = match &cohort.participants {
            RawParticipants::Listed(names) => u32::try_from(names.len()).ok(),
            RawParticipants::Word(AnyWord::Any) => None,
        };
        let expected = self.expected.or(cohort.select).or(named);
        let expected = expected.ok_or_else(|| {
            let what = "missing, and neither cohort.select nor a list of participants says how many are expected in a round; \
                        sums are divided by this number";
            ValueError::new("participant_privacy.expected", what)
        })?;
        Ok(Some(self.among(expected)))
    }

    /// Gives the plan's part where so many participants are expected in a round.
    pub fn among(&self, expected: u32) -> ParticipantPrivacyPlan {
        let clip = match self.clip {
            RawClip::Fixed => ClipPlan::Fixed {
                norm: self.clip_norm,
            },
            RawClip::Adaptive => ClipPlan::Adaptive {
                first_norm: self.clip_norm,
                quantile: self.quantile,
                learning_rate: self.clip_learning_rate,
                count_noise: self
                    .count_noise
                    .unwrap_or_else(|| f64::from(expected) / 20.0),
            },
        };
        ParticipantPrivacyPlan {
            clip,
            noise_multiplier: self.noise_multiplier,
            epsilon_max: self.epsilon_max,
            delta: self.delta,
            expected,
            force: self.force,
        }
    }
}
