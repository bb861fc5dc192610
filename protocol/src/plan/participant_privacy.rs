//! What the plan promises about whole participants: that one took part, with all that it has, shows in no adapter.
//!
//! DP-FedAvg (McMahan et al. 2018, arXiv 1710.06963): every update is brought within a norm, updates count alike, their sum is
//! divided by a constant, and the server adds Gaussian noise to it. That protects against whoever sees adapters, and not against the
//! server, which draws the noise; for a promise against the server see [`PrivacyPlan`](super::PrivacyPlan). The two may be combined.
//! The clipping norm may follow the updates (Andrew et al. 2021, arXiv 1905.03871).

use serde::{Deserialize, Serialize};

use super::check::{PlanError, ensure, positive, within};
use super::{LatePolicy, RunPlan, StrategyPlan, ValueEncoding};

/// Differential privacy of the participants themselves.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ParticipantPrivacyPlan {
    /// How updates are brought within a norm.
    pub clip: ClipPlan,
    /// Standard deviation of the noise on a round's sum, over the clipping norm. What a round costs follows from this number alone.
    pub noise_multiplier: f64,
    /// The epsilon that the whole run may cost a participant.
    pub epsilon_max: f64,
    /// The delta at which epsilon is counted.
    pub delta: f64,
    /// What sums are divided by, however many updates there are: the cohort that is expected.
    pub expected: u32,
    /// Whether the plan is meant although so few participants leave little but noise.
    pub force: bool,
}

/// How updates are brought within a norm.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub enum ClipPlan {
    /// Every participant shrinks its own update to this norm; the server refuses a longer one.
    Fixed {
        /// The norm.
        norm: f64,
    },
    /// The server shrinks updates to a norm that moves toward a quantile of theirs, and counts, with noise, how many were within it.
    Adaptive {
        /// The norm of the first round.
        first_norm: f64,
        /// The share of updates that is to be within the norm.
        quantile: f64,
        /// How fast the norm moves.
        learning_rate: f64,
        /// Standard deviation of the noise on the count of updates within the norm.
        count_noise: f64,
    },
}

/// Below so many participants noise drowns the updates of any but the smallest adapters.
pub const PARTICIPANTS_FEW: u32 = 100;

impl ParticipantPrivacyPlan {
    /// Checks every field, and what it does not go together with.
    ///
    /// # Errors
    /// [`PlanError`] for the first field that breaks its rule.
    pub(super) fn check(&self, plan: &RunPlan) -> Result<(), PlanError> {
        self.check_numbers(plan)?;
        self.check_clip(plan)?;
        self.check_company(plan)?;
        self.check_many(plan)
    }

    /// The norm of the noise on a mean of updates of so many values, over the norm that each update is clipped to.
    pub fn noise_norm(&self, values: u64) -> f64 {
        self.noise_multiplier * (values as f64).sqrt() / f64::from(self.expected)
    }

    fn check_numbers(&self, plan: &RunPlan) -> Result<(), PlanError> {
        ensure(
            "participant_privacy.noise_multiplier",
            self.noise_multiplier,
            "must be 0.01 to 1000000; without noise there is no privacy",
            (0.01..=1e6).contains(&self.noise_multiplier),
        )?;
        positive("participant_privacy.epsilon_max", self.epsilon_max)?;
        within(
            "participant_privacy.expected",
            self.expected,
            plan.cohort.quorum.max(1),
            plan.limits.participants_max,
        )?;
        ensure(
            "participant_privacy.delta",
            self.delta,
            "must be above 0 and at most one over the number of participants expected",
            0.0 < self.delta && self.delta * f64::from(self.expected) <= 1.0 && self.delta < 1.0,
        )
    }

    fn check_clip(&self, plan: &RunPlan) -> Result<(), PlanError> {
        let within_limit = |field, norm: f64| {
            positive(field, norm)?;
            let rule = "must not be above limits.update_norm_max";
            ensure(field, norm, rule, norm <= plan.limits.update_norm_max)
        };
        match self.clip {
            ClipPlan::Fixed { norm } => within_limit("participant_privacy.clip_norm", norm),
            ClipPlan::Adaptive {
                first_norm,
                quantile,
                learning_rate,
                count_noise,
            } => {
                within_limit("participant_privacy.clip_norm", first_norm)?;
                let rule = "must be above 0 and below 1";
                let holds = 0.0 < quantile && quantile < 1.0;
                ensure("participant_privacy.quantile", quantile, rule, holds)?;
                let rule = "must be above 0 and at most 10";
                let holds = 0.0 < learning_rate && learning_rate <= 10.0;
                ensure(
                    "participant_privacy.clip_learning_rate",
                    learning_rate,
                    rule,
                    holds,
                )?;
                // The count and the sum together must cost what noise_multiplier says.
                ensure(
                    "participant_privacy.count_noise",
                    count_noise,
                    "must be above half of participant_privacy.noise_multiplier: less noise on the count cannot be made up for on the sum",
                    count_noise.is_finite() && self.noise_multiplier < 2.0 * count_noise,
                )
            }
        }
    }

    /// What does not go together with it.
    fn check_company(&self, plan: &RunPlan) -> Result<(), PlanError> {
        ensure(
            "limits.weight_max",
            plan.limits.weight_max,
            "must be 1 under [participant_privacy]: with weights by number of examples one participant moves the mean by more than \
             the noise is made for; updates count alike instead (E_DP_WEIGHTED)",
            plan.limits.weight_max == 1,
        )?;
        ensure(
            "strategy",
            format!("{:?}", plan.strategy),
            "must be the mean under [participant_privacy]: how far one update moves the outcome is known of no other (E_DP_STRATEGY)",
            plan.strategy == StrategyPlan::FedAvg,
        )?;
        ensure(
            "run.transfer",
            "int8",
            "must be bf16 or f32 under [participant_privacy] (run.transfer): what rounding cut off is in the next update, so one round's \
             update tells of several, beyond its clipping norm (E_DP_EF)",
            plan.encoding != ValueEncoding::Int8,
        )?;
        ensure(
            "cohort.late",
            "later-round with participant privacy",
            "must be \"refuse\": a participant would count twice in one round, and the noise is made for once",
            plan.cohort.late == LatePolicy::Refuse,
        )?;
        let Some(ring) = &plan.ring else {
            return Ok(());
        };
        let ClipPlan::Fixed { norm } = self.clip else {
            return Err(PlanError::new(
                "participant_privacy.clip",
                "adaptive with updates in the ring",
                "must be \"fixed\": the norm of an update that nobody looks into is not known",
            ));
        };
        ensure(
            "ring.bits",
            ring.bits.bits(),
            "must be more, or ring.value_max less, under [participant_privacy]: rounding in the ring alone would move an update by more \
             than half of participant_privacy.clip_norm",
            plan.ring_rounding_norm()
                .is_none_or(|rounding| rounding <= 0.5 * norm),
        )
    }

    /// Whether there are enough participants for the noise to leave something.
    fn check_many(&self, plan: &RunPlan) -> Result<(), PlanError> {
        let values = plan.values();
        let rule = format!(
            "must be at least {PARTICIPANTS_FEW}, or participant_privacy.force true: on the mean of {} updates of {values} values the \
             noise has {:.3} times the norm that each is clipped to; protect the records instead with [privacy], or use a far smaller \
             adapter (E_DP_FEW_CLIENTS)",
            self.expected,
            self.noise_norm(values)
        );
        let is_meant = PARTICIPANTS_FEW <= self.expected || self.force;
        ensure(
            "participant_privacy.expected",
            self.expected,
            &rule,
            is_meant,
        )
    }
}
