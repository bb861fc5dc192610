//! What a simulation found out: `summary.json`, and the records behind it.
//!
//! Losses are mean nats per counted token (response tokens of an institution's text, all tokens of
//! general text); perplexities are their exponentials. "Federated" is the run with EWC, the one whose
//! adapter is published; "without EWC" is its twin with the penalty left out. No number here is
//! estimated from another one.

use serde::{Deserialize, Serialize};

/// The result of one simulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The base model's name.
    pub model: String,
    /// SHA-256 fingerprint of the base model, in hex.
    pub model_fingerprint: String,
    /// The seed of everything drawn.
    pub seed: u64,
    /// Rounds of each federated run.
    pub rounds: u32,
    /// Optimizer steps an institution takes in a round.
    pub local_steps: u32,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Strength of the EWC anchor, in nats of domain loss per nat of general divergence.
    pub ewc_lambda: f64,
    /// The institutions, in the order of their names.
    pub participants: Vec<ParticipantSummary>,
    /// The means over the institutions, each counted once.
    pub mean: MeanSummary,
    /// The institutions that were hostile on purpose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostile: Vec<String>,
    /// General English: what was forgotten.
    pub general: GeneralSummary,
    /// The run under differential privacy, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<PrivacySummary>,
    /// What the federated run with EWC told of whether an institution took part, if that was protected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_privacy: Option<ParticipantPrivacySummary>,
    /// Adapter bytes the institutions sent in the federated run.
    pub bytes_up: u64,
    /// Adapter (and anchor) bytes the server sent in the federated run.
    pub bytes_down: u64,
    /// Wall-clock seconds of the whole simulation.
    pub seconds: f64,
    /// Wall-clock seconds of each phase, in order.
    pub phases: Vec<PhaseSummary>,
    /// Peak resident memory of the process, where the system tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// The device everything ran on.
    pub device: String,
    /// SHA-256 of the published adapter's values, in hex.
    pub adapter_sha256: String,
    /// The same of the run without EWC.
    pub adapter_sha256_without_ewc: String,
}

/// One institution's figures on its own held-out text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParticipantSummary {
    /// The institution.
    pub name: String,
    /// Records it trained on.
    pub examples: usize,
    /// Records it was measured on.
    pub held_out_examples: usize,
    /// Response tokens it was measured on.
    pub held_out_tokens: u64,
    /// Loss of the base model.
    pub loss_base: f64,
    /// Loss after training alone, the same recipe and number of steps.
    pub loss_alone: f64,
    /// Loss of the federated adapter (with EWC).
    pub loss_federated: f64,
    /// Loss of the federated adapter without EWC.
    pub loss_federated_without_ewc: f64,
    /// Perplexity of the base model.
    pub perplexity_base: f64,
    /// Perplexity after training alone.
    pub perplexity_alone: f64,
    /// Perplexity of the federated adapter (with EWC).
    pub perplexity_federated: f64,
    /// Perplexity of the federated adapter without EWC.
    pub perplexity_federated_without_ewc: f64,
}

/// Means over the institutions, each counted once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeanSummary {
    /// Of the base model.
    pub loss_base: f64,
    /// Of each institution alone.
    pub loss_alone: f64,
    /// Of the federated adapter (with EWC).
    pub loss_federated: f64,
    /// Of the federated adapter without EWC.
    pub loss_federated_without_ewc: f64,
}

impl MeanSummary {
    /// The means of the given institutions, of which there is at least one.
    #[must_use]
    pub fn of(participants: &[ParticipantSummary]) -> Self {
        let mean = |pick: fn(&ParticipantSummary) -> f64| {
            participants.iter().map(pick).sum::<f64>() / participants.len() as f64
        };
        Self {
            loss_base: mean(|one| one.loss_base),
            loss_alone: mean(|one| one.loss_alone),
            loss_federated: mean(|one| one.loss_federated),
            loss_federated_without_ewc: mean(|one| one.loss_federated_without_ewc),
        }
    }
}

/// What privacy promised, and what it cost in loss: the same federation with EWC, trained by DP-SGD.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrivacySummary {
    /// At which delta epsilon is counted.
    pub delta: f64,
    /// Standard deviation of the noise over the clipping norm.
    pub noise_multiplier: f64,
    /// Largest norm of one record's gradient.
    pub clip_norm: f64,
    /// Records that a step reads on average.
    pub batch: u32,
    /// The institutions, in the order of their names.
    pub participants: Vec<PrivateParticipant>,
    /// The mean of their losses, each counted once.
    pub mean_loss: f64,
    /// Loss on general English.
    pub general_loss: f64,
    /// SHA-256 of the private adapter's values, in hex. Its noise makes it another one each time.
    pub adapter_sha256: String,
}

/// Privacy of whole institutions, as the server's record of the last round has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParticipantPrivacySummary {
    /// What the run has cost an institution in all.
    pub epsilon: f64,
    /// At which delta that is counted.
    pub delta: f64,
    /// Institutions that sums were divided by.
    pub expected: u32,
}

