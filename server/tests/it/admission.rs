//! Updates that must not count: each is refused by name, and the round goes on with the others.

use protocol::close::{CloseCode, RefusalReason};
use protocol::message::{ToClient, ToServer, TransferHeader};
use protocol::quic::{Closed, TransferFault};
use protocol::{Digest, Round};

use crate::scene::{Running, Scene, in_time, layout};
use crate::scripted::{Scripted, constant};

const FIRST: Round = Round(1);

/// A run of one round in which `honest` alone is enough.
async fn scene(other: &str) -> (Scene, Running, Scripted, Scripted) {
    let mut scene = Scene::new(&["honest", other]);
    scene.config.cohort.quorum = 1;
    scene.config.limits.update_norm_max = 20.0;
    scene.config.limits.weight_max = 50;
    let running = scene.serve();
    let mut honest = scene.join("honest", &running).await;
    let mut bad = scene.join(other, &running).await;
    honest.asked().await;
    bad.asked().await;
    (scene, running, honest, bad)
}

/// The honest participant delivers; the round must count it and name the other with this reason.
async fn goes_on(
    scene: &Scene,
    mut running: Running,
    (mut honest, mallory): (Scripted, Scripted),
    label: &str,
    detail: Option<&str>,
) {
    running.saw(&["Refused", "mallory"]).await;
    honest.deliver(FIRST, &constant(0.5), 5).await;
    honest.is_accepted(FIRST).await;
    honest.finished().await;
    // A refused update is no reason to withhold what the others made.
    let adapter = mallory.finished().await;
    let outcome = running.outcome().await.unwrap();
    assert_eq!(adapter, outcome.adapter);
    let mut expected = scene.start.clone();
    expected
        .values_mut()
        .iter_mut()
        .for_each(|value| *value += 0.5);
    assert_eq!(outcome.adapter, expected);
    let record = &scene.records()[0];
    assert_eq!(record.participants[0].name, "honest");
    let refused: Vec<_> = record
        .refused
        .iter()
        .map(|refused| (refused.name.as_str(), refused.reason.as_str()))
        .collect();
    assert_eq!(refused, [("mallory", label)]);
    if let Some(detail) = detail {
        let found = record.refused[0].detail.as_deref().unwrap_or_default();
        assert!(found.contains(detail), "{found}");
    }
}

