//! What a run starts from: the PEFT folder, the anchor, and the signed run plan made of them and the configuration.
//!
//! Everything that can be wrong before a socket is opened is found here; `--check` is this module and nothing more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aggregation::admission::AdmissionRules;
use aggregation::ewc::{Anchor, AnchorError, BoundAnchor};
use aggregation::masking::{FixedRing, Ring};
use aggregation::peft::{self, PeftConfig, PeftError, Sidecar};
use aggregation::strategy::fixed_point::FixedPoint;
use aggregation::strategy::robust::RobustRule;
use aggregation::{Adapter, AdapterLayout, Encoding};
use bytes::Bytes;
use protocol::Digest;
use protocol::identity::Role;
use protocol::plan::{
    BasePlan, CheckedPlan, Download, EwcPlan, LimitsPlan, LoraPlan, RingBits, RingPlan, RunPlan,
    SignedPlan, StrategyPlan, ValueEncoding,
};
use protocol::quic::{PlanFile, TlsMaterial};

use crate::config::{Config, IdentitySource};
use crate::error::ServerError;
use crate::participant_privacy;
use crate::round::Merger;
use crate::total::Summing;

/// The three files of an adapter folder.
pub(crate) const CONFIG_FILE: &str = "adapter_config.json";
pub(crate) const MODEL_FILE: &str = "adapter_model.safetensors";
pub(crate) const SIDECAR_FILE: &str = "foedus.json";

/// JSON and safetensors headers beside an adapter's values, in bytes.
const OVERHEAD_BYTES_MAX: u64 = 16 << 20;
/// Largest anchor: two vectors a module.
const ANCHOR_BYTES_MAX: u64 = 256 << 20;

/// A run that is ready to be served.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(crate) config: Config,
    pub(crate) tls: TlsMaterial,
    pub(crate) plan: CheckedPlan,
    pub(crate) signed: SignedPlan,
    layout: Arc<AdapterLayout>,
    /// What the first round starts from, until it is taken.
    adapter: Option<Adapter>,
    pub(crate) dropout: f64,
    pub(crate) sidecar: Sidecar,
    pub(crate) anchor: Option<LoadedAnchor>,
    pub(crate) fixed: FixedPoint,
    /// The fixed point of updates that travel in a ring.
    pub(crate) ring: Option<FixedRing>,
}

/// An anchor and the bytes in which it goes to participants.
#[derive(Clone, Debug)]
pub(crate) struct LoadedAnchor {
    pub(crate) bytes: Bytes,
    pub(crate) bound: BoundAnchor,
    /// Mean length of the examples it was made from, in tokens.
    pub(crate) example_tokens: f64,
}

impl Prepared {
    /// Reads every file the configuration names, makes the run plan, checks and signs it.
    ///
    /// # Errors
    /// [`ServerError`] says which file or key is wrong and what to do.
    pub fn load(config: Config) -> Result<Self, ServerError> {
        let tls = match &config.identity {
            IdentitySource::Files(files) => files.load()?,
            IdentitySource::Ready(material) => material.clone(),
        };
        tls.check(Role::Server, SystemTime::now())
            .map_err(ServerError::Certificate)?;
        let folder = StartFolder::load(&config)?;
        let anchor = load_anchor(&config, &folder)?;
        let limits = limits(&config);
        let fixed = FixedPoint::for_bounds(
            limits.participants_max,
            limits.weight_max,
            limits.update_norm_max,
        )
        .map_err(ServerError::Limits)?;
        let plan = run_plan(&config, &folder, anchor.as_ref()).check()?;
        if let Some(privacy) = &plan.participant_privacy {
            participant_privacy::check_budget(privacy, plan.rounds)?;
        }
        let ring = plan.ring.map(|ring| fixed_ring(&plan, ring)).transpose()?;
        let signed = SignedPlan::new(&plan, |bytes| tls.seal(bytes));
        let StartFolder {
            adapter,
            peft,
            sidecar,
        } = folder;
        Ok(Self {
            config,
            tls,
            plan,
            signed,
            layout: Arc::clone(adapter.layout()),
            adapter: Some(adapter),
            dropout: peft.dropout,
            sidecar,
            anchor,
            fixed,
            ring,
        })
    }

    /// Gives the checked run plan.
    pub fn plan(&self) -> &CheckedPlan {
        &self.plan
    }

    /// Gives the signed plan with our certificate, as sites judge it before a run.
    pub fn plan_file(&self) -> PlanFile {
        PlanFile::new(self.signed.clone(), &self.tls)
    }

    /// Gives the server's TLS material.
    pub fn tls(&self) -> &TlsMaterial {
        &self.tls
    }

