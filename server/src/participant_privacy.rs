//! Privacy of whole participants: a round's mean with noise on it, the same noise however often the round is formed.
//!
//! Noise must not be drawn twice for one round that is released: whoever saw both adapters would know more than epsilon says. So a
//! round's key is on disk before the round is merged ([`NoiseKeyFile`]): a server that is killed in between draws the same noise for
//! the same updates, and other noise for others.

mod key_file;

use aggregation::privacy::{
    Accountant, AdaptiveClip, Budget, NoiseKey, PrivacyError, SampledGaussian, noise_beside_count,
    release, steps_within,
};
use protocol::message::TransferHeader;
use protocol::plan::{CheckedPlan, ClipPlan, ParticipantPrivacyPlan, PlanError};
use protocol::{Digest, Round};

use crate::error::ServerError;
use crate::record::{ParticipantPrivacyRecord, RoundRecord};
use crate::total::{Summing, Total};
pub(crate) use key_file::NoiseKeyFile;

/// What a run with privacy of participants knows between rounds.
#[derive(Clone, Debug)]
pub(crate) struct ParticipantPrivacy {
    /// The plan's digest.
    plan: Digest,
    privacy: ParticipantPrivacyPlan,
    /// The largest norm that the plan lets in.
    norm_max: f64,
    key_file: NoiseKeyFile,
    /// The norm that updates of the open round are within.
    clip_norm: f64,
}

/// A round's mean on the way to its release.
#[derive(Debug)]
pub(crate) struct Noised {
    round: Round,
    privacy: ParticipantPrivacyPlan,
    clip_norm: f64,
    norm_max: f64,
    key: NoiseKey,
}

impl ParticipantPrivacy {
    /// What a plan asks for, after these rounds; nothing if it does not ask.
    pub(crate) fn new(
        plan: &CheckedPlan,
        key_file: NoiseKeyFile,
        done: &[RoundRecord],
    ) -> Option<Self> {
        let privacy = plan.participant_privacy.clone()?;
        let first = match privacy.clip {
            ClipPlan::Fixed { norm } => norm,
            ClipPlan::Adaptive { first_norm, .. } => first_norm,
        };
        let last = done
            .last()
            .and_then(|record| record.participant_privacy.as_ref());
        Some(Self {
            plan: plan.digest(),
            privacy,
            norm_max: plan.limits.update_norm_max,
            key_file,
            clip_norm: last.map_or(first, |last| last.next_clip_norm),
        })
    }

    /// Lets updates in that are within the round's norm, or shrinks them to it.
    pub(crate) fn bound(&self, summing: &mut Summing) {
        match self.privacy.clip {
            ClipPlan::Fixed { norm } => summing.rules.norm_max = norm,
            ClipPlan::Adaptive { .. } => summing.clip = Some(self.clip_norm),
        }
    }

    /// A round is done: the next one has this norm.
    pub(crate) fn go_on(&mut self, record: &RoundRecord) {
        if let Some(privacy) = &record.participant_privacy {
            self.clip_norm = privacy.next_clip_norm;
        }
    }

    /// The noise of a round over these updates, its key on disk.
    pub(crate) fn noised(
        &self,
        round: Round,
        updates: &[TransferHeader],
    ) -> Result<Noised, ServerError> {
        let key = match self.key_file.of(round)? {
            Some(key) => key,
            None => self.key_file.draw(round)?,
        };
        Ok(self.with_key(round, updates, &key))
    }

    /// The noise of a round that is done, if its key is still there.
    pub(crate) fn noised_before(
        &self,
        record: &RoundRecord,
        updates: &[TransferHeader],
    ) -> Result<Option<Noised>, ServerError> {
        let round = Round(record.round);
        let key = self.key_file.of(round)?;
        Ok(key.map(|key| self.with_key(round, updates, &key)))
    }

    /// The same as it was in a round that is done.
    pub(crate) fn before(&self, record: &RoundRecord) -> Self {
        let then = record.participant_privacy.as_ref();
        Self {
            clip_norm: then.map_or(self.clip_norm, |then| then.clip_norm),
            ..self.clone()
        }
    }

    /// Removes the key of a round that is done and whose adapter is on disk.
    pub(crate) fn forget_done(&self, done: &[RoundRecord]) -> Result<(), ServerError> {
        let Some(last) = done.last() else {
            return Ok(());
        };
        match self.key_file.of(Round(last.round))? {
            Some(_) => self.key_file.wipe(),
            None => Ok(()),
        }
    }

