//! A server that ended in mid-run and is started again: what it had said still holds.

use std::fs;

use protocol::close::CloseCode;
use protocol::quic::Closed;
use server::ServerError;

use crate::scene::{Running, Scene, in_time};
use crate::scripted::constant;

/// Serves again, and waits until the earlier state was found.
async fn again(scene: &Scene, accepted: usize) -> Running {
    let mut running = scene.serve();
    let accepted = format!("accepted: {accepted}");
    running.saw(&["Resumed", &accepted]).await;
    running
}

/// The mean of the two updates is 1.0 everywhere.
fn is_whole(scene: &Scene, folder: &str) {
    let found = scene.saved(folder);
    for (found, start) in found.values().iter().zip(scene.start.values()) {
        assert!((found - start - 1.0).abs() < 1e-6, "{found} from {start}");
    }
    let records = scene.records();
    assert_eq!(records.len(), 1);
    let names: Vec<_> = records[0]
        .participants
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["north", "south"]);
}

#[tokio::test]
async fn an_update_that_was_accepted_counts_after_a_restart_and_is_not_asked_for_again() {
    let scene = Scene::new(&["north", "south"]);
    let mut running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let mut south = scene.join("south", &running).await;
    let (round, _) = north.asked().await;
    south.asked().await;
    north.deliver(round, &constant(0.5), 1).await;
    north.is_accepted(round).await;
    running.stop();
    assert_eq!(running.outcome().await.unwrap_err().exit_code(), 75);

    let running = again(&scene, 1).await;
    let mut north = scene.join("north", &running).await;
    north.is_accepted(round).await;
    let mut south = scene.join("south", &running).await;
    assert_eq!(south.asked().await.0, round);
    south.deliver(round, &constant(1.5), 1).await;
    south.is_accepted(round).await;
    north.finished().await;
    south.finished().await;
    let outcome = running.outcome().await.unwrap();
    assert_eq!(outcome.records.len(), 1);
    is_whole(&scene, "adapter");

    let finished = scene.serve().outcome().await.unwrap_err();
    assert!(
        matches!(finished, ServerError::RunExists { .. }),
        "{finished}"
    );
    assert_eq!(finished.exit_code(), 78);
}

#[tokio::test]
async fn a_disk_that_takes_no_update_stops_the_server_and_loses_nothing() {
    let scene = Scene::new(&["north", "south"]);
    let running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let mut south = scene.join("south", &running).await;
    let (round, _) = north.asked().await;
    south.asked().await;
    north.deliver(round, &constant(0.5), 1).await;
    north.is_accepted(round).await;
    let (updates, aside) = (
        scene.config.run.folder().join("updates"),
        scene.config.run.folder().join("aside"),
    );
    fs::rename(&updates, &aside).unwrap();
    fs::write(&updates, b"no folder").unwrap();
    south.deliver(round, &constant(1.5), 1).await;
    let how = in_time(south.link.connection.closed()).await;
    assert_eq!(
        how,
        Closed::ByPeer(CloseCode::ServerStopping),
        "come back later"
    );
    let error = running.outcome().await.unwrap_err();
    assert!(matches!(error, ServerError::Write { .. }), "{error}");
    assert!(error.to_string().contains("updates"), "{error}");

    fs::remove_file(&updates).unwrap();
    fs::rename(&aside, &updates).unwrap();
    let running = again(&scene, 1).await;
    let mut north = scene.join("north", &running).await;
    north.is_accepted(round).await;
    let mut south = scene.join("south", &running).await;
    south.asked().await;
    south.deliver(round, &constant(1.5), 1).await;
    south.is_accepted(round).await;
    north.finished().await;
    south.finished().await;
    running.outcome().await.unwrap();
    is_whole(&scene, "adapter");
}

#[tokio::test]
async fn an_accepted_update_that_is_gone_or_another_plan_is_named_before_anybody_is_asked() {
    let mut scene = Scene::new(&["north", "south"]);
    let mut running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let _south = scene.join("south", &running).await;
    let (round, _) = north.asked().await;
    north.deliver(round, &constant(0.5), 1).await;
    north.is_accepted(round).await;
    running.stop();
    running.outcome().await.unwrap_err();
    let updates = scene.config.run.folder().join("updates");
    for entry in fs::read_dir(&updates).unwrap() {
        fs::write(entry.unwrap().path(), b"overwritten").unwrap();
    }
    let lost = scene.serve().outcome().await.unwrap_err();
    assert!(matches!(lost, ServerError::UpdateLost { .. }), "{lost}");
    assert!(
        lost.to_string().contains("restore the run's folder"),
        "{lost}"
    );

    scene.config.run.seed += 1;
    let other = scene.serve().outcome().await.unwrap_err();
    assert!(
        other.to_string().contains("begun with another plan"),
        "{other}"
    );
    assert_eq!(other.exit_code(), 78);
}

#[tokio::test]
async fn a_round_whose_adapter_did_not_come_to_the_disk_is_formed_again_and_the_run_goes_on() {
    let mut scene = Scene::new(&["north", "south"]);
    scene.config.run.rounds = 2;
    scene.lose_first_folder([0.5, 1.5], || ()).await;
    let running = again(&scene, 0).await;
    is_whole(&scene, "round-0001");
    let mut north = scene.join("north", &running).await;
    let mut south = scene.join("south", &running).await;
    let (second, global) = north.asked().await;
    assert_eq!((second.0, &global), (2, &scene.saved("round-0001")));
    south.asked().await;
    north.deliver(second, &constant(0.0), 1).await;
    south.deliver(second, &constant(0.0), 1).await;
    north.is_accepted(second).await;
    south.is_accepted(second).await;
    assert_eq!(north.finished().await, global);
    south.finished().await;
    running.outcome().await.unwrap();
    assert_eq!(scene.records().len(), 2);
    let updates = scene.config.run.folder().join("updates");
    assert_eq!(fs::read_dir(updates).unwrap().count(), 0);
}
