//! Privacy of whole participants: the key of a round's noise on disk, and the round's mean with noise on it.
//!
//! Noise must not be drawn twice for one round that is released: whoever saw both adapters would know more than epsilon says. So a
//! round's key is taken from the operating system and on disk before the round is merged; a server that is killed in between draws the
//! same noise for the same updates, and other noise for others. The key is overwritten and removed once the round's adapter is on
//! disk. It has a file of its own, as a database keeps what was removed in its free pages.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use aggregation::privacy::{
    Accountant, AdaptiveClip, Budget, NoiseKey, PrivacyError, SampledGaussian, noise_beside_count,
    release, steps_within,
};
use protocol::message::TransferHeader;
use protocol::plan::{CheckedPlan, ClipPlan, ParticipantPrivacyPlan, PlanError};
use protocol::{Digest, Round};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::error::ServerError;
use crate::record::{ParticipantPrivacyRecord, RoundRecord, sync_folder};
use crate::total::{Summing, Total};

/// What a run with privacy of participants knows between rounds.
#[derive(Clone, Debug)]
pub(crate) struct Central {
    plan: CheckedPlan,
    privacy: ParticipantPrivacyPlan,
    key_file: PathBuf,
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

impl Central {
    /// What a plan asks for, after these rounds; nothing if it does not ask.
    pub(crate) fn new(plan: &CheckedPlan, key_file: PathBuf, done: &[RoundRecord]) -> Option<Self> {
        let privacy = plan.participant_privacy.clone()?;
        let first = match privacy.clip {
            ClipPlan::Fixed { norm } => norm,
            ClipPlan::Adaptive { first_norm, .. } => first_norm,
        };
        let last = done
            .last()
            .and_then(|record| record.participant_privacy.as_ref());
        Some(Self {
            plan: plan.clone(),
            privacy,
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
        let key = match self.kept(round)? {
            Some(key) => key,
            None => self.fresh(round)?,
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
        let key = self.kept(round)?;
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
        match self.kept(Round(last.round))? {
            Some(_) => wipe(&self.key_file),
            None => Ok(()),
        }
    }

    fn with_key(&self, round: Round, updates: &[TransferHeader], key: &NoiseKey) -> Noised {
        let mut digests: Vec<_> = updates.iter().map(|update| update.sha256.0).collect();
        digests.sort_unstable();
        let plan = self.plan.digest().0;
        let release = [&plan[..], &round.0.to_le_bytes(), &digests.concat()].concat();
        Noised {
            round,
            privacy: self.privacy.clone(),
            clip_norm: self.clip_norm,
            norm_max: self.plan.limits.update_norm_max,
            key: key.of(&Digest::of(&release).0),
        }
    }

    /// The key of this round, if an earlier process wrote it.
    fn kept(&self, round: Round) -> Result<Option<NoiseKey>, ServerError> {
        let path = &self.key_file;
        let read = || -> io::Result<(Round, NoiseKey)> {
            let mut file = File::open(path)?;
            let (mut of, mut key) = ([0; 4], [0; 32]);
            file.read_exact(&mut of)?;
            file.read_exact(&mut key)?;
            Ok((Round(u32::from_le_bytes(of)), NoiseKey::take(&mut key)))
        };
        match read() {
            Ok((of, key)) => Ok((of == round).then_some(key)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ServerError::Read {
                path: path.clone(),
                source,
            }),
        }
    }

    fn fresh(&self, round: Round) -> Result<NoiseKey, ServerError> {
        // One of an earlier round has served.
        wipe(&self.key_file)?;
        let mut key = [0; 32];
        let drawn = SystemRandom::new().fill(&mut key);
        drawn.map_err(|_| ServerError::Internal {
            what: "the operating system gives no randomness for the privacy noise".to_owned(),
        })?;
        let written = write(&self.key_file, round, &key);
        let key = NoiseKey::take(&mut key);
        written.map_err(ServerError::write(&self.key_file))?;
        Ok(key)
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
            Total::Values(fedavg) => {
                let mean = fedavg.mean().map_err(|error| error.to_string())?;
                let (count, within) = (f64::from(fedavg.participants()), fedavg.within_clip());
                (mean.into_values(), count, within)
            }
            Total::Ballot(_) => return Err("a robust rule with privacy of participants".to_owned()),
            Total::Ring(sum) => {
                let mean = sum.mean().map_err(|error| error.to_string())?;
                (mean.values, mean.weight, 0)
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

/// Overwrites and removes a key that has served.
pub(crate) fn wipe(path: &Path) -> Result<(), ServerError> {
    let wipe = || -> io::Result<()> {
        let mut file = match OpenOptions::new().write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        file.write_all(&[0; 36])?;
        file.sync_all()?;
        fs::remove_file(path)?;
        sync_folder(path.parent().unwrap_or_else(|| Path::new(".")))
    };
    wipe().map_err(ServerError::write(path))
}

/// Durably, whole or not at all, and for nobody else's eyes.
fn write(path: &Path, round: Round, key: &[u8; 32]) -> io::Result<()> {
    let part = path.with_added_extension("part");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(&part)?;
    file.write_all(&round.0.to_le_bytes())?;
    file.write_all(key)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    sync_folder(path.parent().unwrap_or_else(|| Path::new(".")))
}

#[cfg(test)]
mod tests;
