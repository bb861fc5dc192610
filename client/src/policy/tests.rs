//! The example file, every rule on its line, and what the server may hear.

use std::time::Duration;

use protocol::plan::{
    BasePlan, ClipPlan, CohortPlan, Download, LatePolicy, LimitsPlan, LoraPlan,
    ParticipantPrivacyPlan, Participants, PrivacyPlan, PrivacyUnit, Schedule,
    SecureAggregationPlan, ServerTrust, StrategyPlan, TrainingPlan, ValueEncoding,
};

use super::*;

pub(super) const EXAMPLE: &str = include_str!("../../../deploy/policy.example.toml");

/// A policy that allows [`plan`] and no more in any respect.
pub(super) const EXACT: &str = r#"[server]
certificate = "0101010101010101010101010101010101010101010101010101010101010101"
[model]
bases = ["0202020202020202020202020202020202020202020202020202020202020202"]
target_modules = ["q_proj", "v_proj"]
rank_max = 8
[training]
rounds_max = 3
local_steps_max = 10
[cohort]
min = 2
strategies = ["fedavg", "krum"]
[egress]
round_max = "2368B"
day_max = "3368B"
metrics = ["weight"]
[secure_aggregation]
required = false
[hours]
time_zone = "UTC"
open = ["wed 08:00-18:00"]
"#;

fn parse(text: &str) -> Result<SitePolicy, ConfigError> {
    SitePolicy::parse(text, Path::new("policy.toml"))
}