/// One institution under differential privacy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrivateParticipant {
    /// The institution.
    pub name: String,
    /// What its ledger says that the run has cost.
    pub epsilon: f64,
    /// The probability with which a record joined a step.
    pub sampling_rate: f64,
    /// Private steps counted.
    pub steps: u64,
    /// Loss of the private adapter on the institution's held-out text.
    pub loss: f64,
}

/// General English, before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeneralSummary {
    /// Loss of the base model.
    pub loss_base: f64,
    /// Loss of the federated adapter (with EWC).
    pub loss_federated: f64,
    /// Loss of the federated adapter without EWC.
    pub loss_federated_without_ewc: f64,
    /// Perplexity of the base model.
    pub perplexity_base: f64,
    /// Perplexity of the federated adapter (with EWC).
    pub perplexity_federated: f64,
    /// Perplexity of the federated adapter without EWC.
    pub perplexity_federated_without_ewc: f64,
    /// Forgetting: federated minus base loss.
    pub forgetting: f64,
    /// Forgetting without EWC.
    pub forgetting_without_ewc: f64,
    /// Tokens forgetting was measured on.
    pub tokens: u64,
    /// Tokens the anchor was measured on.
    pub anchor_tokens: u64,
}

impl GeneralSummary {
    /// The figures that follow from three losses.
    #[must_use]
    pub fn of(
        base: f64,
        federated: f64,
        without_ewc: f64,
        tokens: u64,
        anchor_tokens: u64,
    ) -> Self {
        Self {
            loss_base: base,
            loss_federated: federated,
            loss_federated_without_ewc: without_ewc,
            perplexity_base: base.exp(),
            perplexity_federated: federated.exp(),
            perplexity_federated_without_ewc: without_ewc.exp(),
            forgetting: federated - base,
            forgetting_without_ewc: without_ewc - base,
            tokens,
            anchor_tokens,
        }
    }
}

/// How long one phase took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseSummary {
    /// The phase's name.
    pub name: String,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// The ways an institution's text is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// Each institution by itself.
    Alone,
    /// The federation without EWC.
    WithoutEwc,
    /// The federation with EWC.
    Federated,
    /// The federation with EWC and differential privacy.
    Private,
}

impl Arm {
    /// The arm's name for people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::WithoutEwc => "federated, no EWC",
            Self::Federated => "federated + EWC",
            Self::Private => "federated + EWC + privacy",
        }
    }
}

/// The training loss of one optimizer step of one institution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// How it was trained.
    pub arm: Arm,
    /// Whose step it was.
    pub participant: String,
    /// The step within the whole run, counted from 1.
    pub step: u64,
    /// Mean nats per response token of the step's examples.
    pub loss: f64,
}

/// One line of the server's `rounds.jsonl`, as far as the report uses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// The round, from 1.
    pub round: u32,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Who delivered.
    #[serde(default)]
    pub participants: Vec<RoundParticipant>,
    /// What was refused and why.
    #[serde(default)]
    pub refused: Vec<RoundRefusal>,
    /// Who did not deliver.
    #[serde(default)]
    pub missing: Vec<String>,
    /// The robust rule, if updates were not averaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Norm of the update by which the global adapter was moved.
    pub update_norm: f64,
    /// Relative error of averaging A and B apart instead of their product; not known of updates that were summed in a ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inexactness: Option<f64>,
    /// How far the adapter moves by the encoding in which it is sent, relative to its norm.
    #[serde(default)]
    pub rounding: f64,
    /// The largest share that rounding to blocks of int8 cut off of an update; an institution knows it, the server does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_rounding: Option<f64>,
    /// What privacy of whole institutions did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_privacy: Option<RoundParticipantPrivacy>,
    /// Bytes received in the round.
    pub bytes_up: u64,
    /// Bytes sent in the round.
    pub bytes_down: u64,
    /// SHA-256 of the round's global adapter.
    pub adapter_sha256: String,
}

/// Privacy of whole institutions in a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundParticipantPrivacy {
    /// The norm that updates were within.
    pub clip_norm: f64,
    /// What the sum was divided by.
    pub expected: u32,
    /// Standard deviation of the noise on each value of the mean.
    pub noise: f64,
    /// What the run has cost an institution after this round.
    pub epsilon: f64,
    /// At which delta that is counted.
    pub delta: f64,
}

/// One institution's part in a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundParticipant {
    /// The institution.
    pub name: String,
    /// Training examples it used.
    pub weight: u64,
    /// Bytes of its update.
    pub bytes: u64,
    /// Its mean training loss in the round, if it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_loss: Option<f64>,
    /// How far its update was from the one by which the global adapter was moved, under a robust rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance: Option<f64>,
    /// Whether the rule left it out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left_out: bool,
}

/// An update that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRefusal {
    /// Whose update it was.
    pub name: String,
    /// Why it was refused: a short label.
    pub reason: String,
    /// What exactly was found, if the update was looked into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
