//! The server's configuration: one TOML file, read in two stages.
//!
//! [`RawConfig`] is what was typed; [`Config`] is checked and is all that the rest of the server sees. What concerns all
//! participants (rank, learning rate, deadlines) is here only until it has become the signed run plan. Paths in a file
//! are relative to the file's own folder, so that a service starts the same from anywhere.

mod error;
mod limits;
mod load;
mod metrics;
mod privacy;
mod raw;
mod size;
mod strategy;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use protocol::coordinator::Allowance;
use protocol::plan::{
    CohortPlan, Download, EwcPlace, LatePolicy, LimitsPlan, ParticipantPrivacyPlan, Participants,
    PrivacyPlan, RingBits, RingPlan, Schedule, SecureAggregationPlan, ServerTrust, StrategyPlan,
    TrainingPlan, ValueEncoding,
};
use protocol::quic::{Limits, TlsFiles, TlsMaterial};
use protocol::{Digest, RunId};

pub use error::{ConfigError, Place, ValueError};
pub use limits::RawLimits;
pub use load::{Setting, Source, load, parse};
pub use metrics::RawMetrics;
pub use privacy::{RawClip, RawParticipantPrivacy, RawPrivacy, RawUnit};
pub use raw::{
    AnyWord, DEFAULT_PORT, LogFormat, RawCohort, RawConfig, RawDownload, RawEwc, RawIdentity,
    RawLate, RawLog, RawParticipants, RawPlace, RawRing, RawRun, RawSchedule, RawSecureAggregation,
    RawTraining, RawTransfer, RawTrust,
};
pub use size::{ByteSize, SizeError};
pub use strategy::{RawRule, RawStrategy};

/// Everything one server needs for one run, checked field by field.
///
/// How the fields fit together is checked when the run plan is made, by [`protocol::plan::RunPlan::check`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The address and UDP port to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The certificates and the key.
    pub identity: IdentitySource,
    /// The job.
    pub run: RunSettings,
    /// How participants train.
    pub training: TrainingPlan,
    /// How updates become the next global adapter.
    pub strategy: StrategyPlan,
    /// Who takes part, and how long is waited.
    pub cohort: CohortPlan,
    /// Anchoring against forgetting, if any.
    pub ewc: Option<EwcSettings>,
    /// Differential privacy of the participants' records, if any.
    pub privacy: Option<PrivacyPlan>,
    /// Differential privacy of the participants themselves, if any.
    pub participant_privacy: Option<ParticipantPrivacyPlan>,
    /// The ring in which updates travel, if they do.
    pub ring: Option<RingPlan>,
    /// Masks on updates, if any.
    pub secure_aggregation: Option<SecureAggregationPlan>,
    /// What an update may be.
    pub limits: LimitsPlan,
    /// The largest adapter to hold, in bytes of its f32 values.
    pub adapter_bytes_max: u64,
    /// Updates received at a time, over all participants; at least 1.
    pub uploads_at_once: u32,
    /// Bounds of the transport; how many may connect follows from the participants.
    pub transport: Limits,
    /// What one participant may ask of the server.
    pub allowance: Allowance,
    /// Slowest delivery that still counts as progress, in bytes a second.
    pub upload_per_second_min: u64,
    /// Where to serve metrics over plain HTTP, if anywhere; port 0 takes a free one.
    pub metrics_listen: Option<SocketAddr>,
    /// What the program logs; the library does not look at it.
    pub log: RawLog,
}

/// Where the server's certificates and key come from.
#[derive(Clone, Debug)]
pub enum IdentitySource {
    /// PEM files, read when the server binds.
    Files(TlsFiles),
    /// Material that the caller has loaded or made.
    Ready(TlsMaterial),
}

/// One training job.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RunSettings {
    /// Its name.
    pub name: RunId,
    /// The PEFT folder, with `foedus.json`, that it starts from.
    pub start: PathBuf,
    /// The folder under which `NAME/` is written.
    pub out: PathBuf,
    /// Rounds to do.
    pub rounds: u32,
    /// The seed of the plan.
    pub seed: u64,
    /// The form in which values travel.
    pub transfer: ValueEncoding,
    /// How adapters come to participants.
    pub download: Download,
    /// The fingerprint that the start folder must name.
    pub base: Option<Digest>,
}

