//! A revocation list that is replaced while a run is on.

use std::fs;
use std::path::PathBuf;

use protocol::close::CloseCode;
use protocol::message::ToClient;
use protocol::quic::{Closed, TlsFiles};
use server::config::IdentitySource;

use crate::scene::{Scene, in_time};
use crate::scripted::{Scripted, constant};
use crate::slow_greeting::SlowGreeting;

/// A scene whose server reads its identity from files, and the path of the list.
fn scene() -> (Scene, PathBuf) {
    let mut scene = Scene::new(&["north", "south"]);
    scene.config.cohort.quorum = 1;
    let folder = scene.folder.path().join("identity");
    scene.federation.write(&folder).unwrap();
    let list = folder.join("crl.pem");
    scene.config.identity = IdentitySource::Files(TlsFiles {
        certificate: folder.join("server.crt"),
        key: folder.join("server.key"),
        authority: folder.join("ca.crt"),
        revocations: Some(list.clone()),
    });
    (scene, list)
}

#[tokio::test]
async fn a_revoked_participant_is_cut_off_in_mid_delivery_and_the_round_goes_on() {
    let (mut scene, list) = scene();
    let mut running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let mut south = scene.join("south", &running).await;
    let (round, _) = north.asked().await;
    south.asked().await;
    let update = constant(0.5);
    let header = north.header(round, &update);
    north.offer(header, 1).await;
    assert!(matches!(north.hear().await, ToClient::Deliver { .. }));

    fs::write(&list, scene.federation.revoke("north").unwrap()).unwrap();
    let how = in_time(north.link.connection.closed()).await;
    assert_eq!(how, Closed::ByPeer(CloseCode::Revoked));
    running.saw(&["IdentityReloaded"]).await;
    running
        .saw(&["Closed", "north", "Revoked", "revoked"])
        .await;
    let again = Scripted::connect(scene.tls("north"), running.address, &scene.start).await;
    assert!(again.is_err(), "it was let in again");

    south.deliver(round, &update, 1).await;
    south.is_accepted(round).await;
    south.finished().await;
    let outcome = running.outcome().await.unwrap();
    assert_eq!(outcome.records[0].missing, ["north"]);
}

#[tokio::test]
async fn a_handshake_that_is_held_open_while_its_certificate_is_revoked_lets_nobody_in() {
    let (mut scene, list) = scene();
    let mut running = scene.serve();
    let north = scene.federation.participant("north").unwrap();
    let slow = in_time(SlowGreeting::connect(north, running.address)).await;

    fs::write(&list, scene.federation.revoke("north").unwrap()).unwrap();
    running.saw(&["IdentityReloaded"]).await;
    let how = in_time(slow.greet()).await;
    assert_eq!(how, Some(CloseCode::Revoked));
    running
        .saw(&["HandshakeRejected", "north", "revoked"])
        .await;
    running.stop();
    running.outcome().await.unwrap_err();
}

#[tokio::test]
async fn a_list_that_cannot_be_read_changes_nothing_and_is_named() {
    let (scene, list) = scene();
    let mut running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let mut south = scene.join("south", &running).await;
    let (round, _) = north.asked().await;
    south.asked().await;
    fs::write(&list, "no list").unwrap();
    running
        .saw(&[
            "IdentityKept",
            "the revocations file holds no such PEM block",
        ])
        .await;
    for participant in [&mut north, &mut south] {
        participant.deliver(round, &constant(0.5), 1).await;
        participant.is_accepted(round).await;
    }
    north.finished().await;
    south.finished().await;
    running.outcome().await.unwrap();
}
