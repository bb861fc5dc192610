//! Certificates that are renewed while a run is on, of the server and of a participant, through real TLS.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use certs::throwaway::Material;
use jiff::Timestamp;
use protocol::identity::Role;
use protocol::quic::TlsFiles;
use server::config::IdentitySource;
use server::transcript::audit;

use crate::scene::{Scene, material};
use crate::scripted::{Scripted, constant};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// A scene whose server reads its identity from files, and their folder.
fn scene() -> (Scene, PathBuf) {
    let mut scene = Scene::new(&["north", "south"]);
    scene.config.run.rounds = 2;
    let folder = scene.folder.path().join("identity");
    scene.federation.write(&folder).unwrap();
    scene.config.identity = IdentitySource::Files(TlsFiles {
        certificate: folder.join("server.crt"),
        key: folder.join("server.key"),
        authority: folder.join("ca.crt"),
        revocations: Some(folder.join("crl.pem")),
    });
    (scene, folder)
}

/// Another certificate, for another key.
fn renewed(scene: &mut Scene, role: Role, name: &str) -> Material {
    let now = Timestamp::now() - Duration::from_secs(60);
    scene.federation.issue(role, name, now, WEEK).unwrap()
}

fn put(folder: &Path, new: &Material) {
    fs::write(folder.join("server.key"), new.key.as_str()).unwrap();
    fs::write(folder.join("server.crt"), &new.certificate).unwrap();
}

#[tokio::test]
async fn a_server_whose_key_is_renewed_in_mid_run_loses_no_round_and_its_transcript_holds() {
    let (mut scene, folder) = scene();
    let mut running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let mut south = scene.join("south", &running).await;
    let (round, _) = north.asked().await;
    south.asked().await;
    let old_key = north.link.connection.peer_public_key();
    for one in [&mut north, &mut south] {
        one.deliver(round, &constant(0.5), 1).await;
        one.is_accepted(round).await;
    }
    let (round, _) = north.asked().await;
    south.asked().await;

    let new = renewed(&mut scene, Role::Server, "server");
    put(&folder, &new);
    let serial = material(&new).serial().to_owned();
    running.saw(&["IdentityReloaded", &serial]).await;
    // One participant comes back with a certificate for another key, and is the same participant; the other stays.
    let own = renewed(&mut scene, Role::Participant, "north");
    drop(north);
    let mut north = Scripted::connect(material(&own), running.address, &scene.start)
        .await
        .unwrap();
    assert_ne!(north.link.connection.peer_public_key(), old_key);
    north.agree().await;
    assert_eq!(north.asked().await.0, round);
    for one in [&mut north, &mut south] {
        one.deliver(round, &constant(0.5), 1).await;
        one.is_accepted(round).await;
    }
    north.finished().await;
    south.finished().await;
    let outcome = running.outcome().await.unwrap();
    for record in &outcome.records {
        assert_eq!(record.participants.len(), 2, "round {}", record.round);
    }

    let run = scene.config.run.folder();
    let audit = audit(&run, &folder.join("ca.crt")).unwrap();
    let serials: Vec<_> = audit.rounds.iter().map(|round| &round.serial).collect();
    let first = material(scene.federation.server()).serial().to_owned();
    assert_eq!(serials, [&first, &serial]);
}

#[tokio::test]
async fn a_certificate_of_another_party_or_without_its_key_changes_nothing_and_is_named() {
    let (mut scene, folder) = scene();
    let mut running = scene.serve();
    let new = renewed(&mut scene, Role::Server, "server");
    fs::write(folder.join("server.crt"), &new.certificate).unwrap();
    running
        .saw(&["IdentityKept", "the key does not belong to the certificate"])
        .await;
    let other = renewed(&mut scene, Role::Server, "impostor");
    put(&folder, &other);
    running
        .saw(&[
            "IdentityKept",
            "the certificate is that of foedus://trial-federation/server/impostor",
        ])
        .await;
    let north = scene.join("north", &running).await;
    let first = material(scene.federation.server());
    assert_eq!(north.link.connection.peer_public_key(), first.public_key());
    running.stop();
    running.outcome().await.unwrap_err();
}