impl RunSettings {
    /// Gives the run's own folder.
    pub fn folder(&self) -> PathBuf {
        self.out.join(self.name.as_str())
    }
}

/// Elastic weight consolidation, as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct EwcSettings {
    /// Strength, in per-token KL units.
    pub lambda: f64,
    /// Which side takes the step.
    pub place: EwcPlace,
    /// The anchor's file.
    pub anchor: PathBuf,
}

impl Config {
    /// Makes the default configuration of a run, listening on a free loopback port.
    pub fn new(tls: TlsMaterial, name: RunId, start: PathBuf) -> Self {
        let run = RawRun::default_for(name.as_str(), start);
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            identity: IdentitySource::Ready(tls),
            run: RunSettings {
                name,
                start: run.start,
                out: run.out,
                rounds: run.rounds,
                seed: run.seed,
                transfer: encoding(run.transfer),
                download: download(run.download),
                base: None,
            },
            training: training(RawTraining::default()),
            strategy: StrategyPlan::default(),
            cohort: open_cohort(&RawCohort::default()),
            ewc: None,
            privacy: None,
            participant_privacy: None,
            ring: None,
            secure_aggregation: None,
            limits: RawLimits::default().plan(),
            adapter_bytes_max: RawLimits::default().adapter_max.bytes(),
            uploads_at_once: RawLimits::default().uploads_at_once,
            transport: RawLimits::default()
                .transport()
                .expect("the defaults are in order"),
            allowance: Allowance::default(),
            upload_per_second_min: RawLimits::default().upload_per_second_min.bytes(),
            metrics_listen: None,
            log: RawLog::default(),
        }
    }

    /// Checks what was typed. Relative paths are taken from `folder`, the configuration file's own.
    ///
    /// # Errors
    /// [`ValueError`] names the first key that is wrong and what to do.
    pub fn from_raw(raw: RawConfig, folder: &Path) -> Result<Self, ValueError> {
        let allowance = raw.limits.allowance()?;
        let (ring, secure_aggregation) = (ring(&raw)?, secure_aggregation(&raw.secure_aggregation));
        let participant_privacy = raw.participant_privacy.plan(&raw.cohort)?;
        let identity = TlsFiles {
            certificate: folder.join(raw.identity.certificate),
            key: folder.join(raw.identity.key),
            authority: folder.join(raw.identity.authority),
            revocations: raw.identity.revocations.map(|path| folder.join(path)),
        };
        Ok(Self {
            listen: raw.listen,
            identity: IdentitySource::Files(identity),
            run: run(raw.run, folder)?,
            training: training(raw.training),
            strategy: raw.strategy.plan()?,
            cohort: cohort(&raw.cohort)?,
            ewc: ewc(raw.ewc, folder)?,
            privacy: raw.privacy.plan(),
            participant_privacy,
            ring,
            secure_aggregation,
            limits: raw.limits.plan(),
            adapter_bytes_max: raw.limits.adapter_max.bytes(),
            uploads_at_once: raw.limits.uploads_at_once,
            transport: raw.limits.transport()?,
            allowance,
            upload_per_second_min: raw.limits.upload_per_second_min.bytes(),
            metrics_listen: raw.metrics.listen,
            log: raw.log,
        })
    }
}

fn run(raw: RawRun, folder: &Path) -> Result<RunSettings, ValueError> {
    let name = raw.name.parse().map_err(|error| {
        ValueError::new(
            "run.name",
            format!("{:?} cannot name a run: {error}", raw.name),
        )
    })?;
    let base = raw
        .base
        .map(|hex| hex.parse())
        .transpose()
        .map_err(|error| {
            ValueError::new(
                "run.base",
                format!("{error}, as in the start folder's foedus.json"),
            )
        })?;
    Ok(RunSettings {
        name,
        start: folder.join(raw.start),
        out: folder.join(raw.out),
        rounds: raw.rounds,
        seed: raw.seed,
        transfer: encoding(raw.transfer),
        download: download(raw.download),
        base,
    })
}

fn encoding(raw: RawTransfer) -> ValueEncoding {
    match raw {
        RawTransfer::Bf16 => ValueEncoding::Bf16,
        RawTransfer::F32 => ValueEncoding::F32,
        RawTransfer::Int8 => ValueEncoding::Int8,
    }
}

