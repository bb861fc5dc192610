//! The comparisons: one plan, one server or one transfer against every rule.

use jiff::Timestamp;
use protocol::{
    Digest,
    plan::{RunPlan, ServerTrust},
};

use super::{Circumstances, Rule, SitePolicy, file::Metric, refusal::Found};
use crate::config::Bytes;

/// What a round says beside its update: header, offer, receipts.
const ROUND_FRAME_BYTES: u64 = 1024;
/// One report of progress, a step.
const STEP_FRAME_BYTES: u64 = 32;
/// Keys and signatures of an attempt at secure aggregation, sealed and opened shares beside.
const ATTEMPT_BYTES: u64 = 1024;
/// A sealed pair of shares, and one opened, for each other participant.
const PEER_BYTES: u64 = 160;

impl SitePolicy {
    pub(super) fn found_in(&self, plan: &RunPlan, circumstances: &Circumstances) -> Vec<Found> {
        let model = [
            self.base(plan),
            self.modules(plan),
            most(
                "model.rank_max",
                &self.rank_max,
                plan.lora.rank,
                "the plan's rank is",
            ),
        ];
        let (rounds, steps) = (plan.rounds, plan.training.local_steps);
        let training = [
            most(
                "training.rounds_max",
                &self.rounds_max,
                rounds,
                "the plan's rounds are",
            ),
            most(
                "training.local_steps_max",
                &self.local_steps_max,
                steps,
                "the plan's local steps are",
            ),
            self.cohort(plan),
            self.strategy(plan),
        ];
        let mut found = self.found_in_server(circumstances.server_certificate);
        found.extend(model.into_iter().chain(training).flatten());
        found.extend(self.bytes(plan, circumstances));
        found.extend(self.masking(plan));
        found.extend(self.noise(plan));
        found.extend(self.participant_noise(plan));
        found.extend(self.closed(circumstances.now));
        found
    }

    pub(super) fn found_in_server(&self, fingerprint: Digest) -> Vec<Found> {
        let rule = self.server_certificate.as_ref();
        let other = rule.filter(|rule| rule.value != fingerprint);
        let found = other.map(|rule| {
            let what = format!(
                "is {}, and the server's certificate has {fingerprint}",
                rule.value
            );
            lasting("server.certificate", rule.line, what)
        });
        found.into_iter().collect()
    }

    pub(super) fn found_in_transfer(
        &self,
        bytes: u64,
        round_bytes: u64,
        circumstances: &Circumstances,
    ) -> Vec<Found> {
        let (in_round, in_day) = (
            round_bytes.saturating_add(bytes),
            self.day(bytes, circumstances),
        );
        let limit = &self.round_bytes_max;
        let round = (limit.value < in_round).then(|| {
            let (limit_bytes, sent) = (Bytes(limit.value), Bytes(round_bytes));
            let what = format!(
                "is {limit_bytes}; {sent} have left in this round and {} more are asked for",
                Bytes(bytes)
            );
            lasting("egress.round_max", limit.line, what)
        });
        round
            .into_iter()
            .chain(in_day)
            .chain(self.closed(circumstances.now))
            .collect()
    }

    fn base(&self, plan: &RunPlan) -> Option<Found> {
        let (rule, wanted) = (&self.bases, plan.base.fingerprint);
        (!rule.value.contains(&wanted)).then(|| {
            let what = format!(
                "does not list the plan's base model {} with fingerprint {wanted}",
                plan.base.name
            );
            lasting("model.bases", rule.line, what)
        })
    }

    fn modules(&self, plan: &RunPlan) -> Option<Found> {
        let rule = &self.target_modules;
        let strangers: Vec<_> = plan
            .lora
            .target_modules
            .iter()
            .filter(|name| !rule.value.contains(name))
            .cloned()
            .collect();
        (!strangers.is_empty()).then(|| {
            let what = format!(
                "does not list {}, which the plan adapts",
                strangers.join(", ")
            );
            lasting("model.target_modules", rule.line, what)
        })
    }