    /// Gives the layout that every update must have.
    pub fn layout(&self) -> &Arc<AdapterLayout> {
        &self.layout
    }

    /// Gives the adapter that the first round starts from, once: a second copy of it would only take memory.
    pub(crate) fn take_start(&mut self) -> Option<Adapter> {
        self.adapter.take()
    }

    /// Gives the form in which the adapters that rounds start from travel.
    pub(crate) fn adapter_encoding(&self) -> Encoding {
        encoding(self.plan.encoding.of_adapters())
    }

    /// Gives whether participants that have the adapter before get the next one as a delta.
    pub(crate) fn sends_deltas(&self) -> bool {
        self.plan.download == Download::Delta
    }

    /// Gives what forms the run's adapters.
    pub(crate) fn merger(&self) -> Merger {
        Merger::new(self.plan.clone(), self.anchor.clone())
    }

    /// Gives how updates are summed.
    pub(crate) fn summing(&self) -> Summing {
        let limits = &self.plan.limits;
        Summing {
            layout: Arc::clone(&self.layout),
            rules: AdmissionRules {
                norm_max: limits.update_norm_max,
                weight_max: limits.weight_max,
            },
            encoding: encoding(self.plan.encoding),
            fixed: self.fixed,
            ring: self.ring,
            rule: robust_rule(self.plan.strategy),
            clip: None,
        }
    }
}

fn encoding(of: ValueEncoding) -> Encoding {
    match of {
        ValueEncoding::F32 => Encoding::F32,
        ValueEncoding::Bf16 => Encoding::Bf16,
        ValueEncoding::Int8 => Encoding::Int8,
    }
}

/// The rule that looks at all updates together, if the plan has one.
fn robust_rule(strategy: StrategyPlan) -> Option<RobustRule> {
    // The plan's check keeps every number below a thousand.
    match strategy {
        StrategyPlan::FedAvg => None,
        StrategyPlan::Median => Some(RobustRule::Median),
        StrategyPlan::TrimmedMean { trim } => Some(RobustRule::TrimmedMean {
            trim: trim as usize,
        }),
        StrategyPlan::Krum { byzantine, keep } => Some(RobustRule::Krum {
            byzantine: byzantine as usize,
            keep: keep as usize,
        }),
        StrategyPlan::GeometricMedian { passes } => Some(RobustRule::GeometricMedian { passes }),
    }
}

fn fixed_ring(plan: &CheckedPlan, ring: RingPlan) -> Result<FixedRing, ServerError> {
    let bits = match ring.bits {
        RingBits::Bits16 => Ring::Bits16,
        RingBits::Bits24 => Ring::Bits24,
        RingBits::Bits32 => Ring::Bits32,
    };
    // The plan's check has the same bounds.
    FixedRing::for_bounds(bits, plan.limits.participants_max, ring.value_max).map_err(|error| {
        ServerError::Internal {
            what: error.to_string(),
        }
    })
}

struct StartFolder {
    adapter: Adapter,
    peft: PeftConfig,
    sidecar: Sidecar,
}

impl StartFolder {
    fn load(config: &Config) -> Result<Self, StartError> {
        let folder = &config.run.start;
        let limit = config.adapter_bytes_max;
        let config_json = read(&folder.join(CONFIG_FILE), OVERHEAD_BYTES_MAX)?;
        let safetensors = read(
            &folder.join(MODEL_FILE),
            limit.saturating_add(OVERHEAD_BYTES_MAX),
        )?;
        let foedus_json = read(&folder.join(SIDECAR_FILE), OVERHEAD_BYTES_MAX)?;
        let bad = |source| StartError::Peft {
            folder: folder.clone(),
            source,
        };
        let (adapter, peft) = peft::load(&config_json, &safetensors).map_err(bad)?;
        let sidecar = Sidecar::from_json(&foedus_json).map_err(bad)?;
        let bytes = adapter_bytes(adapter.layout());
        if bytes > limit {
            return Err(StartError::TooLarge {
                path: folder.clone(),
                found: bytes,
                limit,
            });
        }
        let found = Digest(sidecar.base_fingerprint);
        match config.run.base {
            Some(expected) if expected != found => Err(StartError::OtherBase {
                folder: folder.clone(),
                found,
                expected,
            }),
            _ => Ok(Self {
                adapter,
                peft,
                sidecar,
            }),
        }
    }
}