fn download(raw: RawDownload) -> Download {
    match raw {
        RawDownload::Whole => Download::Whole,
        RawDownload::Delta => Download::Delta,
    }
}

fn training(raw: RawTraining) -> TrainingPlan {
    TrainingPlan {
        local_steps: raw.local_steps,
        batch_examples: raw.batch_examples,
        accumulation: raw.accumulation,
        max_tokens: raw.max_tokens,
        learning_rate: raw.learning_rate,
        warmup_steps: raw.warmup_steps,
        schedule: match raw.schedule {
            RawSchedule::Constant => Schedule::Constant,
            RawSchedule::Linear => Schedule::Linear,
            RawSchedule::Cosine => Schedule::Cosine,
        },
        weight_decay: raw.weight_decay,
        clip_norm: raw.clip_norm,
    }
}

fn cohort(raw: &RawCohort) -> Result<CohortPlan, ValueError> {
    let participants = match &raw.participants {
        RawParticipants::Word(AnyWord::Any) => Participants::Any,
        RawParticipants::Listed(names) if names.is_empty() => {
            let what = "the list is empty; name the participants, or write \"any\" for all";
            return Err(ValueError::new("cohort.participants", what));
        }
        RawParticipants::Listed(names) => {
            Participants::Named(names.iter().map(participant).collect::<Result<_, _>>()?)
        }
    };
    Ok(CohortPlan {
        participants,
        ..open_cohort(raw)
    })
}

fn participant(name: &String) -> Result<protocol::ParticipantName, ValueError> {
    name.parse().map_err(|error| {
        ValueError::new(
            "cohort.participants",
            format!("{name:?} cannot name a participant: {error}"),
        )
    })
}

fn open_cohort(raw: &RawCohort) -> CohortPlan {
    CohortPlan {
        participants: Participants::Any,
        quorum: raw.quorum,
        soft_deadline: raw.soft_deadline,
        hard_deadline: raw.hard_deadline,
        stall_limit: raw.stall_limit,
        join_deadline: raw.join_deadline,
        select: raw.select,
        enough: raw.enough,
        late: match raw.late {
            RawLate::Refuse => LatePolicy::Refuse,
            RawLate::LaterRound => LatePolicy::LaterRound {
                rounds_max: raw.late_rounds_max,
            },
        },
    }
}

fn ewc(raw: RawEwc, folder: &Path) -> Result<Option<EwcSettings>, ValueError> {
    if !raw.enabled {
        return Ok(None);
    }
    let anchor = raw.anchor.ok_or_else(|| {
        let what = "missing, but ewc.enabled is true; name the file made by `foedus-client fisher`";
        ValueError::new("ewc.anchor", what)
    })?;
    let place = match raw.place {
        RawPlace::Client => EwcPlace::Client,
        RawPlace::Server => EwcPlace::Server,
    };
    Ok(Some(EwcSettings {
        lambda: raw.lambda,
        place,
        anchor: folder.join(anchor),
    }))
}

/// Secure aggregation sums in the ring, whether that is enabled by itself or not.
fn ring(raw: &RawConfig) -> Result<Option<RingPlan>, ValueError> {
    let bits = match raw.ring.bits {
        16 => RingBits::Bits16,
        24 => RingBits::Bits24,
        32 => RingBits::Bits32,
        other => {
            let what = format!("is {other}; it must be 16, 24 or 32");
            return Err(ValueError::new("ring.bits", what));
        }
    };
    let is_used = raw.ring.enabled || raw.secure_aggregation.enabled;
    Ok(is_used.then_some(RingPlan {
        bits,
        value_max: raw.ring.value_max,
    }))
}

fn secure_aggregation(raw: &RawSecureAggregation) -> Option<SecureAggregationPlan> {
    raw.enabled.then_some(SecureAggregationPlan {
        cohort_min: raw.cohort_min,
        trust: match raw.trust {
            RawTrust::Malicious => ServerTrust::Malicious,
            RawTrust::HonestButCurious => ServerTrust::HonestButCurious,
        },
    })
}

#[cfg(test)]
mod tests;