pub(crate) fn plan() -> RunPlan {
    let minute = Duration::from_secs(60);
    RunPlan {
        run: "trial".parse().unwrap(),
        base: BasePlan {
            name: "tiny".to_owned(),
            fingerprint: Digest([2; 32]),
        },
        lora: LoraPlan {
            rank: 8,
            alpha: 16.0,
            dropout: 0.0,
            rslora: false,
            target_modules: vec!["q_proj".to_owned(), "v_proj".to_owned()],
        },
        layout_digest: Digest([3; 32]),
        adapter_bytes: 2048,
        encoding: ValueEncoding::Bf16,
        download: Download::Whole,
        rounds: 3,
        seed: 0,
        training: TrainingPlan {
            local_steps: 10,
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
        ring: None,
        secure_aggregation: None,
        cohort: CohortPlan {
            participants: Participants::Any,
            quorum: 2,
            soft_deadline: minute,
            hard_deadline: minute,
            stall_limit: minute,
            join_deadline: minute,
            select: None,
            enough: None,
            late: LatePolicy::Refuse,
        },
        limits: LimitsPlan {
            update_norm_max: 1.0,
            weight_max: 100,
            participants_max: 4,
        },
    }
}

/// A Wednesday at noon, with 1000 bytes sent.
pub(super) fn noon() -> Circumstances {
    Circumstances {
        server_certificate: Digest([1; 32]),
        now: "2026-11-25T12:00:00Z".parse().unwrap(),
        day_bytes: 1000,
    }
}

/// The line of the policy on which a key stands.
fn line_of(key: &str) -> usize {
    let name = key.rsplit('.').next().unwrap();
    let section = format!("[{}]", key.split('.').next().unwrap());
    let from = EXACT.lines().position(|line| line == section).unwrap();
    let within = EXACT
        .lines()
        .skip(from)
        .position(|line| line.starts_with(&format!("{name} =")))
        .unwrap_or(0);
    from + within + 1
}

#[test]
fn example_file_is_complete_and_refuses_what_this_version_cannot_protect() {
    let policy = parse(EXAMPLE).unwrap();
    let refusal = policy.check(&plan(), &noon()).unwrap_err();
    let keys: Vec<_> = refusal
        .violations()
        .iter()
        .map(|violation| violation.key)
        .collect();
    for key in [
        "secure_aggregation.required",
        "privacy.epsilon_run_max",
        "privacy.delta_lifetime_max",
    ] {
        assert!(keys.contains(&key), "{refusal}");
    }
}

#[test]
fn plan_at_every_limit_is_allowed() {
    assert_eq!(parse(EXACT).unwrap().check(&plan(), &noon()), Ok(()));
}

/// A change of plan or circumstances that breaks one rule.
type Breach = fn(&mut RunPlan, &mut Circumstances);

/// Each rule's key, what breaks it alone, and words of the refusal.
const BREACHES: [(&str, Breach, &str); 12] = [
    (
        "server.certificate",
        |_, found| found.server_certificate = Digest([9; 32]),
        "0909",
    ),
    (
        "model.bases",
        |plan, _| plan.base.fingerprint = Digest([9; 32]),
        "0909",
    ),
    (
        "model.target_modules",
        |plan, _| plan.lora.target_modules.push("down_proj".to_owned()),
        "down_proj",
    ),
    ("model.rank_max", |plan, _| plan.lora.rank = 9, "9"),
    ("training.rounds_max", |plan, _| plan.rounds = 4, "4"),
    (
        "training.local_steps_max",
        |plan, _| {
            plan.training.local_steps = 11;
            plan.adapter_bytes -= 64;
        },
        "11",
    ),
    (
        "cohort.min",
        |plan, _| plan.cohort.quorum = 1,
        "as few as 1",
    ),
    (
        "cohort.strategies",
        |plan, _| plan.strategy = StrategyPlan::TrimmedMean { trim: 1 },
        "trimmed-mean",
    ),
    (
        "egress.round_max",
        |plan, found| {
            plan.adapter_bytes += 4;
            found.day_bytes = 0;
        },
        "2.3 KiB",
    ),
    (
        "egress.day_max",
        |_, found| found.day_bytes += 1,
        "24 hours",
    ),
    (
        "hours",
        |_, found| found.now = "2026-11-25T18:00:00Z".parse().unwrap(),
        "wed 18:00",
    ),
    (
        "hours",
        |_, found| found.now = "2026-11-26T12:00:00Z".parse().unwrap(),
        "thu 12:00",
    ),
];

#[test]
fn each_rule_that_a_plan_breaks_is_named_with_its_line() {
    let policy = parse(EXACT).unwrap();
    for (key, change, words) in BREACHES {
        let (mut plan, mut found) = (plan(), noon());
        change(&mut plan, &mut found);
        let refusal = policy.check(&plan, &found).unwrap_err();
        let [violation] = refusal.violations() else {
            panic!("{key}: {refusal}")
        };
        assert_eq!(
            (violation.key, violation.line),
            (key, line_of(key)),
            "{refusal}"
        );
        let text = refusal.to_string();
        assert!(
            text.starts_with(&format!("policy.toml:{}: {key}", violation.line)),
            "{text}"
        );
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn protections_that_a_plan_lacks_are_violations() {
    let bounds = "[privacy]\nepsilon_run_max = 8.0\ndelta_run_max = 1e-5\nepsilon_lifetime_max = 8.0\ndelta_lifetime_max = 1e-5\n";
    for (text, keys) in [
        (
            EXACT.replace("required = false", "required = true"),
            vec!["secure_aggregation.required"],
        ),
        (EXACT.replace("[\"weight\"]", "[]"), vec!["egress.metrics"]),
        (
            format!("{EXACT}{bounds}"),
            vec![
                "privacy.epsilon_run_max",
                "privacy.delta_run_max",
                "privacy.epsilon_lifetime_max",
                "privacy.delta_lifetime_max",
            ],
        ),
        (
            format!("{EXACT}[participant_privacy]\nepsilon_run_max = 8.0\ndelta_run_max = 1e-5\n"),
            vec![
                "participant_privacy.epsilon_run_max",
                "participant_privacy.delta_run_max",
            ],
        ),
    ] {
        let refusal = parse(&text).unwrap().check(&plan(), &noon()).unwrap_err();
        let found: Vec<_> = refusal
            .violations()
            .iter()
            .map(|violation| violation.key)
            .collect();
        assert_eq!(found, keys);
        assert!(!refusal.is_temporary());
    }
}

#[test]
fn private_plan_is_compared_with_the_bounds_of_a_run_and_of_the_lifetime() {
    let bounds = "[privacy]\nepsilon_run_max = 8.0\ndelta_run_max = 1e-5\nepsilon_lifetime_max = 4.0\ndelta_lifetime_max = 1e-4\n";
    let text = format!("{EXACT}{bounds}").replace("[\"weight\"]", "[]");
    let policy = parse(&text).unwrap();
    let private = |epsilon_max, delta| {
        let privacy = PrivacyPlan {
            unit: PrivacyUnit::Record,
            clip_norm: 1.0,
            noise_multiplier: 1.0,
            epsilon_max,
            delta,
        };
        let mut plan = RunPlan {
            privacy: Some(privacy),
            ..plan()
        };
        plan.limits.weight_max = 1;
        plan
    };
    assert_eq!(policy.check(&private(4.0, 1e-5), &noon()), Ok(()));
    for (epsilon, delta, keys) in [
        (4.5, 1e-5, vec!["privacy.epsilon_lifetime_max"]),
        (
            9.0,
            1e-5,
            vec!["privacy.epsilon_run_max", "privacy.epsilon_lifetime_max"],
        ),
        (4.0, 2e-5, vec!["privacy.delta_run_max"]),
    ] {
        let refusal = policy.check(&private(epsilon, delta), &noon()).unwrap_err();
        let found: Vec<_> = refusal
            .violations()
            .iter()
            .map(|violation| violation.key)
            .collect();
        assert_eq!(found, keys);
    }
}

#[test]
fn plan_that_protects_another_unit_than_the_policy_wants_is_refused_by_its_line() {
    let bounds = "[privacy]\nepsilon_run_max = 8.0\ndelta_run_max = 1e-5\nepsilon_lifetime_max = 8.0\ndelta_lifetime_max = 1e-5\n";
    let with = |unit: &str| {
        let text = format!("{EXACT}{bounds}unit = {unit:?}\n").replace("[\"weight\"]", "[]");
        (text.lines().count(), parse(&text))
    };
    let private = |unit| {
        let mut plan = plan();
        plan.limits.weight_max = 1;
        plan.privacy = Some(PrivacyPlan {
            unit,
            clip_norm: 1.0,
            noise_multiplier: 1.0,
            epsilon_max: 4.0,
            delta: 1e-5,
        });
        plan
    };
    let (record, group) = (PrivacyUnit::Record, PrivacyUnit::Group);
    for (name, wanted, other) in [("record", record, group), ("group", group, record)] {
        let (line, policy) = with(name);
        let policy = policy.unwrap();
        assert_eq!(policy.check(&private(wanted), &noon()), Ok(()));
        let refusal = policy.check(&private(other), &noon()).unwrap_err();
        let [violation] = refusal.violations() else {
            panic!("{refusal}")
        };
        assert_eq!((violation.key, violation.line), ("privacy.unit", line));
        assert_eq!(policy.wants_groups(), (wanted == group).then_some(line));
    }
    assert!(with("patient").1.is_err());
}

#[test]
fn a_plan_that_hides_participants_is_compared_with_the_bounds_of_a_run() {
    let bounds = "[participant_privacy]\nepsilon_run_max = 8.0\ndelta_run_max = 1e-5\n";
    let policy = parse(&format!("{EXACT}{bounds}")).unwrap();
    let hiding = |epsilon_max, delta| RunPlan {
        participant_privacy: Some(ParticipantPrivacyPlan {
            clip: ClipPlan::Fixed { norm: 1.0 },
            noise_multiplier: 1.0,
            epsilon_max,
            delta,
            expected: 100,
            force: false,
        }),
        ..plan()
    };
    assert_eq!(policy.check(&hiding(8.0, 1e-5), &noon()), Ok(()));
    for (epsilon, delta, key) in [
        (8.5, 1e-5, "participant_privacy.epsilon_run_max"),
        (8.0, 2e-5, "participant_privacy.delta_run_max"),
    ] {
        let refusal = policy.check(&hiding(epsilon, delta), &noon()).unwrap_err();
        let [violation] = refusal.violations() else {
            panic!("{refusal}")
        };
        assert_eq!(violation.key, key);
    }
}

#[test]
fn all_violations_are_named_at_once_and_the_server_hears_no_value() {
    let (mut plan, mut found) = (plan(), noon());
    (plan.lora.rank, plan.rounds, found.day_bytes) = (64, 77, 1 << 40);
    let text = EXACT.replace("[server]", "[server]\ntell_violations = true");
    let open = parse(&text).unwrap().check(&plan, &found).unwrap_err();
    assert_eq!(open.violations().len(), 3, "{open}");
    assert_eq!(open.to_string().lines().count(), 4);
    let told = open.for_server().to_string();
    assert_eq!(
        told,
        "this site's policy does not allow it: model.rank_max, training.rounds_max, egress.day_max"
    );
    let closed = parse(EXACT)
        .unwrap()
        .check(&plan, &found)
        .unwrap_err()
        .for_server()
        .to_string();
    assert_eq!(closed, "this site's policy does not allow it");
}

#[test]
fn waiting_helps_against_the_hour_and_a_full_day_and_nothing_else() {
    let policy = parse(EXACT).unwrap();
    let night = Circumstances {
        now: "2026-11-25T23:00:00Z".parse().unwrap(),
        ..noon()
    };
    assert!(policy.check(&plan(), &night).unwrap_err().is_temporary());
    let full = Circumstances {
        day_bytes: 1 << 30,
        ..noon()
    };
    assert!(policy.check(&plan(), &full).unwrap_err().is_temporary());
    let large = RunPlan {
        rounds: 4,
        ..plan()
    };
    assert!(!policy.check(&large, &night).unwrap_err().is_temporary());
}

#[test]
fn transfers_are_counted_against_the_round_and_the_day() {
    let policy = parse(EXACT).unwrap();
    assert_eq!(policy.check_transfer(1024, 1344, &noon()), Ok(()));
    let keys = |refusal: Refusal| -> Vec<_> {
        refusal
            .violations()
            .iter()
            .map(|violation| violation.key)
            .collect()
    };
    assert_eq!(
        keys(policy.check_transfer(1024, 1345, &noon()).unwrap_err()),
        ["egress.round_max"]
    );
    assert_eq!(
        keys(policy.check_transfer(2369, 0, &noon()).unwrap_err()),
        ["egress.round_max", "egress.day_max"]
    );
}

#[test]
fn mistakes_in_the_file_are_named_with_line_and_column() {
    let cases = [
        (
            EXACT.replace("rank_max = 8", "rank_max = 0"),
            "line 6, column 12",
        ),
        (
            EXACT.replace("rank_max = 8", "rank_mux = 8"),
            "line 6, column 1",
        ),
        (EXACT.replace("\"2368B\"", "2368"), "line 14, column 13"),
        (EXACT.replace("[\"weight\"]", "[\"losses\"]"), "losses"),
        (EXACT.replace("\"UTC\"", "\"Mars/Olympus\""), "Mars/Olympus"),
        (
            EXACT.replace("wed 08:00-18:00", "wed 8-18"),
            "mon-fri 19:00-06:00",
        ),
        (EXACT.replace("0202", "02"), "line 4, column 9"),
        (
            EXACT.replace("\"krum\"", "\"crumb\""),
            "trimmed-mean, krum, geometric-median",
        ),
        (EXACT.replace("min = 2", ""), "missing field `min`"),
        (
            format!("{EXACT}[privacy]\nepsilon_run_max = -1.0\n"),
            "-1 is no epsilon",
        ),
    ];
    for (text, expected) in cases {
        let refused = parse(&text).unwrap_err().to_string();
        assert!(refused.starts_with("policy.toml line "), "{refused}");
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn masks_that_trust_the_server_are_not_those_that_a_site_requires() {
    let policy = parse(&EXACT.replace("required = false", "required = true")).unwrap();
    for (trust, is_refused) in [
        (ServerTrust::Malicious, false),
        (ServerTrust::HonestButCurious, true),
    ] {
        let cohort_min = 3;
        let masked = RunPlan {
            secure_aggregation: Some(SecureAggregationPlan { cohort_min, trust }),
            ..plan()
        };
        // Masks need more bytes than the policy has room for: that is another line.
        let refusal = policy.check(&masked, &noon()).unwrap_err();
        let mut keys = refusal.violations().iter().map(|found| found.key);
        assert_eq!(
            keys.any(|key| key == "secure_aggregation.required"),
            is_refused,
            "{refusal}"
        );
    }
}