    fn with_key(&self, round: Round, updates: &[TransferHeader], key: &NoiseKey) -> Noised {
        let mut digests: Vec<_> = updates.iter().map(|update| update.sha256.0).collect();
        digests.sort_unstable();
        let plan = self.plan.0;
        let release = [&plan[..], &round.0.to_le_bytes(), &digests.concat()].concat();
        Noised {
            round,
            privacy: self.privacy.clone(),
            clip_norm: self.clip_norm,
            norm_max: self.norm_max,
            key: key.of(&Digest::of(&release).0),
        }
    }
}

impl Noised {
    /// Puts noise on a round's mean; in words, why not.
    pub(crate) fn release(
        &self,
        sum: Total,
    ) -> Result<(Vec<f32>, ParticipantPrivacyRecord), String> {
        let epsilon = self.epsilon()?;
        let (mut mean, count, within) = match sum {
            Total::Values(values) => {
                let fedavg = values.finish().map_err(|error| error.to_string())?;
                let mean = fedavg.mean().map_err(|error| error.to_string())?;
                let count = fedavg.participants();
                (
                    mean.into_values(),
                    f64::from(count),
                    (fedavg.within_clip(), count),
                )
            }
            Total::Ballot(_) => return Err("a robust rule with privacy of participants".to_owned()),
            Total::Ring(sum) => {
                let mean = sum.mean().map_err(|error| error.to_string())?;
                (mean.values, mean.weight, (0, 0))
            }
        };
        let (expected, multiplier) = (self.privacy.expected, self.privacy.noise_multiplier);
        let (multiplier, next_clip_norm) = match self.privacy.clip {
            ClipPlan::Fixed { .. } => (multiplier, self.clip_norm),
            ClipPlan::Adaptive {
                quantile,
                learning_rate,
                count_noise,
                ..
            } => {
                let clip = AdaptiveClip {
                    quantile,
                    learning_rate,
                    count_noise,
                    norm_max: self.norm_max,
                };
                let on_sum = noise_beside_count(multiplier, count_noise);
                let on_sum =
                    on_sum.ok_or("the count of updates within the norm has too little noise")?;
                let noise = self.key.of(b"count");
                (on_sum, clip.next(self.clip_norm, within, expected, &noise))
            }
        };
        let deviation = multiplier * self.clip_norm;
        release(
            &mut mean,
            (count, expected),
            deviation,
            &self.key.of(b"sum"),
        );
        let record = ParticipantPrivacyRecord {
            clip_norm: self.clip_norm,
            next_clip_norm,
            expected,
            noise: deviation / f64::from(expected),
            epsilon,
            delta: self.privacy.delta,
        };
        Ok((mean, record))
    }

    /// What the run has cost after this round; refuses the round that would cost too much.
    fn epsilon(&self) -> Result<f64, String> {
        let (budget, step) = budget(&self.privacy).map_err(|error| error.to_string())?;
        let after = Accountant::default().with(step, u64::from(self.round.0));
        if after.is_within(budget) {
            return Ok(after.cost(budget.delta()).epsilon);
        }
        Err(format!(
            "round {} would exceed the plan's epsilon of {} (E_DP_BUDGET)",
            self.round,
            budget.epsilon()
        ))
    }
}

/// Refuses a plan whose rounds cost more than it allows: no run should end for that in its midst.
pub(crate) fn check_budget(privacy: &ParticipantPrivacyPlan, rounds: u32) -> Result<(), PlanError> {
    let refused = |found: String, rule: String| PlanError {
        field: "participant_privacy.epsilon_max",
        found,
        rule,
    };
    let found = privacy.epsilon_max.to_string();
    let (budget, step) = budget(privacy)
        .map_err(|error| refused(found.clone(), format!("cannot be used: {error}")))?;
    let (none, all) = (Accountant::default(), u64::from(rounds));
    let possible = steps_within(budget, step, &none, all);
    if possible == all {
        return Ok(());
    }
    let cost = none.with(step, all).cost(budget.delta()).epsilon;
    let rule = format!(
        "must be at least {cost:.3}, which {rounds} rounds with noise_multiplier {} cost at delta {}; {possible} rounds fit: do fewer, or \
         with more noise (E_DP_BUDGET)",
        privacy.noise_multiplier, privacy.delta
    );
    Err(refused(found, rule))
}

/// All participants may be in any round, so nothing is gained by sampling.
fn budget(privacy: &ParticipantPrivacyPlan) -> Result<(Budget, SampledGaussian), PrivacyError> {
    let budget = Budget::new(privacy.epsilon_max, privacy.delta)?;
    Ok((budget, SampledGaussian::new(1.0, privacy.noise_multiplier)?))
}

#[cfg(test)]
mod tests;
