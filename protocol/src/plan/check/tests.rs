//! Every rule of a plan, by a plan that breaks only this one.

use super::*;
use crate::plan::{
    BasePlan, ClipPlan, CohortPlan, Download, EwcPlace, EwcPlan, LimitsPlan, LoraPlan,
    ParticipantPrivacyPlan, PrivacyPlan, PrivacyUnit, RingBits, RingPlan, Schedule,
    SecureAggregationPlan, ServerTrust, SignedPlan, SignedPlanError, StrategyPlan, TrainingPlan,
    ValueEncoding,
};
use crate::seal::{Examiner, Seal, SealFault};

fn good() -> RunPlan {
    RunPlan {
        run: "wards".parse().unwrap(),
        base: BasePlan {
            name: "SmolLM2-135M".into(),
            fingerprint: Digest::of(b"base"),
        },
        lora: LoraPlan {
            rank: 16,
            alpha: 32.0,
            dropout: 0.1,
            rslora: false,
            target_modules: vec!["q_proj".into(), "v_proj".into()],
        },
        layout_digest: Digest::of(b"layout"),
        adapter_bytes: 1 << 20,
        encoding: ValueEncoding::F32,
        download: Download::Whole,
        rounds: 3,
        seed: 7,
        training: TrainingPlan {
            local_steps: 10,
            batch_examples: 4,
            accumulation: 1,
            max_tokens: 512,
            learning_rate: 2e-4,
            warmup_steps: 3,
            schedule: Schedule::Cosine,
            weight_decay: 0.0,
            clip_norm: 1.0,
        },
        strategy: StrategyPlan::FedAvg,
        ewc: Some(EwcPlan {
            lambda: 1.0,
            place: EwcPlace::Client,
            anchor: Digest::of(b"anchor"),
        }),
        privacy: None,
        participant_privacy: None,
        cohort: CohortPlan {
            participants: Participants::Named(vec!["a".parse().unwrap(), "b".parse().unwrap()]),
            quorum: 2,
            soft_deadline: Duration::from_secs(60),
            hard_deadline: Duration::from_secs(600),
            stall_limit: Duration::from_secs(30),
            join_deadline: Duration::from_secs(60),
            select: None,
            enough: None,
            late: LatePolicy::Refuse,
        },
        limits: LimitsPlan {
            update_norm_max: 10.0,
            weight_max: 1000,
            participants_max: 8,
        },
        ring: None,
        secure_aggregation: None,
    }
}

#[track_caller]
fn refused(field: &str, spoil: impl FnOnce(&mut RunPlan)) {
    let mut plan = good();
    spoil(&mut plan);
    let error = plan.check().unwrap_err();
    assert_eq!(error.field, field, "{error}");
    assert!(
        error.to_string().starts_with(&format!("{field} is ")),
        "{error}"
    );
}

#[test]
fn a_good_plan_is_checked_and_its_digest_is_that_of_its_bytes() {
    let plan = good().check().unwrap();
    assert_eq!(plan.digest(), Digest::of(plan.bytes()));
    assert_eq!(codec::decode::<RunPlan>(plan.bytes()).unwrap(), good());
}

#[test]
fn nonsense_about_the_model_is_refused_by_field() {
    refused("base.name", |plan| plan.base.name.clear());
    refused("base.name", |plan| plan.base.name = "a\nb".into());
    refused("lora.rank", |plan| plan.lora.rank = 0);
    refused("lora.alpha", |plan| plan.lora.alpha = f64::NAN);
    refused("lora.dropout", |plan| plan.lora.dropout = 1.0);
    refused("lora.dropout", |plan| plan.lora.dropout = f64::NAN);
    refused("lora.target_modules", |plan| {
        plan.lora.target_modules.clear()
    });
    refused("lora.target_modules", |plan| {
        plan.lora.target_modules[1] = "q_proj".into()
    });
    refused("lora.target_modules", |plan| {
        plan.lora.target_modules[1] = "../etc".into()
    });
    refused("adapter_bytes", |plan| plan.adapter_bytes = 0);
    refused("adapter_bytes", |plan| plan.adapter_bytes = 6);
}

