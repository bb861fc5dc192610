//! One of four institutions attacks: what averaging comes to, and what the robust strategies keep of it.

use server::config::{RawRule, RawStrategy};
use simulations::run::Outcome;
use simulations::summary::RoundRecord;

use crate::{experiment, run, workplace};

/// A simulation with so many hostile institutions under this strategy, and its rounds.
fn attacked(hostile: usize, strategy: RawStrategy) -> (Outcome, Vec<RoundRecord>) {
    let folder = workplace();
    let mut experiment = experiment(folder.path());
    experiment.hostile = hostile;
    experiment.strategy = strategy;
    let out = folder.path().join("out");
    let outcome = run(experiment, out.clone());
    let lines = std::fs::read_to_string(out.join("rounds.jsonl")).unwrap();
    let rounds = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (outcome, rounds.collect())
}

fn rule(rule: RawRule) -> RawStrategy {
    RawStrategy {
        rule,
        ..RawStrategy::default()
    }
}

#[test]
fn an_attack_within_the_limits_ruins_the_average_and_not_the_robust_results() {
    let (peace, _) = attacked(0, RawStrategy::default());
    let (base, learnt) = (
        peace.summary.mean.loss_base,
        peace.summary.mean.loss_federated,
    );
    let gain = base - learnt;
    assert!(gain > 0.0, "the case says nothing: {base} {learnt}");

    let (poisoned, rounds) = attacked(1, RawStrategy::default());
    let hostile = &poisoned.summary.hostile;
    assert_eq!(hostile.len(), 1);
    let found = poisoned.summary.mean.loss_federated;
    println!("fedavg: {found} with one hostile, {learnt} without, {base} before");
    // Worse than if nobody had trained.
    assert!(found > base, "{found} after an attack on {base}");
    assert!(rounds.iter().all(|round| round.refused.is_empty()));

    let trimmed = RawStrategy {
        trim: Some(1),
        ..rule(RawRule::TrimmedMean)
    };
    for strategy in [
        rule(RawRule::Median),
        trimmed,
        rule(RawRule::GeometricMedian),
    ] {
        let name = strategy.rule;
        let (outcome, rounds) = attacked(1, strategy);
        let found = outcome.summary.mean.loss_federated;
        println!("{name:?}: {found} with one hostile, {learnt} without, {base} before");
        assert!(found < base - gain / 2.0, "{name:?}: {found}");
        for round in rounds {
            assert!(round.rule.is_some());
            let distances = round.participants.iter();
            let furthest = distances.max_by(|one, other| {
                let (one, other) = (one.distance.unwrap(), other.distance.unwrap());
                one.total_cmp(&other)
            });
            assert_eq!(&furthest.unwrap().name, &hostile[0]);
        }
    }
}
