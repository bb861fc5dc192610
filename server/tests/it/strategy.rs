//! Runs under robust strategies in which participants send anything that the limits let through.

use std::fs;

use aggregation::Adapter;
use protocol::Round;
use protocol::close::{CloseCode, RefusalReason};
use protocol::plan::StrategyPlan;
use protocol::quic::Closed;
use server::RoundRecord;

use crate::scene::{Running, Scene, in_time};
use crate::scripted::{Scripted, constant};

/// Four who train, and one who sends the opposite, scaled up, and claims to have seen most.
const UPDATES: [(&str, f32, u64); 5] = [
    ("east", 0.5, 10),
    ("hostile", -10.0, 1000),
    ("north", 0.25, 10),
    ("south", 0.75, 10),
    ("west", 0.5, 10),
];

const KRUM: StrategyPlan = StrategyPlan::Krum {
    byzantine: 1,
    keep: 1,
};
const MULTI_KRUM: StrategyPlan = StrategyPlan::Krum {
    byzantine: 1,
    keep: 3,
};
const TRIMMED: StrategyPlan = StrategyPlan::TrimmedMean { trim: 1 };
const GEOMETRIC: StrategyPlan = StrategyPlan::GeometricMedian { passes: 8 };

fn scene(strategy: StrategyPlan) -> Scene {
    let mut scene = Scene::new(&UPDATES.map(|one| one.0));
    scene.config.strategy = strategy;
    // Nobody may claim more examples than a round can read.
    scene.config.training.batch_examples = 1000;
    scene
}

/// Has everybody at these positions join.
async fn join(
    scene: &Scene,
    running: &Running,
    positions: impl IntoIterator<Item = usize>,
) -> Vec<Scripted> {
    let mut joined = Vec::new();
    for position in positions {
        joined.push(scene.join(UPDATES[position].0, running).await);
    }
    joined
}

/// Delivers the participant's update.
async fn deliver(participant: &mut Scripted, round: Round) {
    let name = participant.name.as_str();
    let (_, value, weight) = UPDATES.into_iter().find(|one| one.0 == name).unwrap();
    participant.deliver(round, &constant(value), weight).await;
}

/// One after the other delivers what it is asked for, and it counts.
async fn deliver_all(participants: &mut [Scripted]) {
    for participant in participants {
        let (round, _) = participant.asked().await;
        deliver(participant, round).await;
        participant.is_accepted(round).await;
    }
}

/// Serves a run of one round to everybody, whose updates come in this order.
async fn run(strategy: StrategyPlan, order: [usize; 5]) -> (Scene, Adapter, RoundRecord) {
    let scene = scene(strategy);
    let running = scene.serve();
    let mut participants = join(&scene, &running, order).await;
    deliver_all(&mut participants).await;
    for participant in participants {
        participant.finished().await;
    }
    let outcome = running.outcome().await.unwrap();
    let record = outcome.records[0].clone();
    (scene, Adapter::clone(&outcome.adapter), record)
}

/// How far every value was moved.
fn moved(scene: &Scene, adapter: &Adapter) -> f32 {
    let pairs = adapter.values().iter().zip(scene.start.values());
    let moved: Vec<_> = pairs.map(|(value, start)| value - start).collect();
    let spread = moved.iter().map(|one| (one - moved[0]).abs());
    assert!(spread.fold(0.0, f32::max) < 1e-5, "{moved:?}");
    moved[0]
}

const IN_ORDER: [usize; 5] = [0, 1, 2, 3, 4];

#[tokio::test]
async fn a_hostile_participant_poisons_the_mean_and_no_robust_result() {
    let (scene, poisoned, record) = run(StrategyPlan::FedAvg, IN_ORDER).await;
    let mean = moved(&scene, &poisoned);
    assert!((mean + 9.596).abs() < 1e-3, "{mean}");
    assert!(record.rule.is_none() && record.participants[1].distance.is_none());
    for (strategy, least, most) in [
        (StrategyPlan::Median, 0.5, 0.5),
        // The lowest, which is the hostile one, and the highest are left out.
        (TRIMMED, 0.416_66, 0.416_67),
        (KRUM, 0.5, 0.5),
        // Of the four that tie by their distances the first three by name.
        (MULTI_KRUM, 0.416_66, 0.583_34),
        (GEOMETRIC, 0.4, 0.5),
    ] {
        let (scene, adapter, _) = run(strategy, IN_ORDER).await;
        let found = moved(&scene, &adapter);
        let range = least - 1e-5..=most + 1e-5;
        assert!(range.contains(&found), "{strategy}: {found}");
    }
}

#[tokio::test]
async fn who_arrives_first_changes_no_byte_of_the_adapter() {
    for strategy in [StrategyPlan::Median, TRIMMED, KRUM, MULTI_KRUM, GEOMETRIC] {
        let (_, one, record) = run(strategy, IN_ORDER).await;
        let (_, other, _) = run(strategy, [3, 1, 4, 0, 2]).await;
        assert_eq!(one.sha256(), other.sha256(), "{strategy}");
        assert_eq!(record.adapter_sha256, hex::encode(one.sha256()));
    }
}

