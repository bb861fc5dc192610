//! Runs whose plan asks for differential privacy.

use aggregation::privacy::{Accountant, Budget, SampledGaussian};
use protocol::plan::{PrivacyPlan, PrivacyUnit};

use super::*;
use crate::{
    kept_head::KeptHead,
    privacy::{BudgetError, Ledger, PrivacySettings},
    terms::Objection,
};

const DELTA: f64 = 1e-5;

fn asked(unit: PrivacyUnit) -> PrivacyPlan {
    PrivacyPlan {
        unit,
        clip_norm: 1.0,
        noise_multiplier: 2.0,
        epsilon_max: 20.0,
        delta: DELTA,
    }
}

/// A federation of one whose site allows so much.
fn world(epsilon: f64) -> World {
    let mut world = World::new();
    world.participants = 1;
    world.privacy = Some(asked(PrivacyUnit::Record));
    world.site_privacy = Some(PrivacySettings {
        ledger: world.folder.path().join("north.privacy"),
        budget: Budget::new(epsilon, DELTA).unwrap(),
        group_by: None,
        records_max: 8,
        required: None,
    });
    world
}

fn ledger(world: &World) -> Ledger {
    Ledger::read(&world.folder.path().join("north.privacy")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn private_run_counts_every_round_and_tells_no_weight() {
    let mut world = world(100.0);
    let egress = world.folder.path().join("egress.ledger");
    let file = egress.clone();
    world.adjust = Arc::new(move |settings| settings.ledger = Some(file.clone()));
    let (served, ends) = world.run(&[("north", text(&WORDS))]).await;
    let [Ok(outcome)] = &ends[..] else {
        panic!("{ends:?}")
    };
    let weights: Vec<u64> = outcome.rounds.iter().map(|done| done.weight).collect();
    assert_eq!(weights, [1, 1]);
    let told = served.unwrap();
    assert!(
        told.records
            .iter()
            .all(|round| round.participants[0].weight == 1)
    );
    let ledger = ledger(&world);
    let steps: Vec<_> = ledger
        .entries()
        .iter()
        .map(|entry| (entry.first_step, entry.steps, entry.units, entry.again))
        .collect();
    // Two of five records a step: each joins with probability 0.4.
    assert_eq!(steps, [(0, 3, 5, false), (3, 3, 5, false)]);
    let step = SampledGaussian::new(0.4, 2.0).unwrap();
    let expected = Accountant::default().with(step, 6).cost(DELTA);
    assert_eq!(ledger.accountant(|_| true).unwrap().cost(DELTA), expected);
    assert!(distance(&outcome.adapter, &start_adapter()) > 1e-2);
    // Each update that left is in the egress ledger with what had been spent by then.
    let left = std::fs::read_to_string(egress).unwrap();
    for steps in [3, 6] {
        let so_far = Accountant::default().with(step, steps).cost(DELTA).epsilon;
        assert!(left.contains(&format!("\"epsilon\":{so_far}")), "{left}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_step_of_a_round_finds_all_steps_of_the_round_in_the_ledger() {
    let mut world = world(100.0);
    let path = world.folder.path().join("north.privacy");
    let found = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&found);
    world.observer = Arc::new(move |event: &Event| {
        if let Event::Step { round, .. } = event {
            let ledger = Ledger::read(&path).unwrap();
            let counted: u64 = ledger.entries().iter().map(|entry| entry.steps).sum();
            seen.lock().unwrap().push((round.0, counted));
        }
    });
    let (_, ends) = world.run(&[("north", text(&WORDS))]).await;
    assert!(matches!(&ends[..], [Ok(_)]), "{ends:?}");
    let counted = [(1, 3), (1, 3), (1, 3), (2, 6), (2, 6), (2, 6)];
    assert_eq!(*found.lock().unwrap(), counted);
}

#[tokio::test(flavor = "multi_thread")]
async fn private_run_is_another_one_each_time_but_for_its_seed() {
    let mut adapters = Vec::new();
    for _ in 0..2 {
        let world = world(100.0);
        let (_, ends) = world.run(&[("north", text(&WORDS))]).await;
        let [Ok(outcome)] = &ends[..] else {
            panic!("{ends:?}")
        };
        adapters.push(outcome.adapter.clone());
    }
    assert_ne!(adapters[0], adapters[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_that_costs_too_much_is_declined_before_any_step_and_nothing_is_counted() {
    let site_allows_little = world(0.5);
    let mut plan_allows_little = world(100.0);
    plan_allows_little.privacy.as_mut().unwrap().epsilon_max = 0.5;
    for mut world in [site_allows_little, plan_allows_little] {
        let stepped = Arc::new(Mutex::new(false));
        let seen = Arc::clone(&stepped);
        world.observer = Arc::new(move |event: &Event| {
            *seen.lock().unwrap() |= matches!(event, Event::Step { .. });
        });
        let (served, ends) = world.run(&[("north", text(&WORDS))]).await;
        let [Err(error @ ClientError::Budget(_))] = &ends[..] else {
            panic!("{ends:?}")
        };
        assert!(error.to_string().contains("E_DP_BUDGET"), "{error}");
        assert!(!error.is_temporary());
        assert!(served.is_err());
        assert!(!*stepped.lock().unwrap());
        assert_eq!(ledger(&world), Ledger::default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn budget_of_earlier_runs_ends_the_next_one() {
    let world = world(3.5);
    let (_, first) = world.run(&[("north", text(&WORDS))]).await;
    assert!(matches!(&first[..], [Ok(_)]), "{first:?}");
    std::fs::remove_dir_all(world.folder.path().join("runs")).unwrap();
    let mut again = world;
    again.privacy.as_mut().unwrap().epsilon_max = 19.0;
    let (_, second) = again.run(&[("north", text(&WORDS))]).await;
    assert!(
        matches!(&second[..], [Err(ClientError::Budget(_))]),
        "{second:?}"
    );
    assert_eq!(ledger(&again).entries().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_whose_steps_were_taken_out_of_the_ledger_is_declined_when_it_comes_again() {
    let mut world = world(100.0);
    let egress = world.folder.path().join("egress.ledger");
    world.adjust = Arc::new(move |settings| settings.ledger = Some(egress.clone()));
    let counted = world.folder.path().join("north.privacy");
    let runs = world.folder.path().join("runs");
    let (_, first) = world.run(&[("north", text(&WORDS))]).await;
    assert!(matches!(&first[..], [Ok(_)]), "{first:?}");
    let whole = std::fs::read_to_string(&counted).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    // Taken away, and put back from before the second round, each together with its head.
    let head = KeptHead::path(&counted);
    let kept = std::fs::read(&head).unwrap();
    std::fs::remove_file(&head).unwrap();
    for older in [None, Some(lines[..2].join("\n") + "\n")] {
        match older {
            None => std::fs::remove_file(&counted).unwrap(),
            Some(older) => std::fs::write(&counted, older).unwrap(),
        }
        std::fs::remove_dir_all(&runs).unwrap();
        let (_, ends) = world.run(&[("north", text(&WORDS))]).await;
        let [Err(error @ ClientError::Budget(BudgetError::Forgotten { .. }))] = &ends[..] else {
            panic!("{ends:?}")
        };
        assert!(error.to_string().contains("until round 2"), "{error}");
    }
    std::fs::write(&counted, whole).unwrap();
    std::fs::write(&head, kept).unwrap();
    std::fs::remove_dir_all(&runs).unwrap();
    let (_, ends) = world.run(&[("north", text(&WORDS))]).await;
    let was_forgotten = matches!(
        &ends[..],
        [Err(ClientError::Budget(BudgetError::Forgotten { .. }))]
    );
    assert!(!was_forgotten, "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_without_privacy_is_declined_where_privacy_is_required_or_was_counted() {
    let mut world = world(100.0);
    let required = |world: &mut World, required| {
        world.site_privacy.as_mut().unwrap().required = required;
        let _ = std::fs::remove_dir_all(world.folder.path().join("runs"));
    };
    let private = world.privacy.take();
    required(&mut world, Some(true));
    let (served, ends) = world.run(&[("north", text(&WORDS))]).await;
    assert!(
        matches!(
            &ends[..],
            [Err(ClientError::Declined(Objection::Unprotected))]
        ),
        "{ends:?}"
    );
    assert!(served.is_err());
    // Undecided: until something is counted.
    for (plan, is_declined) in [(None, false), (private, false), (None, true)] {
        world.privacy = plan;
        required(&mut world, None);
        let (_, ends) = world.run(&[("north", text(&WORDS))]).await;
        let declined = matches!(
            &ends[..],
            [Err(ClientError::Declined(Objection::Unprotected))]
        );
        assert_eq!(declined, is_declined, "{ends:?}");
        assert!(declined || matches!(&ends[..], [Ok(_)]), "{ends:?}");
    }
    required(&mut world, Some(false));
    let (_, ends) = world.run(&[("north", text(&WORDS))]).await;
    assert!(matches!(&ends[..], [Ok(_)]), "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_with_privacy_is_declined_with_its_reason() {
    let mut told = world(100.0);
    told.shared = true;
    let mut uncounted = world(100.0);
    uncounted.site_privacy = None;
    let mut ungrouped = world(100.0);
    ungrouped.privacy = Some(asked(PrivacyUnit::Group));
    for (world, reason) in [
        (told, "E_DP_METRICS"),
        (uncounted, "keeps no privacy ledger"),
        (ungrouped, "group_by"),
    ] {
        let (_, ends) = world.run(&[("north", text(&WORDS))]).await;
        let [Err(error @ ClientError::Declined(objection))] = &ends[..] else {
            panic!("{ends:?}")
        };
        assert!(matches!(
            objection,
            Objection::PlainMetrics | Objection::NoLedger | Objection::NoGroups
        ));
        assert!(error.to_string().contains(reason), "{error}");
    }
}
