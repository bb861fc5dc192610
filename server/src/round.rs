//! From a round's sum, or its ballot, to the next global adapter, and to the line that tells of it.
//!
//! `next = global + update`, the update being the mean or what the robust rule made of all, then the server's EWC step if the
//! plan has one. What was lost by averaging the factors apart is measured on the mean, before that step.

mod pull;

use std::collections::BTreeMap;
use std::sync::Arc;

use aggregation::ewc;
use aggregation::strategy::fedavg::Next;
use aggregation::{Adapter, AdapterError};
use protocol::close::RefusalReason;
use protocol::coordinator::RoundSummary;
use protocol::plan::{CheckedPlan, EwcPlace};
use protocol::secagg::{Opening, Secret};
use protocol::{Digest, ParticipantName, Round};

use crate::ballot::Counted;
use crate::error::ServerError;
use crate::fold::Refused;
use crate::participant_privacy::Noised;
use crate::record::{
    CountedUpdate, EwcRecord, ParticipantPrivacyRecord, RefusedUpdate, RoundRecord, SecureRecord,
};
use crate::start::LoadedAnchor;
use crate::total::Total;
use pull::Pull;

/// Bulk bytes moved for a round.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Traffic {
    /// Received by the server.
    pub(crate) up: u64,
    /// Sent by the server.
    pub(crate) down: u64,
}

impl Traffic {
    /// Adds what was moved at another time.
    pub(crate) fn add(&mut self, other: Self) {
        self.up += other.up;
        self.down += other.down;
    }
}

/// What was measured in a round beside its adapter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) traffic: Traffic,
    /// How far the adapter moves by its encoding, relative to its norm.
    pub(crate) rounding: f64,
    /// From the round's opening.
    pub(crate) seconds: f64,
}

/// Forms global adapters by a plan.
#[derive(Debug)]
pub(crate) struct Merger {
    plan: CheckedPlan,
    anchor: Option<LoadedAnchor>,
}

/// The next global adapter with what is reported about it.
#[derive(Debug)]
pub(crate) struct Formed {
    pub(crate) adapter: Arc<Adapter>,
    update_norm: f64,
    /// Not known of a sum whose updates were not looked into.
    inexactness: Option<f64>,
    /// The sum of the weights in the ring, and values cut off, of such a sum.
    ring: Option<(f64, u64)>,
    /// What a robust rule made of the updates.
    counted: Option<Counted>,
    ewc: Option<EwcRecord>,
    participant_privacy: Option<ParticipantPrivacyRecord>,
}

impl Merger {
    pub(crate) fn new(plan: CheckedPlan, anchor: Option<LoadedAnchor>) -> Self {
        Self { plan, anchor }
    }

    /// Forms the adapter that follows `global`.
    pub(crate) fn form(
        &self,
        global: &Adapter,
        sum: Total,
        round: Round,
        noised: Option<&Noised>,
    ) -> Result<Formed, ServerError> {
        let impossible = |what: String| ServerError::Internal {
            what: format!("round {round}: {what}"),
        };
        let mut participant_privacy = None;
        let (next, inexactness, ring, counted) = match (sum, noised) {
            (sum, Some(noised)) => {
                let (mean, record) = noised.release(sum).map_err(impossible)?;
                participant_privacy = Some(record);
                let next = after(global, mean);
                let next = next.map_err(|error| impossible(error.to_string()))?;
                // Nothing exact about the updates is told beside what is noised.
                (next, None, None, None)
            }
            (Total::Values(values), None) => {
                let next = values.into_next(global, impossible)?;
                let inexactness = next.inexactness;
                (next, Some(inexactness), None, None)
            }
            (Total::Ring(sum), None) => {
                let mean = sum.mean().map_err(|error| impossible(error.to_string()))?;
                drop(sum);
                let of_ring = (mean.weight, mean.cut_off);
                let next = after(global, mean.values);
                let next = next.map_err(|error| impossible(error.to_string()))?;
                (next, None, Some(of_ring), None)
            }
            (Total::Ballot(ballot), None) => {
                let (update, counted) = ballot
                    .count()
                    .map_err(|error| impossible(error.to_string()))?;
                let next = after(global, update);
                let next = next.map_err(|error| impossible(error.to_string()))?;
                (next, None, None, Some(counted))
            }
        };
        let Next {
            mut adapter,
            update_norm,
            ..
        } = next;
        let ewc = self.anchored(&mut adapter, round);
        Ok(Formed {
            adapter: Arc::new(adapter),
            update_norm,
            inexactness,
            ring,
            counted,
            ewc,
            participant_privacy,
        })
    }

