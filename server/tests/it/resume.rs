//! An update of which the server has a beginning: only the rest is sent, unless the beginning is of no use.

use std::fs;

use protocol::Round;
use protocol::close::{CloseCode, RefusalReason};
use protocol::message::{ToClient, TransferHeader};

use crate::scene::{Running, Scene};
use crate::scripted::{Scripted, constant};

/// A server of one participant that begins with these bytes of `update` in its keeping, and the participant's offer.
async fn offered(
    scene: &Scene,
    beginning: &[u8],
    update: &[u8],
) -> (Running, Scripted, Round, TransferHeader) {
    let mut running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let (round, _) = north.asked().await;
    let header = north.header(round, update);
    running.stop();
    running.outcome().await.unwrap_err();
    let part = format!("updates/north.{}.part", header.id);
    fs::write(scene.config.run.folder().join(part), beginning).unwrap();

    let mut running = scene.serve();
    running.saw(&["Resumed"]).await;
    let mut north = scene.join("north", &running).await;
    assert_eq!(north.asked().await.0, round);
    north.offer(header, 1).await;
    let (transfer, offset) = (header.id, beginning.len() as u64);
    assert_eq!(north.hear().await, ToClient::Deliver { transfer, offset });
    (running, north, round, header)
}

#[tokio::test]
async fn only_what_is_missing_of_an_interrupted_update_is_sent() {
    let scene = Scene::new(&["north"]);
    let update = constant(0.5);
    let (running, mut north, round, header) = offered(&scene, &update[..40], &update).await;
    north.send(&header.at(40), &update).await.unwrap();
    north.is_accepted(round).await;
    let found = north.finished().await;
    for (found, start) in found.values().iter().zip(scene.start.values()) {
        assert!((found - start - 0.5).abs() < 1e-6, "{found} from {start}");
    }
    let outcome = running.outcome().await.unwrap();
    assert_eq!(outcome.records[0].bytes_up, update.len() as u64 - 40);
}

#[tokio::test]
async fn a_beginning_that_was_damaged_on_our_disk_is_not_held_against_the_participant() {
    let scene = Scene::new(&["north"]);
    let update = constant(0.5);
    let (running, mut north, round, header) = offered(&scene, &[0xff; 40], &update).await;
    north.send(&header.at(40), &update).await.unwrap();
    let (transfer, offset) = (header.id, 0);
    assert_eq!(north.hear().await, ToClient::Deliver { transfer, offset });
    north.send(&header, &update).await.unwrap();
    north.is_accepted(round).await;
    north.finished().await;
    running.outcome().await.unwrap();
}

#[tokio::test]
async fn a_delivery_from_another_offset_than_asked_for_is_refused() {
    let scene = Scene::new(&["north"]);
    let update = constant(0.5);
    let (_running, mut north, round, header) = offered(&scene, &update[..40], &update).await;
    // The server stops reading; how far the sender came is a matter of timing.
    let _ = north.send(&header.at(20), &update).await;
    north.is_refused(round, RefusalReason::WrongTransfer).await;
}

/// A3: a connection that breaks before the first byte of what was asked for costs its participant nothing.
#[tokio::test]
async fn deliveries_that_never_began_are_not_charged() {
    let mut scene = Scene::new(&["north"]);
    // It comes with nothing each time.
    scene.config.allowance.downloads_per_round = 1000;
    let update = constant(0.5);
    let (running, mut north, round, header) = offered(&scene, &update[..40], &update).await;
    let times = scene.config.allowance.uploads_per_round + 2;
    for _ in 0..times {
        north.link.connection.close(CloseCode::Internal);
        north = scene.join("north", &running).await;
        assert_eq!(north.asked().await.0, round);
        north.offer(header, 1).await;
        let (transfer, offset) = (header.id, 40);
        assert_eq!(north.hear().await, ToClient::Deliver { transfer, offset });
    }
    north.send(&header.at(40), &update).await.unwrap();
    north.is_accepted(round).await;
    north.finished().await;
    running.outcome().await.unwrap();
}