#[test]
fn nonsense_about_training_is_refused_by_field() {
    refused("rounds", |plan| plan.rounds = 0);
    refused("training.local_steps", |plan| plan.training.local_steps = 0);
    refused("training.local_steps times rounds", |plan| {
        plan.rounds = 100_000;
        plan.training.local_steps = 1_000_000;
    });
    refused("training.batch_examples", |plan| {
        plan.training.batch_examples = 0
    });
    refused("training.accumulation", |plan| {
        plan.training.accumulation = 0
    });
    refused("training.max_tokens", |plan| plan.training.max_tokens = 1);
    refused("training.learning_rate", |plan| {
        plan.training.learning_rate = -1.0
    });
    refused("training.learning_rate", |plan| {
        plan.training.learning_rate = 2.0
    });
    refused("training.warmup_steps", |plan| {
        plan.training.warmup_steps = 31
    });
    refused("training.weight_decay", |plan| {
        plan.training.weight_decay = -0.1
    });
    refused("training.clip_norm", |plan| {
        plan.training.clip_norm = f64::INFINITY
    });
    refused("ewc.lambda", |plan| plan.ewc.as_mut().unwrap().lambda = 0.0);
}

#[test]
fn nonsense_about_the_cohort_is_refused_by_field() {
    refused("cohort.quorum", |plan| plan.cohort.quorum = 0);
    refused("cohort.quorum", |plan| plan.cohort.quorum = 3);
    refused("cohort.quorum", |plan| plan.cohort.quorum = 9);
    refused("cohort.participants", |plan| {
        let twice = vec!["a".parse().unwrap(), "a".parse().unwrap()];
        plan.cohort.participants = Participants::Named(twice);
    });
    refused("cohort.participants", |plan| {
        plan.cohort.quorum = 1;
        plan.limits.participants_max = 1;
    });
    refused("cohort.select", |plan| plan.cohort.select = Some(1));
    refused("cohort.select", |plan| plan.cohort.select = Some(9));
    refused("cohort.enough", |plan| plan.cohort.enough = Some(1));
    refused("cohort.enough", |plan| {
        plan.cohort.select = Some(4);
        plan.cohort.enough = Some(5);
    });
    for rounds_max in [0, 17] {
        refused("cohort.late_rounds_max", |plan| {
            plan.cohort.late = LatePolicy::LaterRound { rounds_max }
        });
    }
    refused("cohort.soft_deadline", |plan| {
        plan.cohort.soft_deadline = Duration::ZERO
    });
    refused("cohort.stall_limit", |plan| {
        plan.cohort.stall_limit = Duration::MAX
    });
    refused("cohort.hard_deadline", |plan| {
        plan.cohort.hard_deadline = Duration::from_secs(59);
    });
    refused("cohort.hard_deadline", |plan| {
        plan.cohort.join_deadline = Duration::from_secs(601);
    });
}

#[test]
fn nonsense_about_limits_is_refused_by_field() {
    refused("limits.update_norm_max", |plan| {
        plan.limits.update_norm_max = 0.0
    });
    refused("limits.weight_max", |plan| plan.limits.weight_max = 0);
    refused("limits.participants_max", |plan| {
        plan.limits.participants_max = 1_000_000
    });
    refused("plan", |plan| {
        let name = |n: usize| format!("{n:060}").parse().unwrap();
        plan.cohort.participants = Participants::Named((0..1000).map(name).collect());
        plan.limits.participants_max = 1000;
    });
}

#[test]
fn how_adapters_come_is_in_the_digest_and_in_no_lot() {
    let whole = good().check().unwrap();
    let by = |download| RunPlan { download, ..good() };
    let delta = by(Download::Delta).check().unwrap();
    assert_ne!(delta.digest(), whole.digest());
    assert_eq!(
        (delta.lots(), whole.lots()),
        (whole.digest(), whole.digest())
    );
    // What changes results changes lots.
    let other = RunPlan {
        seed: 99,
        ..by(Download::Delta)
    };
    assert_ne!(other.check().unwrap().lots(), delta.lots());
}

fn private() -> RunPlan {
    let mut plan = good();
    plan.limits.weight_max = 1;
    plan.privacy = Some(PrivacyPlan {
        unit: PrivacyUnit::Group,
        clip_norm: 1.0,
        noise_multiplier: 1.1,
        epsilon_max: 8.0,
        delta: 1e-5,
    });
    plan
}

