//! The parts of a plan that say how updates are summed so that the server sees only their sum, and the rules for them.

use serde::{Deserialize, Serialize};

use super::check::{PlanError, ensure, positive};
use super::{LatePolicy, RunPlan};

/// Updates travel as fixed point in a ring of integers instead of as values, with their weight inside.
///
/// Masked or not, the server adds them up in that ring; so a run with masks comes to the same bytes as one without.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct RingPlan {
    /// The ring's width.
    pub bits: RingBits,
    /// The largest magnitude of one value of an update; what is beyond is cut off there, and counted.
    pub value_max: f64,
}

/// The integers modulo two to this power.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum RingBits {
    /// Two bytes a value.
    Bits16,
    /// Three bytes a value.
    Bits24,
    /// Four bytes a value.
    Bits32,
}

impl RingBits {
    /// The exponent of the modulus.
    pub fn bits(self) -> u32 {
        match self {
            Self::Bits16 => 16,
            Self::Bits24 => 24,
            Self::Bits32 => 32,
        }
    }
}

/// Updates are masked, so that the server learns their sum and nothing else of them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SecureAggregationPlan {
    /// A participant helps to open no sum of fewer updates.
    pub cohort_min: u32,
    /// Against whom the sum of a few is protected.
    pub trust: ServerTrust,
}

/// What is assumed of the server when thresholds are chosen.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ServerTrust {
    /// Nothing: it may lie, with fewer than a third of the participants on its side.
    Malicious,
    /// It follows the protocol and looks at what it gets. Half of the participants may drop out.
    HonestButCurious,
}

/// With two, each learns the other's update from the sum.
pub const COHORT_MIN: u32 = 3;

/// The most participants of an attempt: what the graph of shares is computed for.
pub const SECURE_PARTICIPANTS_MAX: u32 = 1000;

/// Fewer bits for a value are of no use.
const VALUE_BITS_MIN: u32 = 4;

/// The weight, and how many values were cut off, stand behind the values.
const EXTRA_ELEMENTS: u64 = 2;

impl RunPlan {
    /// The length of an update as it travels, in bytes.
    pub fn update_bytes(&self) -> u64 {
        match &self.ring {
            None => self.encoding.bytes(self.values()),
            Some(ring) => self.ring_elements() * u64::from(ring.bits.bits() / 8),
        }
    }

    /// Elements of an update in the ring: one a value, the weight, and the count of values that were cut off.
    pub fn ring_elements(&self) -> u64 {
        self.values() + EXTRA_ELEMENTS
    }

    pub(super) fn check_ring(&self) -> Result<(), PlanError> {
        let Some(ring) = &self.ring else {
            return Ok(());
        };
        positive("ring.value_max", ring.value_max)?;
        let participants = self.limits.participants_max;
        let found = format!(
            "{} with limits.participants_max {participants}",
            ring.bits.bits()
        );
        ensure(
            "ring.bits",
            &found,
            "must leave 4 bits for a value, or sums overflow: use a larger ring or fewer participants (E_SECAGG_OVERFLOW)",
            VALUE_BITS_MIN <= self.value_bits(ring),
        )?;
        // AdamW moves a value by about the rate in a step, at most.
        let moved = self.training.learning_rate * f64::from(self.training.local_steps);
        ensure(
            "ring.bits",
            format!("{found} and ring.value_max {}", ring.value_max),
            &format!(
                "must keep a step of a value within training.learning_rate * training.local_steps = {moved}, or updates are rounded to \
                 nothing: use a larger ring, fewer participants or a smaller ring.value_max (E_RING_STEP)"
            ),
            self.value_step(ring) <= moved,
        )
    }

    /// The bits that hold a value's magnitude: the sum of all that may contribute must fit half of the ring.
    fn value_bits(&self, ring: &RingPlan) -> u32 {
        let most = (u32::MAX >> (32 - ring.bits.bits())) / 2;
        let most_of_one = most / self.limits.participants_max.max(1);
        most_of_one.checked_ilog2().unwrap_or(0)
    }

    /// The distance between two values of an update of full weight in the ring.
    fn value_step(&self, ring: &RingPlan) -> f64 {
        ring.value_max / f64::from(self.value_bits(ring)).exp2()
    }

    /// The norm by which rounding to the ring may move an update, if updates travel in one: half a step a value.
    pub fn ring_rounding_norm(&self) -> Option<f64> {
        let ring = self.ring.as_ref()?;
        Some((self.values() as f64).sqrt() * self.value_step(ring) / 2.0)
    }

    pub(super) fn check_secure_aggregation(&self) -> Result<(), PlanError> {
        let Some(plan) = &self.secure_aggregation else {
            return Ok(());
        };
        ensure(
            "secure_aggregation",
            "set without ring",
            "needs the plan's ring: masks are added in it",
            self.ring.is_some(),
        )?;
        let participants = self.limits.participants_max;
        ensure(
            "limits.participants_max with secure aggregation",
            participants,
            "must be 3 to 1000: from the sum of two each reads the other's update (E_SECAGG_MIN)",
            (COHORT_MIN..=SECURE_PARTICIPANTS_MAX).contains(&participants),
        )?;
        ensure(
            "secure_aggregation.cohort_min",
            plan.cohort_min,
            "must be 3 to limits.participants_max: from the sum of two each reads the other's update (E_SECAGG_MIN)",
            (COHORT_MIN..=participants).contains(&plan.cohort_min),
        )?;
        ensure(
            "cohort.quorum",
            self.cohort.quorum,
            "must be at least secure_aggregation.cohort_min: participants open no smaller sum (E_SECAGG_MIN)",
            plan.cohort_min <= self.cohort.quorum,
        )?;
        self.check_no_stragglers()
    }

    /// A masked update is of one attempt of one round, and of no use in another sum.
    fn check_no_stragglers(&self) -> Result<(), PlanError> {
        let cohort = &self.cohort;
        ensure(
            "cohort.late",
            "later-round with secure aggregation",
            "must be \"refuse\": a masked update is of no use in the sum of another round (E_SECAGG_ASYNC)",
            cohort.late == LatePolicy::Refuse,
        )?;
        ensure(
            "cohort.select",
            "set with secure aggregation",
            "must be left out: an attempt is made among all who have trained",
            cohort.select.is_none(),
        )?;
        ensure(
            "cohort.enough",
            "set with secure aggregation",
            "must be left out: a sum is opened only with everybody's masks accounted for (E_SECAGG_ASYNC)",
            cohort.enough.is_none(),
        )
    }
}