    fn cohort(&self, plan: &RunPlan) -> Option<Found> {
        let (rule, quorum) = (&self.cohort_min, plan.cohort.quorum);
        (quorum < rule.value).then(|| {
            let what = format!(
                "is {}, and the plan merges as few as {quorum} updates",
                rule.value
            );
            lasting("cohort.min", rule.line, what)
        })
    }

    fn bytes(&self, plan: &RunPlan, circumstances: &Circumstances) -> Vec<Found> {
        let needed = round_bytes(plan);
        let limit = &self.round_bytes_max;
        let round = (limit.value < needed).then(|| {
            let what = format!(
                "is {}, and a round of the plan needs {}",
                Bytes(limit.value),
                Bytes(needed)
            );
            lasting("egress.round_max", limit.line, what)
        });
        round
            .into_iter()
            .chain(self.day(needed, circumstances))
            .collect()
    }

    fn day(&self, bytes: u64, circumstances: &Circumstances) -> Option<Found> {
        let (limit, sent) = (&self.day_bytes_max, circumstances.day_bytes);
        (limit.value < sent.saturating_add(bytes)).then(|| Found {
            line: limit.line,
            key: "egress.day_max",
            what: format!(
                "is {}; {} have left in the last 24 hours and {} more are asked for",
                Bytes(limit.value),
                Bytes(sent),
                Bytes(bytes)
            ),
            // An empty day is the most that waiting can bring.
            temporary: bytes <= limit.value,
        })
    }

    /// Masks that the site asks for, and what is told where there are none.
    fn masking(&self, plan: &RunPlan) -> Vec<Found> {
        let required = &self.secure_aggregation_required;
        let is_masked = plan.secure_aggregation.is_some();
        let weakness = match plan.secure_aggregation.map(|masks| masks.trust) {
            None => Some("is true, and the plan has updates sent unmasked"),
            Some(ServerTrust::HonestButCurious) => {
                Some("is true, and the plan's masks hold only against a server that does not lie")
            }
            Some(ServerTrust::Malicious) => None,
        };
        let unmasked = weakness.filter(|_| required.value).map(|what| {
            lasting(
                "secure_aggregation.required",
                required.line,
                what.to_owned(),
            )
        });
        let Rule { value, line } = &self.metrics;
        // Where every update counts as one, the weight says nothing about the site.
        let tells = !is_masked && plan.limits.weight_max > 1 && !value.contains(&Metric::Weight);
        let weight = tells.then(|| {
            let what = "does not list \"weight\", and without secure aggregation the number of examples is sent in the clear";
            lasting("egress.metrics", *line, what.to_owned())
        });
        weight.into_iter().chain(unmasked).collect()
    }

    fn strategy(&self, plan: &RunPlan) -> Option<Found> {
        let (rule, asked) = (self.strategies.as_ref()?, plan.strategy.name());
        (!rule.value.iter().any(|name| name == asked)).then(|| {
            let what = format!("does not list {asked}, by which the plan merges updates");
            lasting("cohort.strategies", rule.line, what)
        })
    }

    fn closed(&self, now: Timestamp) -> Option<Found> {
        let rule = self
            .hours
            .as_ref()
            .filter(|rule| !rule.value.is_open(now))?;
        Some(Found {
            line: rule.line,
            key: "hours",
            what: format!("is {}, and now it is {}", rule.value, rule.value.local(now)),
            temporary: true,
        })
    }
}

/// The bytes that one round of a plan needs at most when nothing has to be sent twice.
fn round_bytes(plan: &RunPlan) -> u64 {
    let steps = u64::from(plan.training.local_steps);
    let masking = plan.secure_aggregation.map_or(0, |_| {
        ATTEMPT_BYTES + u64::from(plan.limits.participants_max) * PEER_BYTES
    });
    plan.update_bytes() + ROUND_FRAME_BYTES + steps * STEP_FRAME_BYTES + masking
}

fn most(key: &'static str, rule: &Rule<u32>, asked: u32, words: &str) -> Option<Found> {
    let Rule { value, line } = *rule;
    (value < asked).then(|| lasting(key, line, format!("is {value}, and {words} {asked}")))
}

pub(super) fn lasting(key: &'static str, line: usize, what: String) -> Found {
    Found {
        line,
        key,
        what,
        temporary: false,
    }
}