fn secured() -> RunPlan {
    let mut plan = good();
    let names = ["a", "b", "c", "d"].map(|name| name.parse().unwrap());
    plan.cohort.participants = Participants::Named(names.to_vec());
    plan.cohort.quorum = 3;
    plan.ring = Some(RingPlan {
        bits: RingBits::Bits32,
        value_max: 0.25,
    });
    plan.secure_aggregation = Some(SecureAggregationPlan {
        cohort_min: 3,
        trust: ServerTrust::Malicious,
    });
    plan
}

#[test]
fn noise_of_either_kind_is_on_both_factors() {
    assert!(!good().multiplies_noise());
    assert!(private().multiplies_noise());
    assert!(protected().multiplies_noise());
}

#[test]
fn a_private_plan_is_checked_and_read_back() {
    let plan = private().check().unwrap();
    assert_eq!(codec::decode::<RunPlan>(plan.bytes()).unwrap(), private());
}

#[test]
fn nonsense_about_privacy_is_refused_by_field() {
    let refused = |field: &str, spoil: fn(&mut PrivacyPlan)| {
        let mut plan = private();
        spoil(plan.privacy.as_mut().unwrap());
        assert_eq!(plan.check().unwrap_err().field, field);
    };
    refused("privacy.clip_norm", |privacy| privacy.clip_norm = 0.0);
    // Denormal numbers, and numbers whose sum is infinite, before there is noise on it.
    refused("privacy.clip_norm", |privacy| privacy.clip_norm = 1e-44);
    refused("privacy.clip_norm", |privacy| privacy.clip_norm = 3e38);
    refused("privacy.clip_norm", |privacy| privacy.clip_norm = f64::NAN);
    refused("privacy.noise_multiplier", |privacy| {
        privacy.noise_multiplier = 0.0
    });
    refused("privacy.noise_multiplier", |privacy| {
        privacy.noise_multiplier = f64::NAN
    });
    refused("privacy.epsilon_max", |privacy| {
        privacy.epsilon_max = f64::INFINITY
    });
    refused("privacy.delta", |privacy| privacy.delta = 1.0);
    refused("privacy.delta", |privacy| privacy.delta = 0.0);
}

#[test]
fn exact_weights_beside_private_updates_are_refused_and_said_why() {
    let mut plan = private();
    plan.limits.weight_max = 1000;
    let error = plan.check().unwrap_err();
    assert_eq!(error.field, "limits.weight_max");
    assert!(error.to_string().contains("E_DP_WEIGHTED"), "{error}");
    assert!(error.to_string().contains("count alike instead"), "{error}");
}

#[test]
fn an_update_in_blocks_of_int8_has_a_scale_for_64_values_and_its_adapter_travels_in_bf16() {
    let mut plan = good();
    plan.encoding = ValueEncoding::Int8;
    let values = 1 << 18;
    let plan = plan.check().unwrap();
    assert_eq!(plan.update_bytes(), values + 4 * values / 64);
    assert_eq!(plan.encoded_bytes(), 2 * values);
    assert_eq!(ValueEncoding::Int8.bytes(65), 65 + 8);
    assert_eq!(ValueEncoding::Int8.bytes(0), 0);
}

#[test]
fn blocks_of_int8_in_a_ring_or_beside_privacy_are_refused_and_said_what_to_use() {
    let mut masked = secured();
    masked.encoding = ValueEncoding::Int8;
    let mut ring = masked.clone();
    ring.secure_aggregation = None;
    for plan in [masked, ring] {
        let error = plan.check().unwrap_err();
        assert_eq!(error.field, "run.transfer");
        let said = error.to_string();
        assert!(
            said.contains("needs a shared scale") && said.contains("must be \"bf16\""),
            "{said}"
        );
    }
    let mut private = private();
    private.encoding = ValueEncoding::Int8;
    let error = private.check().unwrap_err();
    assert_eq!(error.field, "run.transfer");
    let said = error.to_string();
    assert!(
        said.contains("E_DP_EF") && said.contains("must be \"bf16\""),
        "{said}"
    );
}

#[track_caller]
fn insecure(field: &str, spoil: impl FnOnce(&mut RunPlan)) {
    let mut plan = secured();
    spoil(&mut plan);
    assert_eq!(plan.check().unwrap_err().field, field);
}

