//! The rules of a plan: each refusal names the field, the value found and the rule.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::{Download, LatePolicy, Participants, RunPlan, ValueEncoding};
use crate::codec;
use crate::ids::Digest;

/// A plan that makes sense, with its encoded bytes and their digest.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedPlan {
    plan: RunPlan,
    bytes: Vec<u8>,
    digest: Digest,
    lots: Digest,
}

impl CheckedPlan {
    /// The plan itself.
    pub fn plan(&self) -> &RunPlan {
        &self.plan
    }

    /// The plan as it is signed and sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of [`CheckedPlan::bytes`].
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What the run's lots are drawn by: the digest of the same plan with adapters that come whole. How they come must change no result.
    pub fn lots(&self) -> Digest {
        self.lots
    }
}

impl Deref for CheckedPlan {
    type Target = RunPlan;

    fn deref(&self) -> &RunPlan {
        &self.plan
    }
}

impl RunPlan {
    /// Checks every field and fixes the digest.
    ///
    /// # Errors
    /// [`PlanError`] for the first field that breaks its rule.
    pub fn check(self) -> Result<CheckedPlan, PlanError> {
        self.check_model()?;
        self.check_training()?;
        self.check_cohort()?;
        self.check_limits()?;
        if let Some(privacy) = &self.privacy {
            privacy.check(self.limits.weight_max)?;
        }
        self.check_encoding()?;
        self.check_ring()?;
        if let Some(privacy) = &self.participant_privacy {
            privacy.check(&self)?;
        }
        self.check_secure_aggregation()?;
        self.check_strategy()?;
        let encode = |plan: &Self| {
            codec::encode(plan)
                .map_err(|error| PlanError::new("plan", error, "must fit one message"))
        };
        let bytes = encode(&self)?;
        if PLAN_BYTES_MAX < bytes.len() {
            let found = format!("{} bytes", bytes.len());
            return Err(PlanError::new(
                "plan",
                found,
                "must fit 60000 bytes; name fewer participants",
            ));
        }
        let digest = Digest::of(&bytes);
        let lots = match self.download {
            Download::Whole => digest,
            Download::Delta => Digest::of(&encode(&Self {
                download: Download::Whole,
                ..self.clone()
            })?),
        };
        Ok(CheckedPlan {
            plan: self,
            bytes,
            digest,
            lots,
        })
    }

    fn check_model(&self) -> Result<(), PlanError> {
        let lora = &self.lora;
        let name = self.base.name.as_str();
        ensure(
            "base.name",
            format!("{} bytes", name.len()),
            "must be 1 to 256 bytes without control characters",
            (1..=256).contains(&name.len()) && !name.chars().any(char::is_control),
        )?;
        within("lora.rank", lora.rank, 1, 4096)?;
        positive("lora.alpha", lora.alpha)?;
        ensure(
            "lora.dropout",
            lora.dropout,
            "must be at least 0 and less than 1",
            (0.0..1.0).contains(&lora.dropout),
        )?;
        within("lora.target_modules", lora.target_modules.len(), 1, 64)?;
        let distinct: BTreeSet<_> = lora.target_modules.iter().collect();
        ensure(
            "lora.target_modules",
            distinct.len(),
            "must not name a module twice",
            distinct.len() == lora.target_modules.len(),
        )?;
        for module in &lora.target_modules {
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            ensure(
                "lora.target_modules",
                format!("a name of {} bytes", module.len()),
                "must be names of 1 to 64 characters of a-z, 0-9 and '_'",
                (1..=64).contains(&module.len()) && module.bytes().all(plain),
            )?;
        }
        ensure(
            "adapter_bytes",
            self.adapter_bytes,
            "must be four for each value",
            self.adapter_bytes.is_multiple_of(4),
        )?;
        within("adapter_bytes", self.adapter_bytes, 1, ADAPTER_BYTES_MAX)
    }

    fn check_training(&self) -> Result<(), PlanError> {
        let training = &self.training;
        within("rounds", self.rounds, 1, ROUNDS_MAX)?;
        within("training.local_steps", training.local_steps, 1, 1_000_000)?;
        let steps = u64::from(self.rounds) * u64::from(training.local_steps);
        within(
            "training.local_steps times rounds",
            steps,
            1,
            u64::from(u32::MAX),
        )?;
        within(
            "training.batch_examples",
            training.batch_examples,
            1,
            65_536,
        )?;
        within("training.accumulation", training.accumulation, 1, 65_536)?;
        within("training.max_tokens", training.max_tokens, 2, 1_048_576)?;
        positive("training.learning_rate", training.learning_rate)?;
        ensure(
            "training.learning_rate",
            training.learning_rate,
            "must be at most 1",
            training.learning_rate <= 1.0,
        )?;
        ensure(
            "training.warmup_steps",
            training.warmup_steps,
            "must not exceed the steps of the whole run",
            u64::from(training.warmup_steps) <= steps,
        )?;
        ensure(
            "training.weight_decay",
            training.weight_decay,
            "must be at least 0 and less than 1",
            (0.0..1.0).contains(&training.weight_decay),
        )?;
        positive("training.clip_norm", training.clip_norm)?;
        match &self.ewc {
            None => Ok(()),
            Some(ewc) => positive("ewc.lambda", ewc.lambda),
        }
    }