fn load_anchor(config: &Config, folder: &StartFolder) -> Result<Option<LoadedAnchor>, StartError> {
    let Some(ewc) = &config.ewc else {
        return Ok(None);
    };
    let path = &ewc.anchor;
    let bytes = read(path, ANCHOR_BYTES_MAX)?;
    let bad = |source| StartError::Anchor {
        path: path.clone(),
        source,
    };
    let anchor = Anchor::from_bytes(&bytes).map_err(bad)?;
    let fingerprint = &folder.sidecar.base_fingerprint;
    let bound = anchor
        .bind(folder.adapter.layout(), fingerprint)
        .map_err(bad)?;
    let example_tokens = anchor.tokens as f64 / anchor.examples.max(1) as f64;
    Ok(Some(LoadedAnchor {
        bytes: bytes.into(),
        bound,
        example_tokens,
    }))
}

fn run_plan(config: &Config, folder: &StartFolder, anchor: Option<&LoadedAnchor>) -> RunPlan {
    let layout = folder.adapter.layout();
    let ewc = config
        .ewc
        .as_ref()
        .zip(anchor)
        .map(|(settings, anchor)| EwcPlan {
            lambda: settings.lambda,
            place: settings.place,
            anchor: Digest::of(&anchor.bytes),
        });
    RunPlan {
        run: config.run.name.clone(),
        base: BasePlan {
            name: folder.sidecar.base_name.clone(),
            fingerprint: Digest(folder.sidecar.base_fingerprint),
        },
        lora: LoraPlan {
            rank: u32::try_from(layout.rank()).unwrap_or(u32::MAX),
            alpha: layout.alpha(),
            dropout: folder.peft.dropout,
            rslora: layout.rslora(),
            target_modules: projections(layout),
        },
        layout_digest: Digest(layout.digest()),
        adapter_bytes: adapter_bytes(layout),
        encoding: config.run.transfer,
        download: config.run.download,
        rounds: config.run.rounds,
        seed: config.run.seed,
        training: config.training.clone(),
        strategy: config.strategy,
        ewc,
        privacy: config.privacy.clone(),
        participant_privacy: config.participant_privacy.clone(),
        cohort: config.cohort.clone(),
        limits: limits(config),
        ring: config.ring,
        secure_aggregation: config.secure_aggregation,
    }
}

/// The limits as configured. Private updates count alike, so none may claim more weight than another.
fn limits(config: &Config) -> LimitsPlan {
    let configured = config.limits.clone();
    if config.privacy.is_none() && config.participant_privacy.is_none() {
        return configured;
    }
    LimitsPlan {
        weight_max: 1,
        ..configured
    }
}

/// The adapted projections, each once, in the order in which the layout has them.
fn projections(layout: &AdapterLayout) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for module in layout.modules() {
        let name = module.name.rsplit('.').next().unwrap_or(&module.name);
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn adapter_bytes(layout: &AdapterLayout) -> u64 {
    layout.parameters() as u64 * size_of::<f32>() as u64
}

/// Reads a file of which there may be `limit` bytes.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, StartError> {
    let failed = |source| StartError::Read {
        path: path.to_owned(),
        source,
    };
    let found = std::fs::metadata(path).map_err(failed)?.len();
    if found > limit {
        return Err(StartError::TooLarge {
            path: path.to_owned(),
            found,
            limit,
        });
    }
    std::fs::read(path).map_err(failed)
}

/// What a run starts from cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file cannot be read.
    #[error(
        "cannot read {}: {source}; `foedus-client adapter new` makes a start folder, `foedus-client fisher` an anchor",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or the adapter in it is larger than the server takes.
    #[error("{} has {found} bytes, the limit is {limit}; raise limits.adapter_max if that is meant", path.display())]
    TooLarge {
        /// The file or folder.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The folder holds no adapter that can be used.
    #[error("{} is no usable start folder: {source}", folder.display())]
    Peft {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with which file.
        source: PeftError,
    },
    /// The folder was made for another base model than the configuration names.
    #[error("{} was made for the base model {found}, and run.base is {expected}", folder.display())]
    OtherBase {
        /// The folder.
        folder: PathBuf,
        /// The fingerprint in its foedus.json.
        found: Digest,
        /// The fingerprint configured.
        expected: Digest,
    },
    /// The anchor cannot be used for this adapter.
    #[error("{} is no usable anchor for this run: {source}", path.display())]
    Anchor {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: AnchorError,
    },
}

impl StartError {
    /// Gives the configuration key to look at.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Read { path, .. } | Self::TooLarge { path, .. } => {
                let of_folder = [CONFIG_FILE, MODEL_FILE, SIDECAR_FILE];
                let is_start = of_folder.iter().any(|name| path.ends_with(name)) || path.is_dir();
                if is_start { "run.start" } else { "ewc.anchor" }
            }
            Self::Peft { .. } => "run.start",
            Self::OtherBase { .. } => "run.base",
            Self::Anchor { .. } => "ewc.anchor",
        }
    }
}
