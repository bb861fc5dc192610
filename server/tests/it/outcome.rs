//! Runs that go well, and those that go well enough.

use std::sync::Arc;
use std::time::Duration;

use aggregation::ewc::{FisherAccumulator, penalty};
use protocol::Round;
use protocol::close::RefusalReason;
use protocol::message::TransferKind;
use protocol::plan::EwcPlace;
use server::EwcSettings;

use crate::scene::{BASE, Scene, layout};
use crate::scripted::constant;

#[tokio::test]
async fn a_run_completes_and_its_adapter_is_the_closed_form() {
    let mut scene = Scene::new(&["north", "south"]);
    scene.config.run.rounds = 2;
    let running = scene.serve();
    let (mut north, mut south) = (
        scene.join("north", &running).await,
        scene.join("south", &running).await,
    );
    // Weighted means: (1 * 0.5 - 3 * 0.25) / 4, then (2 * 1 + 2 * 0.5) / 4.
    let rounds = [(0.5, 1, -0.25, 3, -0.0625), (1.0, 2, 0.5, 2, 0.75)];
    let mut expected = scene.start.clone();
    for (number, (first, weight, second, other, mean)) in (1..).zip(rounds) {
        for (participant, value, weight) in
            [(&mut north, first, weight), (&mut south, second, other)]
        {
            let (round, global) = participant.asked().await;
            assert_eq!((round, &global), (Round(number), &expected));
            participant.deliver(round, &constant(value), weight).await;
        }
        north.is_accepted(Round(number)).await;
        south.is_accepted(Round(number)).await;
        expected
            .values_mut()
            .iter_mut()
            .for_each(|value| *value += mean);
    }
    assert_eq!(north.finished().await, expected);
    assert_eq!(south.finished().await, expected);
    let outcome = running.outcome().await.unwrap();
    assert_eq!(
        (&outcome.adapter, outcome.adapter_sha256.0),
        (&expected, expected.sha256())
    );
    assert_eq!(
        (scene.saved("adapter"), scene.saved("round-0002")),
        (expected.clone(), expected)
    );
    let adapter_bytes = scene.start.values().len() as u64 * 4;
    assert_eq!(
        (outcome.bytes_up, outcome.bytes_down),
        (4 * adapter_bytes, 6 * adapter_bytes)
    );
    // As text: reading a decimal back may cost its last bit.
    let lines = std::fs::read_to_string(scene.config.run.folder().join("rounds.jsonl")).unwrap();
    let written = outcome
        .records
        .iter()
        .map(|record| serde_json::to_string(record).unwrap() + "\n");
    assert_eq!(lines, written.collect::<String>());
    let records = scene.records();
    assert_eq!(records[0].participants[1].weight, 3);
    assert_eq!(records[0].participants[1].train_loss, Some(1.5));
    let norm = 0.75 * (scene.start.values().len() as f64).sqrt();
    assert!((records[1].update_norm - norm).abs() < 1e-9 && records[1].inexactness > Some(0.0));
}

#[tokio::test]
async fn a_client_killed_in_mid_round_does_not_stop_the_round() {
    let mut scene = Scene::new(&["north", "south", "west"]);
    scene.config.cohort.quorum = 2;
    let mut running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let mut south = scene.join("south", &running).await;
    let mut west = scene.join("west", &running).await;
    let (round, _) = west.asked().await;
    drop(west);
    running.saw(&["Disconnected", "west"]).await;
    for participant in [&mut north, &mut south] {
        participant.asked().await;
        participant.deliver(round, &constant(0.5), 10).await;
        participant.is_accepted(round).await;
    }
    north.finished().await;
    south.finished().await;
    let outcome = running.outcome().await.unwrap();
    assert_eq!(outcome.records[0].missing, ["west"]);
    assert_eq!(outcome.records[0].participants.len(), 2);
}

#[tokio::test]
async fn a_client_that_comes_back_delivers_in_the_same_round() {
    let scene = Scene::new(&["north"]);
    let mut running = scene.serve();
    let mut north = scene.join("north", &running).await;
    north.asked().await;
    drop(north);
    running.saw(&["Disconnected", "north"]).await;
    let mut north = scene.join("north", &running).await;
    let (round, _) = north.asked().await;
    north.deliver(round, &constant(0.5), 10).await;
    north.is_accepted(round).await;
    north.finished().await;
    running.outcome().await.unwrap();
}

