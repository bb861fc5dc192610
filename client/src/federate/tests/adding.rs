//! Sites that do not train: each answers with the global adapter plus its own constant, so that every sum has a closed form.

use std::{collections::BTreeSet, ops::ControlFlow};

use aggregation::{AdapterLayout, ModuleLayout};
use finetune::train::{StepReport, Trained};
use protocol::{ParticipantName, plan::CheckedPlan};

use super::*;
use crate::site::{Agreement, Learner, Site};

const WEIGHT_MAX: u64 = 4;

/// Adds its constant to each value, as if it had learned that.
#[derive(Clone)]
pub(super) struct Adding {
    layout: Arc<AdapterLayout>,
    constant: f32,
    weight: u64,
}

impl Site for Adding {
    fn agree(&self, _: &CheckedPlan) -> Result<Box<dyn Agreement>, ClientError> {
        Ok(Box::new(self.clone()))
    }
}

impl Agreement for Adding {
    fn layout(&self) -> &Arc<AdapterLayout> {
        &self.layout
    }

    fn learner(&self, _: Option<&[u8]>, _: Option<&[u8]>) -> Result<Box<dyn Learner>, ClientError> {
        Ok(Box::new(self.clone()))
    }
}

impl Learner for Adding {
    fn learn(
        &mut self,
        global: &Adapter,
        _: u64,
        steps: u64,
        _: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Trained, ClientError> {
        let mut adapter = global.clone();
        for value in adapter.values_mut() {
            *value += self.constant;
        }
        Ok(Trained {
            adapter,
            steps,
            examples_used: self.weight,
            tokens: 1,
            mean_loss: 1.0,
        })
    }

    fn checkpoint(&self) -> Vec<u8> {
        Vec::new()
    }
}

impl Adding {
    /// The site of this participant.
    pub(super) fn of(index: u32) -> Arc<Self> {
        Arc::new(Self {
            layout: layout(),
            constant: constant(index),
            weight: weight(index),
        })
    }
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
