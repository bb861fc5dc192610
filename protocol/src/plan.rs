//! The run plan: everything that all must agree on before any GPU works.
//!
//! A [`RunPlan`] is what an operator wrote or what came off the wire: any values. [`RunPlan::check`] turns it
//! into a [`CheckedPlan`], and nothing downstream checks again. The plan's digest is the SHA-256 of its encoded
//! bytes and is in every message of the run. The server signs those bytes ([`SignedPlan`]), so that a site can
//! show later what it agreed to.

mod announced;
mod check;
mod participant_privacy;
mod privacy;
mod secagg;
mod signed;
mod strategy;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use announced::{ANCHOR_BYTES_MAX, Announced};
pub use check::{CheckedPlan, PLAN_BYTES_MAX, PlanError};
pub use participant_privacy::{ClipPlan, PARTICIPANTS_FEW, ParticipantPrivacyPlan};
pub use privacy::{PrivacyPlan, PrivacyUnit};
pub use secagg::{
    COHORT_MIN, RingBits, RingPlan, SECURE_PARTICIPANTS_MAX, SecureAggregationPlan, ServerTrust,
};
pub use signed::{SignedPlan, SignedPlanError};
pub use strategy::{ROBUST_PARTICIPANTS_MAX, StrategyPlan};

use crate::ids::{Digest, ParticipantName, Round, RunId};

/// A run plan as typed: its fields may hold anything until [`RunPlan::check`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RunPlan {
    /// The run's name.
    pub run: RunId,
    /// The frozen model under the adapter.
    pub base: BasePlan,
    /// The adapter's configuration.
    pub lora: LoraPlan,
    /// The digest of the adapter's layout (module names and shapes).
    pub layout_digest: Digest,
    /// The length of one adapter of that layout in bytes: four a value. The final adapter is of this length.
    pub adapter_bytes: u64,
    /// In which form the values of updates travel, and by [`ValueEncoding::of_adapters`] those of the adapters that rounds start from.
    pub encoding: ValueEncoding,
    /// How adapters come to participants.
    pub download: Download,
    /// Rounds to do.
    pub rounds: u32,
    /// The seed of everything random in the run.
    pub seed: u64,
    /// How a participant trains.
    pub training: TrainingPlan,
    /// How updates become the next global adapter.
    pub strategy: StrategyPlan,
    /// The pull toward the anchor, if any.
    pub ewc: Option<EwcPlan>,
    /// Differential privacy of the records behind updates, if any.
    pub privacy: Option<PrivacyPlan>,
    /// Differential privacy of the participants themselves, if any.
    pub participant_privacy: Option<ParticipantPrivacyPlan>,
    /// Who is asked, and how long the server waits.
    pub cohort: CohortPlan,
    /// What an update may be.
    pub limits: LimitsPlan,
    /// The ring in which updates travel and are summed, if not as values.
    pub ring: Option<RingPlan>,
    /// Masks on the updates, if any.
    pub secure_aggregation: Option<SecureAggregationPlan>,
}

/// The base model that every participant must have.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BasePlan {
    /// Its name, for people.
    pub name: String,
    /// Its SHA-256 fingerprint.
    pub fingerprint: Digest,
}

/// The LoRA configuration.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LoraPlan {
    /// Rank of the factors.
    pub rank: u32,
    /// The scale's numerator: `s = alpha / rank`, or `alpha / sqrt(rank)` with `rslora`.
    pub alpha: f64,
    /// Share of the adapter's inputs dropped while training.
    pub dropout: f64,
    /// Rank-stabilized scale.
    pub rslora: bool,
    /// The adapted projections by their Hugging Face names, such as `q_proj`.
    pub target_modules: Vec<String>,
}

/// Hyper-parameters of the local training.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TrainingPlan {
    /// Optimizer steps in one round.
    pub local_steps: u32,
    /// Examples in one batch.
    pub batch_examples: u32,
    /// Batches in one optimizer step.
    pub accumulation: u32,
    /// Longest example, in tokens.
    pub max_tokens: u32,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Steps until the peak, counted over the whole run.
    pub warmup_steps: u32,
    /// The learning rate after the warm-up, over the steps of the whole run.
    pub schedule: Schedule,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of the mean gradient of a step. Under privacy it has no effect: [`PrivacyPlan::clip_norm`] is in its place.
    pub clip_norm: f64,
}

impl TrainingPlan {
    /// Examples that a round reads at most; no update can come from more different ones.
    pub fn round_examples(&self) -> u64 {
        let step_examples = u64::from(self.batch_examples) * u64::from(self.accumulation);
        step_examples.saturating_mul(self.local_steps.into())
    }
}

/// The learning rate after the warm-up.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Schedule {
    /// Stays at the peak.
    Constant,
    /// Falls to zero in a straight line.
    Linear,
    /// Falls to zero along half a cosine.
    Cosine,
}

