//! The key of a round's noise, over crashes.

use std::time::Duration;

use protocol::message::{Content, TransferKind};
use protocol::plan::*;

use super::*;

fn plan() -> CheckedPlan {
    let duration = Duration::from_secs(60);
    let plan = RunPlan {
        run: "wards".parse().unwrap(),
        base: BasePlan {
            name: "tiny".to_owned(),
            fingerprint: Digest::of(b"base"),
        },
        lora: LoraPlan {
            rank: 2,
            alpha: 4.0,
            dropout: 0.0,
            rslora: false,
            target_modules: vec!["q_proj".to_owned()],
        },
        layout_digest: Digest::of(b"layout"),
        adapter_bytes: 80,
        encoding: ValueEncoding::F32,
        rounds: 3,
        seed: 0,
        training: TrainingPlan {
            local_steps: 1,
            batch_examples: 1,
            accumulation: 1,
            max_tokens: 16,
            learning_rate: 1e-3,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            weight_decay: 0.0,
            clip_norm: 1.0,
        },
        strategy: StrategyPlan::FedAvg,
        ewc: None,
        privacy: None,
        participant_privacy: Some(ParticipantPrivacyPlan {
            clip: ClipPlan::Fixed { norm: 1.0 },
            noise_multiplier: 6.38,
            epsilon_max: 8.0,
            delta: 1e-5,
            expected: 100,
            force: false,
        }),
        cohort: CohortPlan {
            participants: Participants::Any,
            quorum: 2,
            soft_deadline: duration,
            hard_deadline: duration,
            stall_limit: duration,
            join_deadline: duration,
            select: None,
            enough: None,
            late: LatePolicy::Refuse,
        },
        limits: LimitsPlan {
            update_norm_max: 10.0,
            weight_max: 1,
            participants_max: 200,
        },
        ring: None,
        secure_aggregation: None,
    };
    plan.check().unwrap()
}

fn updates(plan: &CheckedPlan, contents: &[&[u8]]) -> Vec<TransferHeader> {
    let header = |content: &&[u8]| {
        let content = Content::of(content);
        TransferHeader::from_server(
            TransferKind::GlobalAdapter,
            Round(1),
            plan.digest(),
            content,
        )
    };
    contents.iter().map(header).collect()
}

fn drawn(noised: &Noised) -> Vec<f32> {
    let mut values = vec![0.0; 100];
    noised.key.add_to(&mut values, 1.0);
    values
}

#[test]
fn noise_of_a_round_is_the_same_after_a_crash_and_another_for_other_updates_or_rounds() {
    let (folder, plan) = (tempfile::tempdir().unwrap(), plan());
    let path = folder.path().join("noise.key");
    let central = || Central::new(&plan, path.clone(), &[]).unwrap();
    let (two, one) = (updates(&plan, &[b"a", b"b"]), updates(&plan, &[b"a"]));
    let before = drawn(&central().noised(Round(1), &two).unwrap());
    // Another process, the updates in another order.
    let again: Vec<_> = two.iter().rev().copied().collect();
    assert_eq!(before, drawn(&central().noised(Round(1), &again).unwrap()));
    assert_ne!(before, drawn(&central().noised(Round(1), &one).unwrap()));
    assert_ne!(before, drawn(&central().noised(Round(2), &two).unwrap()));
    // That of the first round was replaced by the second's, and does not come again.
    assert_ne!(before, drawn(&central().noised(Round(1), &two).unwrap()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    wipe(&path).unwrap();
    wipe(&path).unwrap();
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[test]
fn key_that_was_cut_off_is_named_and_nothing_is_drawn_instead() {
    let (folder, plan) = (tempfile::tempdir().unwrap(), plan());
    let path = folder.path().join("noise.key");
    fs::write(&path, [1; 20]).unwrap();
    let central = Central::new(&plan, path, &[]).unwrap();
    let refused = central.noised(Round(1), &[]).unwrap_err().to_string();
    assert!(refused.contains("noise.key"), "{refused}");
}

#[test]
fn rounds_that_cost_more_than_the_plan_allows_are_refused_with_how_many_fit() {
    // algorithms.md 5.7: 100 rounds with 6.38 are epsilon 8 at delta 1e-5.
    let privacy = plan().participant_privacy.clone().unwrap();
    check_budget(&privacy, 100).unwrap();
    let refused = check_budget(&privacy, 120).unwrap_err();
    assert_eq!(refused.field, "participant_privacy.epsilon_max");
    let said = refused.to_string();
    assert!(
        said.contains("E_DP_BUDGET") && said.contains("100 rounds fit"),
        "{said}"
    );
}