#[tokio::test]
async fn a_late_update_is_refused_and_named_and_the_run_goes_on() {
    let mut scene = Scene::new(&["north", "south"]);
    scene.config.cohort.quorum = 1;
    scene.config.cohort.soft_deadline = Duration::from_millis(200);
    scene.config.run.rounds = 2;
    let mut running = scene.serve();
    let (mut north, mut south) = (
        scene.join("north", &running).await,
        scene.join("south", &running).await,
    );
    let (first, _) = north.asked().await;
    south.asked().await;
    north.deliver(first, &constant(0.5), 1).await;
    north.is_accepted(first).await;
    south.is_refused(first, RefusalReason::Late).await;
    let (second, _) = south.asked().await;
    assert_eq!(second, Round(2));
    let late = south.header(first, &constant(0.25));
    south.offer(late, 1).await;
    south.is_refused(first, RefusalReason::Late).await;
    running.saw(&["Refused", "south", "Late"]).await;
    north.asked().await;
    south.deliver(second, &constant(0.25), 1).await;
    south.is_accepted(second).await;
    north.deliver(second, &constant(0.25), 1).await;
    north.is_accepted(second).await;
    north.finished().await;
    south.finished().await;
    let outcome = running.outcome().await.unwrap();
    assert_eq!(outcome.records[0].missing, ["south"]);
    assert_eq!(outcome.records[1].participants.len(), 2);
}

#[tokio::test]
async fn the_server_pulls_toward_the_anchor_when_the_plan_says_so() {
    let mut scene = Scene::new(&["north"]);
    let anchor = anchored(&mut scene, EwcPlace::Server);
    let running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let (round, _) = north.asked().await;
    north.deliver(round, &constant(0.5), 1).await;
    north.is_accepted(round).await;
    let merged = north.finished().await;
    let outcome = running.outcome().await.unwrap();
    let record = outcome.records[0].ewc.clone().unwrap();
    assert_eq!((record.place.as_str(), record.lambda), ("server", 0.5));
    let mut plain = scene.start.clone();
    plain
        .values_mut()
        .iter_mut()
        .for_each(|value| *value += 0.5);
    let bound = anchor.bind(&layout(), &BASE).unwrap();
    assert_eq!(record.penalty_before, penalty(&plain, &bound, 0.5));
    assert_eq!(record.penalty, penalty(&merged, &bound, 0.5));
    assert!(record.penalty < 0.999 * record.penalty_before, "{record:?}");
    assert!(merged.norm() < plain.norm());
}

#[tokio::test]
async fn participants_get_the_anchor_when_they_apply_it() {
    let mut scene = Scene::new(&["north"]);
    let anchor = anchored(&mut scene, EwcPlace::Client);
    let running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let (header, bytes) = north.receive().await;
    assert_eq!(
        (header.kind, bytes),
        (TransferKind::Anchor, anchor.to_bytes())
    );
    let (round, _) = north.asked().await;
    north.deliver(round, &constant(0.5), 1).await;
    north.is_accepted(round).await;
    let merged = north.finished().await;
    let outcome = running.outcome().await.unwrap();
    let record = outcome.records[0].ewc.clone().unwrap();
    assert_eq!(record.penalty, record.penalty_before);
    let mut plain = scene.start.clone();
    plain
        .values_mut()
        .iter_mut()
        .for_each(|value| *value += 0.5);
    assert_eq!(merged, plain);
}

fn anchored(scene: &mut Scene, place: EwcPlace) -> aggregation::ewc::Anchor {
    let layout = layout();
    let mut fisher = FisherAccumulator::new(&layout);
    for (index, module) in layout.modules().iter().enumerate() {
        let row = vec![0.5; module.out_features];
        let total = 0.5 * module.out_features as f64;
        let column = vec![total / module.in_features as f64; module.in_features];
        fisher.add(index, &row, &column, total);
    }
    fisher.finish_example(4);
    let anchor = fisher.finish(BASE).unwrap();
    let path = scene.folder.path().join("anchor.safetensors");
    std::fs::write(&path, anchor.to_bytes()).unwrap();
    scene.config.ewc = Some(EwcSettings {
        lambda: 0.5,
        place,
        anchor: path,
    });
    assert_eq!(Arc::strong_count(&layout), 1);
    anchor
}

#[tokio::test]
async fn a_participant_joins_after_two_hundred_rounds_and_is_sent_their_records() {
    let mut scene = Scene::new(&["north", "south"]);
    scene.config.run.rounds = 202;
    scene.config.cohort.quorum = 1;
    scene.config.cohort.join_deadline = Duration::from_millis(100);
    let mut running = scene.serve();
    let mut north = scene.join("north", &running).await;
    for _ in 0..200 {
        let (round, _) = north.asked().await;
        north.deliver(round, &constant(0.0), 1).await;
        north.is_accepted(round).await;
    }
    north.asked().await;
    let mut south = scene.join("south", &running).await;
    let (round, _) = south.asked().await;
    assert_eq!((round.0, south.records.len()), (201, 200));
    south.deliver(round, &constant(0.0), 1).await;
    south.is_accepted(round).await;
    running.stop();
    running.outcome().await.unwrap_err();
}
