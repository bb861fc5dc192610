//! Sites each of which answers with the global adapter plus its own constant, so that every sum has a closed form.

use std::collections::BTreeSet;

use aggregation::{AdapterLayout, ModuleLayout};
use protocol::ParticipantName;

use super::{untrained::Untrained, *};

const WEIGHT_MAX: u64 = 4;

/// The site of this participant.
pub(super) fn site(index: u32) -> Arc<Untrained> {
    let constant = constant(index);
    Arc::new(Untrained {
        layout: layout(),
        weight: weight(index),
        change: Arc::new(move |values| values.iter_mut().for_each(|value| *value += constant)),
    })
}

pub(super) fn layout() -> Arc<AdapterLayout> {
    let module = ModuleLayout {
        name: "model.layers.0.self_attn.q_proj".to_owned(),
        in_features: 8,
        out_features: 8,
    };
    Arc::new(AdapterLayout::new(2, 4.0, false, vec![module]).unwrap())
}

pub(super) fn name(index: u32) -> ParticipantName {
    format!("site-{index:02}").parse().unwrap()
}

/// What the participant adds: no two add the same.
fn constant(index: u32) -> f32 {
    ((index * index) as f32 + 1.0) / 4096.0
}

fn weight(index: u32) -> u64 {
    u64::from(index) % WEIGHT_MAX + 1
}

/// By how much each value moves if these are in the sum.
pub(super) fn moved(members: &BTreeSet<u32>) -> f64 {
    let weights: u64 = members.iter().map(|&index| weight(index)).sum();
    let sum: f64 = members
        .iter()
        .map(|&index| weight(index) as f64 * f64::from(constant(index)))
        .sum();
    sum / weights as f64
}

/// Their names, in order.
pub(super) fn names(members: &BTreeSet<u32>) -> Vec<String> {
    members
        .iter()
        .map(|&index| name(index).to_string())
        .collect()
}

/// A server that has so many participants deliver updates under masks, for two rounds.
pub(super) fn masked(
    certificates: &Federation,
    folder: &Path,
    (members, quorum): (u32, u32),
) -> server::Config {
    let start = folder.join("start");
    let sidecar = Sidecar {
        base_fingerprint: [7; 32],
        base_name: "none".to_owned(),
    };
    adapter_folder::write(&start, &Adapter::initial(layout(), SEED), 0.0, &sidecar).unwrap();
    let material = tls(certificates.server());
    let mut config = server::Config::new(material, "masked".parse().unwrap(), start);
    config.run.out = folder.join("runs");
    config.run.rounds = 2;
    config.run.transfer = ValueEncoding::F32;
    config.training = TrainingPlan {
        local_steps: 1,
        ..config.training
    };
    config.cohort.participants = Participants::Named((0..members).map(name).collect());
    config.cohort.quorum = quorum;
    config.cohort.soft_deadline = PATIENCE;
    config.cohort.hard_deadline = PATIENCE;
    config.cohort.stall_limit = PATIENCE;
    config.cohort.join_deadline = PATIENCE;
    config.limits.participants_max = members;
    config.limits.weight_max = WEIGHT_MAX;
    config.ring = Some(RingPlan {
        bits: RingBits::Bits32,
        value_max: 0.25,
    });
    config.secure_aggregation = Some(SecureAggregationPlan {
        cohort_min: 3,
        trust: ServerTrust::Malicious,
    });
    config
}