#[test]
fn an_update_in_the_ring_has_its_weight_and_the_count_of_cut_off_values_behind_it() {
    let plan = secured().check().unwrap();
    assert_eq!(plan.update_bytes(), (1 << 20) + 8);
    let mut narrow = secured();
    narrow.ring.as_mut().unwrap().bits = RingBits::Bits24;
    assert_eq!(narrow.update_bytes(), 3 * ((1 << 18) + 2));
    assert_eq!(good().update_bytes(), 1 << 20);
}

#[test]
fn secure_aggregation_that_protects_nobody_or_overflows_is_refused_by_field() {
    insecure("secure_aggregation", |plan| plan.ring = None);
    insecure("secure_aggregation.cohort_min", |plan| {
        plan.secure_aggregation.as_mut().unwrap().cohort_min = 2
    });
    insecure("secure_aggregation.cohort_min", |plan| {
        plan.secure_aggregation.as_mut().unwrap().cohort_min = 9
    });
    insecure("cohort.quorum", |plan| plan.cohort.quorum = 2);
    insecure("cohort.select", |plan| plan.cohort.select = Some(4));
    insecure("cohort.enough", |plan| plan.cohort.enough = Some(4));
    insecure("cohort.late", |plan| {
        plan.cohort.late = LatePolicy::LaterRound { rounds_max: 1 }
    });
    insecure("limits.participants_max with secure aggregation", |plan| {
        plan.limits.participants_max = 1001
    });
    insecure("ring.value_max", |plan| {
        plan.ring.as_mut().unwrap().value_max = f64::NAN
    });
    insecure("ring.bits", |plan| {
        plan.ring.as_mut().unwrap().bits = RingBits::Bits16;
        plan.limits.participants_max = 2048;
        plan.secure_aggregation = None;
    });
}

/// A plan of which every round has seven updates at least.
fn robust(strategy: StrategyPlan) -> RunPlan {
    let mut plan = good();
    plan.strategy = strategy;
    plan.cohort.participants = Participants::Any;
    plan.cohort.quorum = 7;
    plan
}

const KRUM: StrategyPlan = StrategyPlan::Krum {
    byzantine: 2,
    keep: 5,
};
const TRIMMED: StrategyPlan = StrategyPlan::TrimmedMean { trim: 3 };
const GEOMETRIC: StrategyPlan = StrategyPlan::GeometricMedian { passes: 8 };

#[test]
fn robust_plans_at_the_bound_of_their_condition_are_checked_and_read_back() {
    for strategy in [StrategyPlan::Median, TRIMMED, KRUM, GEOMETRIC] {
        let plan = robust(strategy).check().unwrap();
        assert_eq!(
            codec::decode::<RunPlan>(plan.bytes()).unwrap(),
            robust(strategy)
        );
    }
}

/// What a plan with this strategy and quorum is refused for: the field and the sentence.
#[track_caller]
fn weak(strategy: StrategyPlan, quorum: u32) -> (&'static str, String) {
    let mut plan = robust(strategy);
    plan.cohort.quorum = quorum;
    let error = plan.check().unwrap_err();
    (error.field, error.to_string())
}

#[test]
fn a_quorum_too_small_for_the_rule_is_refused_with_the_number_it_needs() {
    for (strategy, quorum, needed, code) in [
        (KRUM, 6, "at least 7", "E_KRUM_N"),
        (TRIMMED, 6, "at least 7", "E_TRIM_N"),
        (
            StrategyPlan::Median,
            2,
            "at least 3",
            "neither is in the middle",
        ),
        (GEOMETRIC, 2, "at least 3", "neither is in the middle"),
    ] {
        let (field, said) = weak(strategy, quorum);
        assert_eq!(field, "cohort.quorum");
        assert!(said.contains(needed) && said.contains(code), "{said}");
    }
}