    /// Takes the server's step toward the anchor, or only measures the distance if that is the clients' business.
    fn anchored(&self, adapter: &mut Adapter, round: Round) -> Option<EwcRecord> {
        let plan = self.plan.ewc.as_ref()?;
        let anchor = self.anchor.as_ref()?;
        let penalty_before = ewc::penalty(adapter, &anchor.bound, plan.lambda);
        let place = match plan.place {
            EwcPlace::Client => "client",
            EwcPlace::Server => {
                let pull = Pull::new(&self.plan, plan.lambda, anchor, adapter, round);
                ewc::proximal_step(adapter, &anchor.bound, None, &|module, factor| {
                    pull.strength(module, factor)
                });
                "server"
            }
        };
        let penalty = ewc::penalty(adapter, &anchor.bound, plan.lambda);
        Some(EwcRecord {
            place: place.to_owned(),
            lambda: plan.lambda,
            penalty_before,
            penalty,
        })
    }
}

/// The adapter that follows `global` by these values of an update; what is not known of them is zero.
fn after(global: &Adapter, update: Vec<f32>) -> Result<Next, AdapterError> {
    // In the update's place: an adapter less at the peak.
    let mut adapter = Adapter::from_values(Arc::clone(global.layout()), update)?;
    let update_norm = adapter.norm();
    adapter.add(global)?;
    Ok(Next {
        adapter,
        update_norm,
        inexactness: 0.0,
    })
}

impl Formed {
    /// Makes the line of `rounds.jsonl`.
    pub(crate) fn record(
        &self,
        summary: &RoundSummary,
        (details, opening): (&BTreeMap<ParticipantName, Refused>, Option<&Opening>),
        measured: Measured,
        sha256: Digest,
    ) -> RoundRecord {
        let counted = self.counted.as_ref();
        let participants = summary.accepted.iter().map(|update| CountedUpdate {
            name: update.participant.to_string(),
            // The weight of a masked update is under its mask.
            weight: if opening.is_some() { 0 } else { update.weight },
            bytes: update.bytes,
            train_loss: update.metrics.train_loss,
            rounds_late: update.rounds_late,
            distance: counted
                .and_then(|counted| counted.distances.get(&update.participant).copied()),
            is_left_out: counted
                .is_some_and(|counted| counted.left_out.contains(&update.participant)),
        });
        let refused = summary
            .refused
            .iter()
            .map(|(name, reason)| refused(name, *reason, details.get(name)));
        RoundRecord {
            round: summary.round.0,
            seconds: measured.seconds,
            participants: participants.collect(),
            refused: refused.collect(),
            missing: summary.missing.iter().map(ToString::to_string).collect(),
            update_norm: self.update_norm,
            inexactness: self.inexactness,
            rule: counted.map(|counted| counted.rule.to_string()),
            rounding: measured.rounding,
            bytes_up: measured.traffic.up,
            bytes_down: measured.traffic.down,
            adapter_sha256: sha256.to_string(),
            ewc: self.ewc.clone(),
            secure: opening.map(|opening| self.secure(opening)),
            participant_privacy: self.participant_privacy.clone(),
            turned_away: Vec::new(),
        }
    }
}

impl Formed {
    fn secure(&self, opening: &Opening) -> SecureRecord {
        let (weight, cut_off) = self.ring.unwrap_or_default();
        let dropped = |of| opening.names.get(of).map(ToString::to_string);
        let gone = opening
            .secrets
            .iter()
            .filter(|revealed| matches!(revealed.secret, Secret::PairKey { .. }));
        SecureRecord {
            attempt: opening.attempt.number,
            threshold: opening.threshold,
            dropped: gone.filter_map(|revealed| dropped(&revealed.of)).collect(),
            weight,
            cut_off,
        }
    }
}

fn refused(
    name: &ParticipantName,
    reason: RefusalReason,
    found: Option<&Refused>,
) -> RefusedUpdate {
    RefusedUpdate {
        name: name.to_string(),
        reason: reason.label().to_owned(),
        detail: found
            .filter(|found| found.reason == reason)
            .map(|found| found.detail.clone()),
    }
}
