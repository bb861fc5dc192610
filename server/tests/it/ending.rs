//! Who is not let in, and runs that end before their last round.

use std::time::Duration;

use certs::throwaway::Federation;
use protocol::close::{CloseCode, RunFailure};
use protocol::message::{ToClient, ToServer};
use protocol::quic::{Closed, HandshakeError};
use server::{Server, ServerError};

use crate::scene::{Scene, in_time, material};
use crate::scripted::{Scripted, constant};

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_and_named() {
    let scene = Scene::new(&["north"]);
    let mut running = scene.serve();
    let impostors = Federation::create("trial-federation", &["north"]).unwrap();
    // The impostor trusts the right authority, so that it is the server who refuses.
    let forged = impostors.participant("north").unwrap();
    let true_ca = &scene.federation.server().authority;
    let tls =
        protocol::quic::TlsMaterial::from_pem(&forged.certificate, &forged.key, true_ca, None)
            .unwrap();
    let refused = Scripted::connect(tls, running.address, &scene.start)
        .await
        .err()
        .unwrap();
    assert!(
        matches!(refused, HandshakeError::RefusedByPeer { .. }),
        "{refused}"
    );
    running
        .saw(&[
            "HandshakeRejected",
            "foedus://trial-federation/participant/north",
        ])
        .await;
    let mut north = scene.join("north", &running).await;
    let (round, _) = north.asked().await;
    north.deliver(round, &constant(0.5), 1).await;
    north.is_accepted(round).await;
    north.finished().await;
    running.outcome().await.unwrap();
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_named() {
    let mut scene = Scene::new(&["north", "south"]);
    let list = scene.federation.revoke("south").unwrap();
    let own = scene.federation.server();
    let tls = protocol::quic::TlsMaterial::from_pem(
        &own.certificate,
        &own.key,
        &own.authority,
        Some(&list),
    )
    .unwrap();
    scene.config.identity = server::IdentitySource::Ready(tls);
    let mut running = scene.serve();
    let refused = Scripted::connect(scene.tls("south"), running.address, &scene.start)
        .await
        .err()
        .unwrap();
    assert!(
        matches!(refused, HandshakeError::RefusedByPeer { .. }),
        "{refused}"
    );
    running
        .saw(&["HandshakeRejected", "participant/south", "revoked"])
        .await;
    running.stop();
    running.outcome().await.unwrap_err();
}

#[tokio::test]
async fn one_who_is_not_in_the_plan_is_turned_away() {
    let mut scene = Scene::new(&["north", "south"]);
    scene.config.cohort.quorum = 1;
    scene.config.cohort.participants =
        protocol::plan::Participants::Named(vec!["north".parse().unwrap()]);
    let mut running = scene.serve();
    let south = Scripted::connect(scene.tls("south"), running.address, &scene.start)
        .await
        .unwrap();
    assert_eq!(
        in_time(south.link.connection.closed()).await,
        Closed::ByPeer(CloseCode::NotInCohort)
    );
    running.saw(&["Closed", "south", "NotInCohort"]).await;
    running.stop();
    running.outcome().await.unwrap_err();
}

#[tokio::test]
async fn shutdown_in_mid_round_tells_participants_and_is_a_try_again() {
    let mut scene = Scene::new(&["north"]);
    scene.config.run.rounds = 2;
    let mut running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let (round, _) = north.asked().await;
    north.deliver(round, &constant(0.5), 1).await;
    north.is_accepted(round).await;
    north.asked().await;
    running.stop();
    let how = in_time(north.link.connection.closed()).await;
    assert_eq!(how, Closed::ByPeer(CloseCode::ServerStopping));
    let error = running.outcome().await.unwrap_err();
    assert_eq!(error.exit_code(), 75);
    assert!(
        matches!(
            error,
            ServerError::Unfinished {
                reason: RunFailure::Stopped,
                rounds_done: 1,
                rounds: 2,
                ..
            }
        ),
        "{error}"
    );
    // The finished round stays, and nothing looks like a finished run.
    assert_eq!(scene.records().len(), 1);
    scene.saved("round-0001");
    assert!(!scene.config.run.folder().join("adapter").exists());
}

#[tokio::test]
async fn a_quorum_out_of_reach_fails_the_run_and_says_so_to_those_who_are_left() {
    let scene = Scene::new(&["north", "south"]);
    let running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let mut south = scene.join("south", &running).await;
    north.asked().await;
    south.asked().await;
    south
        .say(&ToServer::Leave {
            reason: "the GPU is needed elsewhere".into(),
        })
        .await;
    let ToClient::Failed { reason, detail } = north.hear().await else {
        panic!("not told that the run failed");
    };
    assert_eq!(reason, RunFailure::QuorumOutOfReach);
    assert!(detail.as_str().contains("quorum is 2"), "{detail}");
    drop(north);
    let error = running.outcome().await.unwrap_err();
    assert_eq!(error.exit_code(), 75);
    assert!(error.to_string().contains("after 0 of 1 rounds"), "{error}");
}

#[tokio::test]
async fn a_round_without_a_quorum_fails_at_its_hard_deadline() {
    let mut scene = Scene::new(&["north", "south"]);
    let cohort = &mut scene.config.cohort;
    cohort.join_deadline = Duration::from_millis(300);
    cohort.soft_deadline = Duration::from_millis(300);
    cohort.hard_deadline = Duration::from_millis(600);
    let mut running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let mut south = scene.join("south", &running).await;
    let (round, _) = north.asked().await;
    south.asked().await;
    drop(south);
    north.deliver(round, &constant(0.5), 1).await;
    north.is_accepted(round).await;
    running.saw(&["QuorumMissing"]).await;
    let heard = north.hear().await;
    assert!(
        matches!(
            heard,
            ToClient::Failed {
                reason: RunFailure::QuorumNotMet,
                ..
            }
        ),
        "{heard:?}"
    );
    drop(north);
    assert_eq!(running.outcome().await.unwrap_err().exit_code(), 75);
}

#[tokio::test]
async fn a_run_without_a_round_can_be_tried_again_and_one_with_rounds_is_not_written_over() {
    let scene = Scene::new(&["north"]);
    for _ in 0..2 {
        let mut running = scene.serve();
        running.stop();
        assert_eq!(running.outcome().await.unwrap_err().exit_code(), 75);
    }
    let folder = scene.config.run.folder();
    std::fs::remove_file(folder.join("journal.redb")).unwrap();
    std::fs::write(folder.join("rounds.jsonl"), "{}\n").unwrap();
    let error = scene.serve().outcome().await.unwrap_err();
    assert!(matches!(error, ServerError::RunExists { .. }), "{error}");
    assert_eq!(error.exit_code(), 78);
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_before_listening() {
    let mut scene = Scene::new(&["north"]);
    let code = |config: &server::Config| Server::bind(config.clone()).unwrap_err();
    let mut config = scene.config.clone();
    config.run.base = Some(protocol::Digest([1; 32]));
    assert!(
        code(&config)
            .to_string()
            .contains("was made for the base model 0707")
    );
    config = scene.config.clone();
    config.adapter_bytes_max = 16;
    assert!(
        code(&config)
            .to_string()
            .contains("raise limits.adapter_max")
    );
    config = scene.config.clone();
    config.run.start = scene.folder.path().join("nowhere");
    assert!(
        code(&config)
            .to_string()
            .contains("foedus-client adapter new")
    );
    config = scene.config.clone();
    config.cohort.quorum = 3;
    assert!(code(&config).to_string().contains("cohort.quorum is 3"));
    scene.config.identity =
        server::IdentitySource::Ready(material(scene.federation.participant("north").unwrap()));
    let error = code(&scene.config);
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(error.exit_code(), 78);
}
