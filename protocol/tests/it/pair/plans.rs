//! Plans, names, contents and signatures that are easy to reason about.

use super::*;

/// A plan that is easy to reason about: soft deadline 30 s, hard 120 s, stall 20 s, join 10 s, four steps.
pub(crate) fn plan(participants: &[&str], quorum: u32, rounds: u32) -> RunPlan {
    let named = participants
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
    RunPlan {
        run: "run-1".parse().unwrap(),
        base: BasePlan {
            name: "tiny".into(),
            fingerprint: Digest::of(b"base"),
        },
        lora: LoraPlan {
            rank: 4,
            alpha: 8.0,
            dropout: 0.0,
            rslora: false,
            target_modules: vec!["q_proj".into()],
        },
        layout_digest: Digest::of(b"layout"),
        adapter_bytes: ADAPTER_BYTES,
        encoding: ValueEncoding::F32,
        download: Download::Whole,
        rounds,
        seed: 1,
        training: TrainingPlan {
            local_steps: 4,
            batch_examples: 1,
            accumulation: 1,
            max_tokens: 64,
            learning_rate: 1e-3,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            weight_decay: 0.0,
            clip_norm: 1.0,
        },
        strategy: StrategyPlan::FedAvg,
        ewc: None,
        privacy: None,
        participant_privacy: None,
        cohort: CohortPlan {
            participants: Participants::Named(named),
            quorum,
            soft_deadline: Duration::from_secs(30),
            hard_deadline: Duration::from_secs(120),
            stall_limit: Duration::from_secs(20),
            join_deadline: Duration::from_secs(10),
            select: None,
            enough: None,
            late: LatePolicy::Refuse,
        },
        limits: LimitsPlan {
            update_norm_max: 10.0,
            weight_max: 1000,
            participants_max: 16,
        },
        ring: None,
        secure_aggregation: None,
    }
}

pub(crate) const ADAPTER_BYTES: u64 = 1 << 20;

/// The same plan with updates masked, against a server that may lie.
pub(crate) fn masked(mut plan: RunPlan) -> CheckedPlan {
    plan.ring = Some(RingPlan {
        bits: RingBits::Bits32,
        value_max: 0.5,
    });
    plan.secure_aggregation = Some(SecureAggregationPlan {
        cohort_min: 3,
        trust: ServerTrust::Malicious,
    });
    plan.check().unwrap()
}

pub(crate) fn name(text: &str) -> ParticipantName {
    text.parse().unwrap()
}

pub(crate) fn sign(plan: &CheckedPlan) -> SignedPlan {
    SignedPlan::new(plan, |bytes| seal(KEY, bytes))
}

/// The server's key. Its "certificate" is the key itself, and a signature the digest of key and bytes.
pub(crate) const KEY: &[u8] = b"the server's key";

pub(crate) fn seal(key: &[u8], bytes: &[u8]) -> Seal {
    Seal {
        signature: Digest::of(&[key, bytes].concat()).0.to_vec(),
        certificates: vec![key.to_vec()],
    }
}

/// Believes what [`seal`] makes with [`KEY`].
#[derive(Debug)]
pub(crate) struct Eye;

impl Examiner for Eye {
    fn examine(&self, bytes: &[u8], found: &Seal) -> Result<(), SealFault> {
        let what = "the authority does not know it".to_owned();
        if found.certificates != [KEY] {
            return Err(SealFault::Untrusted { what });
        }
        let right = found.signature == seal(KEY, bytes).signature;
        right.then_some(()).ok_or(SealFault::Signature)
    }
}

/// The record of a round that came to `adapter`.
pub(crate) fn record(
    chain: &Chain,
    summary: &RoundSummary,
    before: Content,
    adapter: Content,
) -> SealedRecord {
    let outline = Outline {
        plan: chain.plan(),
        previous: chain.last(),
        before: before.sha256,
        after: adapter.sha256,
        adapter: adapter.sha256,
        secret: Digest::of(b"secret"),
    };
    Record::draw_up(&outline, summary).seal(|bytes| seal(KEY, bytes))
}

/// An adapter or update by what it stands for.
pub(crate) fn content(of: &str) -> Content {
    Content {
        bytes: ADAPTER_BYTES,
        sha256: Digest::of(of.as_bytes()),
    }
}

/// The adapter after so many rounds.
pub(crate) fn global(rounds_done: u32) -> Content {
    match rounds_done {
        0 => content("start"),
        done => content(&format!("global after {done}")),
    }
}

/// The same with its delta, a third as long.
pub(crate) fn release(rounds_done: u32) -> Release {
    let adapter = global(rounds_done);
    let delta = rounds_done.checked_sub(1).map(|before| Delta {
        base: global(before).sha256,
        content: Content {
            bytes: ADAPTER_BYTES / 3,
            sha256: Digest::of(format!("delta to {rounds_done}").as_bytes()),
        },
    });
    Release { adapter, delta }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an instant to count virtual time from"
)]
pub(crate) fn an_instant() -> Instant {
    Instant::now()
}

pub(crate) fn coordinator(
    plan: &CheckedPlan,
    anchor: Option<Content>,
    now: Instant,
) -> Coordinator {
    Coordinator::new(setup(plan, content("start"), anchor), now).unwrap()
}

pub(crate) fn setup(
    plan: &CheckedPlan,
    adapter: Content,
    anchor: Option<Content>,
) -> coordinator::Setup {
    coordinator::Setup {
        transcript: Vec::new(),
        plan: plan.clone(),
        signed: sign(plan),
        release: Release::whole(adapter),
        anchor,
        software: Text::new("test server"),
        allowance: coordinator::Allowance::default(),
    }
}
