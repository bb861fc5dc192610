//! The run plan, made of the configuration and of what the run starts from.

use aggregation::AdapterLayout;
use protocol::Digest;
use protocol::plan::{BasePlan, EwcPlan, LimitsPlan, LoraPlan, RunPlan};

use super::anchor::LoadedAnchor;
use super::folder::{StartFolder, adapter_bytes};
use crate::config::Config;

pub(super) fn run_plan(
    config: &Config,
    folder: &StartFolder,
    anchor: Option<&LoadedAnchor>,
) -> RunPlan {
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

/// The limits as configured, or tighter where the rest of the plan leaves less room.
///
/// Private updates count alike, so none may claim more weight than another. No others may claim more examples than a round can read: that
/// much is all that an honest one can claim, and in a ring the steps of a value are shared out over the largest weight.
pub(super) fn limits(config: &Config) -> LimitsPlan {
    let configured = config.limits.clone();
    let weight_max = if config.privacy.is_some() || config.participant_privacy.is_some() {
        1
    } else {
        configured.weight_max.min(config.training.round_examples())
    };
    LimitsPlan {
        weight_max,
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