/// The form in which values travel. The server adds them up, and keeps its adapter, in more than f32 in any case.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ValueEncoding {
    /// IEEE 754 binary32, little-endian: exact.
    F32,
    /// The upper half of it, rounded to nearest, ties to even: each value within 2^-8 of itself, in half of the bytes.
    Bf16,
    /// Updates in blocks of 64 values: a scale in binary32 and a signed byte each, 3.8 times fewer bytes. What rounding cuts off stays with
    /// the participant and is in its next update. Adapters travel in [`ValueEncoding::Bf16`] then.
    Int8,
}

/// How adapters come to participants. What comes out is the same, byte for byte.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Download {
    /// Whole.
    #[default]
    Whole,
    /// As a difference against the one before, for participants that have that; whole for others.
    Delta,
}

/// Values that share a scale in [`ValueEncoding::Int8`].
const INT8_BLOCK: u64 = 64;

impl ValueEncoding {
    /// The form of the adapters that rounds start from, where updates have this one.
    pub fn of_adapters(self) -> Self {
        match self {
            Self::F32 => Self::F32,
            // An adapter is the sum of all rounds, and nobody keeps what was cut off of it.
            Self::Bf16 | Self::Int8 => Self::Bf16,
        }
    }

    /// Bytes of so many values.
    pub fn bytes(self, values: u64) -> u64 {
        match self {
            Self::F32 => values * 4,
            Self::Bf16 => values * 2,
            Self::Int8 => values + values.div_ceil(INT8_BLOCK) * 4,
        }
    }
}

impl RunPlan {
    /// Values of an adapter.
    pub fn values(&self) -> u64 {
        self.adapter_bytes / 4
    }

    /// The length of an adapter that a round starts from, in bytes.
    pub fn encoded_bytes(&self) -> u64 {
        self.encoding.of_adapters().bytes(self.values())
    }

    /// Whether noise is on both factors of an adapter, so that their product has it squared too (Sun et al. 2024, arXiv 2403.12313,
    /// section 3). Every strategy trains both factors.
    pub fn multiplies_noise(&self) -> bool {
        self.privacy.is_some() || self.participant_privacy.is_some()
    }
}

/// Elastic weight consolidation.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct EwcPlan {
    /// Strength, in per-token KL units.
    pub lambda: f64,
    /// Who applies it.
    pub place: EwcPlace,
    /// SHA-256 of the anchor's file.
    pub anchor: Digest,
}

/// Who pulls toward the anchor.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum EwcPlace {
    /// Each participant, after each optimizer step. The server sends the anchor to those who lack it.
    Client,
    /// The server, after averaging.
    Server,
}

/// Who is asked in a round, how many must deliver, until when.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CohortPlan {
    /// Who may take part.
    pub participants: Participants,
    /// Updates that a round needs.
    pub quorum: u32,
    /// After this long a round stops waiting for participants that are still training, once the quorum is met.
    pub soft_deadline: Duration,
    /// After this long a round ends: with what it has if that is a quorum, else the run fails. It also bounds
    /// the time in which a quorum must join.
    pub hard_deadline: Duration,
    /// A participant that shows no progress for this long is closed and counts as missing.
    pub stall_limit: Duration,
    /// After this long the run starts with a quorum instead of the whole cohort.
    pub join_deadline: Duration,
    /// Participants asked in a round, drawn from those who are ready; without a number all of them.
    pub select: Option<u32>,
    /// Updates at which a round closes without waiting for more; without a number it waits for all that were asked.
    pub enough: Option<u32>,
    /// What becomes of an update that is not there when its round closes.
    pub late: LatePolicy,
}

/// What becomes of an update that is not there when its round closes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum LatePolicy {
    /// It is refused.
    #[default]
    Refuse,
    /// It counts in a later round, with its full weight.
    LaterRound {
        /// Rounds by which it may be late.
        rounds_max: u32,
    },
}

impl LatePolicy {
    /// The last round in which an update trained for `round` may count.
    pub fn last_round(self, round: Round) -> Round {
        match self {
            Self::Refuse => round,
            Self::LaterRound { rounds_max } => Round(round.0.saturating_add(rounds_max)),
        }
    }
}

/// Who may take part.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Participants {
    /// Every participant of the federation, up to [`LimitsPlan::participants_max`].
    Any,
    /// These, and the run waits for all of them until the join deadline.
    Named(Vec<ParticipantName>),
}

impl Participants {
    /// Whether this participant may take part.
    pub fn admits(&self, name: &ParticipantName) -> bool {
        match self {
            Self::Any => true,
            Self::Named(names) => names.contains(name),
        }
    }
}

/// What an update may be. The bounds also size the fixed-point sum.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LimitsPlan {
    /// Largest norm of an update.
    pub update_norm_max: f64,
    /// Largest weight of an update, in training examples.
    pub weight_max: u64,
    /// Most updates in one round.
    pub participants_max: u32,
}