#[tokio::test]
async fn the_line_of_a_round_says_who_was_left_out_and_how_far_from_the_result_each_was() {
    let (scene, adapter, record) = run(KRUM, IN_ORDER).await;
    assert_eq!(
        record.rule.as_deref(),
        Some("krum with byzantine 1 and keep 1")
    );
    assert_eq!(record.inexactness, None);
    let left_out = record.participants.iter().filter(|one| one.is_left_out);
    let left_out: Vec<_> = left_out.map(|one| one.name.as_str()).collect();
    assert_eq!(left_out, ["hostile", "north", "south", "west"]);
    // All counted: who is left out was asked, delivered, and was looked at.
    assert_eq!(record.participants.len(), 5);
    assert!(record.refused.is_empty() && record.missing.is_empty());
    let scale = (scene.start.values().len() as f64).sqrt();
    for (one, expected) in record.participants.iter().zip([0.0, 10.5, 0.25, 0.25, 0.0]) {
        let found = one.distance.unwrap() / scale;
        assert!((found - expected).abs() < 1e-6, "{}: {found}", one.name);
    }
    assert!((record.update_norm / scale - 0.5).abs() < 1e-6);
    assert_eq!(scene.saved("adapter"), adapter);
    let line = fs::read_to_string(scene.config.run.folder().join("rounds.jsonl")).unwrap();
    assert_eq!(line.matches("\"left_out\":true").count(), 4);
    let updates = scene.config.run.folder().join("updates");
    assert_eq!(fs::read_dir(updates).unwrap().count(), 0);
}

#[tokio::test]
async fn an_update_over_the_norm_is_refused_at_once_and_has_no_vote() {
    let mut scene = scene(StrategyPlan::Median);
    scene.config.cohort.quorum = 4;
    let running = scene.serve();
    let mut participants = join(&scene, &running, IN_ORDER).await;
    for participant in &mut participants {
        let (round, _) = participant.asked().await;
        if participant.name.as_str() == "hostile" {
            participant.deliver(round, &constant(1e30), 1).await;
            participant.is_refused(round, RefusalReason::OverNorm).await;
        } else {
            deliver(participant, round).await;
            participant.is_accepted(round).await;
        }
    }
    for participant in participants {
        participant.finished().await;
    }
    let outcome = running.outcome().await.unwrap();
    assert_eq!(moved(&scene, &outcome.adapter), 0.5);
    assert_eq!(outcome.records[0].refused[0].name, "hostile");
}

#[tokio::test]
async fn a_server_that_is_started_again_in_mid_round_comes_to_the_same_bytes() {
    for strategy in [StrategyPlan::Median, TRIMMED, KRUM, MULTI_KRUM, GEOMETRIC] {
        let (_, expected, _) = run(strategy, IN_ORDER).await;
        let scene = scene(strategy);
        let mut running = scene.serve();
        let mut participants = join(&scene, &running, IN_ORDER).await;
        for (position, participant) in participants.iter_mut().enumerate() {
            let (round, _) = participant.asked().await;
            if position < 3 {
                deliver(participant, round).await;
                participant.is_accepted(round).await;
            }
        }
        running.stop();
        assert_eq!(running.outcome().await.unwrap_err().exit_code(), 75);
        drop(participants);

        let mut running = scene.serve();
        running.saw(&["Resumed", "accepted: 3"]).await;
        let mut participants = join(&scene, &running, IN_ORDER).await;
        for participant in &mut participants[..3] {
            participant.is_accepted(Round(1)).await;
        }
        deliver_all(&mut participants[3..]).await;
        for participant in participants {
            participant.finished().await;
        }
        let outcome = running.outcome().await.unwrap();
        assert_eq!(outcome.adapter.sha256(), expected.sha256(), "{strategy}");
    }
}

#[tokio::test]
async fn a_round_whose_folder_was_not_written_is_formed_again_from_the_kept_updates() {
    let mut scene = scene(MULTI_KRUM);
    scene.config.run.rounds = 2;
    let running = scene.serve();
    let mut participants = join(&scene, &running, IN_ORDER).await;
    for participant in &mut participants {
        participant.asked().await;
    }
    let folder = scene.config.run.folder().join("round-0001");
    fs::write(&folder, b"no folder").unwrap();
    for participant in &mut participants {
        deliver(participant, Round(1)).await;
    }
    let how = in_time(participants[4].link.connection.closed()).await;
    assert_eq!(how, Closed::ByPeer(CloseCode::ServerStopping));
    let error = running.outcome().await.unwrap_err();
    assert!(error.to_string().contains("round-0001"), "{error}");

    fs::remove_file(&folder).unwrap();
    let mut running = scene.serve();
    running.saw(&["Resumed", "accepted: 0"]).await;
    let formed = scene.saved("round-0001");
    assert_eq!(
        hex::encode(formed.sha256()),
        scene.records()[0].adapter_sha256
    );
    let (_, expected, _) = run(MULTI_KRUM, IN_ORDER).await;
    assert_eq!(formed.sha256(), expected.sha256());
}

#[test]
fn a_quorum_that_could_close_a_round_too_small_for_the_rule_is_refused_before_anybody_connects() {
    let mut scene = scene(KRUM);
    scene.config.cohort.quorum = 4;
    let error = server::Prepared::load(scene.config).unwrap_err();
    assert!(error.to_string().contains("E_KRUM_N"), "{error}");
    assert_eq!(error.exit_code(), 78);
}