#[test]
fn nonsense_about_the_strategy_is_refused_by_field() {
    let krum = |byzantine, keep| StrategyPlan::Krum { byzantine, keep };
    for (strategy, expected) in [
        (krum(0, 1), "strategy.byzantine"),
        (krum(u32::MAX, 1), "strategy.byzantine"),
        (krum(2, 0), "strategy.keep"),
        (krum(2, 6), "strategy.keep"),
        (krum(2, u32::MAX), "strategy.keep"),
        (StrategyPlan::TrimmedMean { trim: 0 }, "strategy.trim"),
        (
            StrategyPlan::TrimmedMean { trim: u32::MAX },
            "strategy.trim",
        ),
        (
            StrategyPlan::GeometricMedian { passes: 0 },
            "strategy.passes",
        ),
        (
            StrategyPlan::GeometricMedian { passes: 101 },
            "strategy.passes",
        ),
    ] {
        assert_eq!(weak(strategy, 7).0, expected, "{strategy:?}");
    }
    let mut plan = robust(StrategyPlan::Median);
    plan.limits.participants_max = 1001;
    let field = "limits.participants_max with a robust strategy";
    assert_eq!(plan.check().unwrap_err().field, field);
}

#[test]
fn a_robust_rule_over_sums_is_refused_and_said_what_to_use_instead() {
    for strategy in [
        StrategyPlan::Median,
        StrategyPlan::TrimmedMean { trim: 1 },
        GEOMETRIC,
    ] {
        let mut plan = secured();
        plan.strategy = strategy;
        let said = plan.clone().check().unwrap_err().to_string();
        let start = format!("strategy is {strategy} with secure aggregation: it needs every");
        assert!(said.starts_with(&start), "{said}");
        assert!(
            said.contains("E_KRUM_SECAGG") && said.contains("use \"fedavg\""),
            "{said}"
        );
        plan.secure_aggregation = None;
        let said = plan.check().unwrap_err().to_string();
        assert!(
            said.contains("with ring") && said.contains("leave ring out"),
            "{said}"
        );
    }
}

/// Signs with nothing but a digest.
fn sign(bytes: &[u8]) -> Seal {
    Seal {
        signature: Digest::of(bytes).0.to_vec(),
        certificates: vec![vec![1]],
    }
}

#[derive(Debug)]
struct Eye;

impl Examiner for Eye {
    fn examine(&self, bytes: &[u8], seal: &Seal) -> Result<(), SealFault> {
        let right = *seal == sign(bytes);
        right.then_some(()).ok_or(SealFault::Signature)
    }
}

#[test]
fn a_signed_plan_opens_only_under_its_signature_and_in_its_one_encoding() {
    let plan = good().check().unwrap();
    let signed = SignedPlan::new(&plan, sign);
    assert_eq!(signed.open(&Eye).unwrap(), plan);

    let mut altered = signed.clone();
    altered.plan[40] ^= 1;
    let fault = SignedPlanError::Seal(SealFault::Signature);
    assert_eq!(altered.open(&Eye), Err(fault));

    // The first byte is the length of the run's name; 251 announces a u16 instead, with the same value.
    let mut padded = vec![251, signed.plan[0], 0];
    padded.extend_from_slice(&signed.plan[1..]);
    let mut stretched = SignedPlan {
        seal: Seal::default(),
        plan: padded,
    };
    stretched.seal = sign(&[b"foedus/plan/1", stretched.plan.as_slice()].concat());
    let error = stretched.open(&Eye).unwrap_err();
    assert!(
        matches!(
            error,
            SignedPlanError::Encoding | SignedPlanError::Decode(_)
        ),
        "{error}"
    );

    let mut nonsense = good();
    nonsense.rounds = 0;
    let bytes = codec::encode(&nonsense).unwrap();
    let seal = sign(&[b"foedus/plan/1", bytes.as_slice()].concat());
    let error = SignedPlan { plan: bytes, seal }.open(&Eye).unwrap_err();
    assert!(matches!(error, SignedPlanError::Plan(_)), "{error}");
}

fn protected() -> RunPlan {
    let mut plan = good();
    plan.limits.weight_max = 1;
    plan.limits.participants_max = 1000;
    plan.cohort.participants = Participants::Any;
    plan.participant_privacy = Some(ParticipantPrivacyPlan {
        clip: ClipPlan::Fixed { norm: 1.0 },
        noise_multiplier: 4.51,
        epsilon_max: 8.0,
        delta: 1e-5,
        expected: 100,
        force: false,
    });
    plan
}