    fn check_cohort(&self) -> Result<(), PlanError> {
        let cohort = &self.cohort;
        within(
            "cohort.quorum",
            cohort.quorum,
            1,
            self.limits.participants_max,
        )?;
        if let Participants::Named(names) = &cohort.participants {
            let distinct: BTreeSet<_> = names.iter().collect();
            ensure(
                "cohort.participants",
                names.len(),
                "must not name a participant twice",
                distinct.len() == names.len(),
            )?;
            let enough = u32::try_from(names.len()).is_ok_and(|count| cohort.quorum <= count);
            ensure(
                "cohort.quorum",
                cohort.quorum,
                "must not exceed the number of named participants",
                enough,
            )?;
            let room =
                u32::try_from(names.len()).is_ok_and(|count| count <= self.limits.participants_max);
            ensure(
                "cohort.participants",
                names.len(),
                "must not be more than limits.participants_max",
                room,
            )?;
        }
        self.check_selection()?;
        duration("cohort.soft_deadline", cohort.soft_deadline)?;
        duration("cohort.hard_deadline", cohort.hard_deadline)?;
        duration("cohort.stall_limit", cohort.stall_limit)?;
        duration("cohort.join_deadline", cohort.join_deadline)?;
        let hard = format!("{:?}", cohort.hard_deadline);
        ensure(
            "cohort.hard_deadline",
            &hard,
            "must not be shorter than cohort.soft_deadline",
            cohort.soft_deadline <= cohort.hard_deadline,
        )?;
        ensure(
            "cohort.hard_deadline",
            &hard,
            "must not be shorter than cohort.join_deadline",
            cohort.join_deadline <= cohort.hard_deadline,
        )
    }

    /// Who is asked, how many are enough, and how late an update may be.
    fn check_selection(&self) -> Result<(), PlanError> {
        let (cohort, most) = (&self.cohort, self.limits.participants_max);
        if let Some(select) = cohort.select {
            within("cohort.select", select, cohort.quorum, most)?;
        }
        if let Some(enough) = cohort.enough {
            let asked = cohort.select.unwrap_or(most);
            within("cohort.enough", enough, cohort.quorum, asked)?;
        }
        match cohort.late {
            LatePolicy::Refuse => Ok(()),
            LatePolicy::LaterRound { rounds_max } => {
                within("cohort.late_rounds_max", rounds_max, 1, LATE_ROUNDS_MAX)
            }
        }
    }

    /// What blocks of int8 cannot be combined with.
    fn check_encoding(&self) -> Result<(), PlanError> {
        if self.encoding != ValueEncoding::Int8 {
            return Ok(());
        }
        ensure(
            "run.transfer",
            "\"int8\" with a ring",
            "must be \"bf16\" or \"f32\" there, also under secure aggregation: each participant scales its own blocks, and a sum in the \
             ring needs a shared scale; ring.bits = 16 halves the bytes of an update instead (E_SECAGG_NONLINEAR_AGG)",
            self.ring.is_none() && self.secure_aggregation.is_none(),
        )?;
        ensure(
            "run.transfer",
            "\"int8\" with [privacy]",
            "must be \"bf16\" or \"f32\" there: what rounding cuts off is kept and sent with later updates, a memory of private records \
             that no accountant covers (E_DP_EF)",
            self.privacy.is_none(),
        )
    }

    fn check_limits(&self) -> Result<(), PlanError> {
        let limits = &self.limits;
        positive("limits.update_norm_max", limits.update_norm_max)?;
        within("limits.weight_max", limits.weight_max, 1, WEIGHT_MAX)?;
        within(
            "limits.participants_max",
            limits.participants_max,
            1,
            PARTICIPANTS_MAX,
        )
    }
}

pub(super) fn ensure(
    field: &'static str,
    found: impl fmt::Display,
    rule: &str,
    holds: bool,
) -> Result<(), PlanError> {
    if holds {
        Ok(())
    } else {
        Err(PlanError::new(field, found, rule))
    }
}

pub(super) fn within<T: fmt::Display + PartialOrd>(
    field: &'static str,
    found: T,
    least: T,
    most: T,
) -> Result<(), PlanError> {
    let rule = format!("must be {least} to {most}");
    let holds = least <= found && found <= most;
    ensure(field, found, &rule, holds)
}

pub(super) fn positive(field: &'static str, found: f64) -> Result<(), PlanError> {
    ensure(
        field,
        found,
        "must be a finite number above 0",
        found.is_finite() && 0.0 < found,
    )
}

fn duration(field: &'static str, found: Duration) -> Result<(), PlanError> {
    let holds = DURATION_MIN <= found && found <= DURATION_MAX;
    ensure(
        field,
        format!("{found:?}"),
        "must be 1 ms to 30 days",
        holds,
    )
}

/// A plan that makes no sense. The author's fault.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field} is {found}: it {rule}")]
pub struct PlanError {
    /// The field, as its path in the plan.
    pub field: &'static str,
    /// What it holds.
    pub found: String,
    /// What it should hold.
    pub rule: String,
}

impl PlanError {
    pub(super) fn new(field: &'static str, found: impl fmt::Display, rule: &str) -> Self {
        Self {
            field,
            found: found.to_string(),
            rule: rule.to_owned(),
        }
    }
}

/// The longest encoded plan, in bytes: with its signature it must fit one frame.
pub const PLAN_BYTES_MAX: usize = 60_000;

const ADAPTER_BYTES_MAX: u64 = 64 << 30;
const ROUNDS_MAX: u32 = 100_000;
/// An update that is older than this is about another adapter.
const LATE_ROUNDS_MAX: u32 = 16;
const WEIGHT_MAX: u64 = 1 << 40;
const PARTICIPANTS_MAX: u32 = 100_000;
const DURATION_MIN: Duration = Duration::from_millis(1);
const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

#[cfg(test)]
mod tests;
