//! What a run starts from: the PEFT folder, the anchor, and the signed run plan made of them and the configuration.
//!
//! Everything that can be wrong before a socket is opened is found here; `--check` is this module and nothing more. It leaves nothing on
//! disk.

mod anchor;
mod error;
mod folder;
mod layers;
mod plan;
mod results;

use std::sync::Arc;
use std::time::SystemTime;

use aggregation::admission::AdmissionRules;
use aggregation::masking::{FixedRing, Ring};
use aggregation::peft::Sidecar;
use aggregation::strategy::fixed_point::FixedPoint;
use aggregation::strategy::robust::RobustRule;
use aggregation::{Adapter, AdapterLayout, Encoding};
use protocol::identity::Role;
use protocol::plan::{
    CheckedPlan, Download, RingBits, RingPlan, SignedPlan, StrategyPlan, ValueEncoding,
};
use protocol::quic::{PlanFile, TlsMaterial};

pub(crate) use self::anchor::LoadedAnchor;
pub use self::error::StartError;
pub(crate) use self::folder::{CONFIG_FILE, MODEL_FILE, SIDECAR_FILE};

use self::anchor::load_anchor;
use self::folder::StartFolder;
use self::plan::{limits, run_plan};
use crate::config::{Config, IdentitySource};
use crate::error::ServerError;
use crate::participant_privacy;
use crate::recovery;
use crate::round::Merger;
use crate::total::Summing;

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

    /// Checks that the run's results can be written where the configuration wants them. It makes no folder and leaves no file.
    ///
    /// # Errors
    /// [`ServerError::Start`] names the folder and what the system said.
    pub fn check_results(&self) -> Result<(), ServerError> {
        results::check(&self.config.run.folder())?;
        let start = self.adapter.as_ref();
        start.map_or(Ok(()), |start| recovery::check(self, start))
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