#[track_caller]
fn unprotected(
    field: &str,
    code: &str,
    spoil: impl FnOnce(&mut RunPlan, &mut ParticipantPrivacyPlan),
) {
    let mut plan = protected();
    let mut privacy = plan.participant_privacy.clone().unwrap();
    spoil(&mut plan, &mut privacy);
    plan.participant_privacy = Some(privacy);
    let error = plan.check().unwrap_err();
    assert_eq!(error.field, field, "{error}");
    assert!(error.to_string().contains(code), "{error}");
}

#[test]
fn protection_of_participants_refuses_what_its_noise_is_not_made_for() {
    protected().check().unwrap();
    unprotected("limits.weight_max", "E_DP_WEIGHTED", |plan, _| {
        plan.limits.weight_max = 2
    });
    unprotected("run.transfer", "E_DP_EF", |plan, _| {
        plan.encoding = ValueEncoding::Int8
    });
    unprotected("strategy", "E_DP_STRATEGY", |plan, _| {
        plan.strategy = StrategyPlan::Median
    });
    unprotected("cohort.late", "twice", |plan, _| {
        plan.cohort.late = LatePolicy::LaterRound { rounds_max: 1 };
    });
    unprotected(
        "participant_privacy.noise_multiplier",
        "without noise",
        |_, own| {
            own.noise_multiplier = 0.0;
        },
    );
    unprotected("participant_privacy.delta", "one over", |_, own| {
        own.delta = 0.02
    });
    unprotected("participant_privacy.expected", "2 to 1000", |_, own| {
        own.expected = 1
    });
    unprotected(
        "participant_privacy.clip_norm",
        "update_norm_max",
        |_, own| {
            own.clip = ClipPlan::Fixed { norm: 11.0 };
        },
    );
    let adaptive = ClipPlan::Adaptive {
        first_norm: 0.1,
        quantile: 0.5,
        learning_rate: 0.2,
        count_noise: 2.0,
    };
    unprotected("participant_privacy.count_noise", "half of", |_, own| {
        own.clip = adaptive
    });
    let ring = RingPlan {
        bits: RingBits::Bits32,
        value_max: 0.25,
    };
    unprotected(
        "participant_privacy.clip",
        "nobody looks into",
        |plan, own| {
            plan.ring = Some(ring);
            own.clip = ClipPlan::Adaptive {
                first_norm: 0.1,
                quantile: 0.5,
                learning_rate: 0.2,
                count_noise: 5.0,
            };
        },
    );
    // 1000 participants leave 5 bits in 2^16: a step of 1/128, half a step over 2^18 values is a norm of 2.
    unprotected("ring.bits", "rounding", |plan, _| {
        plan.training.learning_rate = 0.1;
        plan.ring = Some(RingPlan {
            bits: RingBits::Bits16,
            ..ring
        });
    });
}

#[test]
fn protection_of_few_participants_is_refused_with_the_size_of_its_noise_unless_it_is_meant() {
    // The figures of algorithms.md 5.7: 13.6 M values; 20 participants at 4.51, 100 at 6.38, 1000 at 9.02; and 1e5 values.
    for (expected, noise_multiplier, values, figure) in [
        (20, 4.51, 13_631_488, 832.0),
        (100, 6.38, 13_631_488, 235.0),
        (1000, 9.02, 13_631_488, 33.0),
        (20, 4.51, 100_000, 71.0),
        (100, 6.38, 100_000, 20.0),
        (1000, 9.02, 100_000, 2.9),
    ] {
        let privacy = ParticipantPrivacyPlan {
            expected,
            noise_multiplier,
            ..protected().participant_privacy.unwrap()
        };
        let found = privacy.noise_norm(values);
        assert!((found / figure - 1.0).abs() < 0.03, "{found} and {figure}");
    }
    let few = |plan: &mut RunPlan, own: &mut ParticipantPrivacyPlan| {
        (plan.adapter_bytes, own.expected) = (4 * 13_631_488, 20);
    };
    unprotected("participant_privacy.expected", "E_DP_FEW_CLIENTS", few);
    unprotected("participant_privacy.expected", "832.565 times", few);
    let mut plan = protected();
    plan.participant_privacy.as_mut().unwrap().expected = 20;
    plan.participant_privacy.as_mut().unwrap().force = true;
    plan.check().unwrap();
}

mod masked;