#[tokio::test]
async fn a_nan_is_refused_and_its_tensor_named() {
    let (scene, running, honest, mut mallory) = scene("mallory").await;
    let mut bytes = constant(0.1);
    let a_of_v = layout().a_range(1).start;
    bytes[4 * a_of_v..4 * a_of_v + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    mallory.deliver(FIRST, &bytes, 1).await;
    mallory.is_refused(FIRST, RefusalReason::NotFinite).await;
    goes_on(
        &scene,
        running,
        (honest, mallory),
        "not-finite",
        Some("lora_A of model.layers.0.self_attn.v_proj"),
    )
    .await;
}

#[tokio::test]
async fn an_update_over_the_norm_bound_is_refused() {
    let (scene, running, honest, mut mallory) = scene("mallory").await;
    mallory.deliver(FIRST, &constant(100.0), 1).await;
    mallory.is_refused(FIRST, RefusalReason::OverNorm).await;
    goes_on(
        &scene,
        running,
        (honest, mallory),
        "over-norm",
        Some("the run plan allows 20"),
    )
    .await;
}

#[tokio::test]
async fn an_update_of_another_layout_or_size_is_refused_before_its_bytes_are_sent() {
    for bytes in [
        constant(0.1)[4..].to_vec(),
        [constant(0.1), constant(0.1)].concat(),
    ] {
        let (scene, running, honest, mut mallory) = scene("mallory").await;
        let header = mallory.header(FIRST, &bytes);
        mallory.offer(header, 1).await;
        mallory.is_refused(FIRST, RefusalReason::WrongSize).await;
        goes_on(&scene, running, (honest, mallory), "wrong-size", None).await;
    }
}

#[tokio::test]
async fn a_weight_of_zero_or_over_the_limit_is_refused() {
    let cases = [
        (0, RefusalReason::ZeroWeight, "zero-weight"),
        (51, RefusalReason::OverWeight, "over-weight"),
    ];
    for (weight, reason, label) in cases {
        let (scene, running, honest, mut mallory) = scene("mallory").await;
        let header = mallory.header(FIRST, &constant(0.1));
        mallory.offer(header, weight).await;
        mallory.is_refused(FIRST, reason).await;
        goes_on(&scene, running, (honest, mallory), label, None).await;
    }
}

#[tokio::test]
async fn bytes_other_than_the_announced_ones_are_refused() {
    let (scene, running, honest, mut mallory) = scene("mallory").await;
    let header = mallory.header(FIRST, &constant(0.1));
    mallory.offer(header, 1).await;
    assert_eq!(
        mallory.hear().await,
        ToClient::Deliver {
            transfer: header.id,
            offset: 0
        }
    );
    mallory.send(&header, &constant(0.2)).await.unwrap();
    mallory.is_refused(FIRST, RefusalReason::WrongDigest).await;
    goes_on(&scene, running, (honest, mallory), "wrong-digest", None).await;
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_are_turned_away_unread() {
    let (scene, running, honest, mut mallory) = scene("mallory").await;
    let header = mallory.header(FIRST, &constant(0.1));
    let sent = mallory.send(&header, &constant(0.1)).await;
    if let Err(error) = sent {
        assert_eq!(error.fault, TransferFault::Refused(CloseCode::BadTransfer));
    }
    mallory
        .is_refused(FIRST, RefusalReason::WrongTransfer)
        .await;
    goes_on(&scene, running, (honest, mallory), "wrong-transfer", None).await;
}

#[tokio::test]
async fn a_second_update_in_a_round_is_refused_and_the_first_one_counts() {
    let (scene, mut running, mut honest, mut eager) = scene("eager").await;
    eager.deliver(FIRST, &constant(0.5), 5).await;
    eager.is_accepted(FIRST).await;
    let second = eager.header(FIRST, &constant(0.25));
    eager.offer(second, 5).await;
    eager.is_refused(FIRST, RefusalReason::Duplicate).await;
    running.saw(&["Refused", "eager", "Duplicate"]).await;
    honest.deliver(FIRST, &constant(-0.25), 10).await;
    honest.is_accepted(FIRST).await;
    let merged = honest.finished().await;
    eager.finished().await;
    running.outcome().await.unwrap();
    // (5 * 0.5 - 10 * 0.25) / 15 = 0.
    assert_eq!(merged, scene.start);
}

#[tokio::test]
async fn an_update_for_another_round_or_plan_is_refused_and_the_right_one_still_counts() {
    let (_scene, running, mut honest, mut confused) = scene("confused").await;
    let ahead = confused.header(Round(2), &constant(0.5));
    confused.offer(ahead, 1).await;
    confused
        .is_refused(Round(2), RefusalReason::WrongRound)
        .await;
    let content = ahead.content();
    let foreign = TransferHeader::update(&confused.name, FIRST, Digest([9; 32]), content);
    confused.offer(foreign, 1).await;
    confused.is_refused(FIRST, RefusalReason::WrongPlan).await;
    for participant in [&mut confused, &mut honest] {
        participant.deliver(FIRST, &constant(0.5), 1).await;
        participant.is_accepted(FIRST).await;
    }
    honest.finished().await;
    confused.finished().await;
    let outcome = running.outcome().await.unwrap();
    assert_eq!(outcome.records[0].participants.len(), 2);
}

#[tokio::test]
async fn one_that_breaks_the_protocol_is_cut_off_by_name() {
    let (_scene, mut running, mut honest, mut rude) = scene("rude").await;
    let plan = Digest([3; 32]);
    rude.say(&ToServer::Decline {
        plan,
        reason: "no".into(),
    })
    .await;
    let how = in_time(rude.link.connection.closed()).await;
    assert_eq!(how, Closed::ByPeer(CloseCode::WrongPlan));
    running
        .saw(&["Closed", "rude", "WrongPlan", "another run plan"])
        .await;
    honest.deliver(FIRST, &constant(0.5), 1).await;
    honest.is_accepted(FIRST).await;
    honest.finished().await;
    assert_eq!(
        running.outcome().await.unwrap().records[0].missing,
        ["rude"]
    );
}
