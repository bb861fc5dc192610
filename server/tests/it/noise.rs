//! Runs whose plan protects participants: noise on what is released, the same noise after a crash.

use std::fs;

use aggregation::Adapter;
use protocol::close::RefusalReason;
use protocol::plan::{ClipPlan, ParticipantPrivacyPlan};

use crate::scene::{Running, Scene};
use crate::scripted::constant;

/// Two participants of four that are expected, and little noise.
fn scene(clip: ClipPlan) -> Scene {
    let mut scene = Scene::new(&["north", "south"]);
    scene.config.participant_privacy = Some(ParticipantPrivacyPlan {
        clip,
        noise_multiplier: 0.02,
        epsilon_max: 1e9,
        delta: 1e-5,
        expected: 4,
        force: true,
    });
    scene
}

const FIXED: ClipPlan = ClipPlan::Fixed { norm: 1.0 };

/// Both deliver 0.1 everywhere, a norm of 0.62.
async fn delivered(scene: &Scene, running: &Running) {
    let mut north = scene.join("north", running).await;
    let mut south = scene.join("south", running).await;
    for party in [&mut north, &mut south] {
        let (round, _) = party.asked().await;
        party.deliver(round, &constant(0.1), 1).await;
        party.is_accepted(round).await;
    }
    north.finished().await;
    south.finished().await;
}

async fn whole(scene: &Scene) -> Adapter {
    let running = scene.serve();
    delivered(scene, &running).await;
    running.outcome().await.unwrap();
    scene.saved("adapter")
}

#[tokio::test]
async fn sum_is_divided_by_what_was_expected_and_noised_and_the_cost_is_on_record() {
    let scene = scene(FIXED);
    let found = whole(&scene).await;
    let moved = found.difference(&scene.start).unwrap();
    // Twice 0.1 over four; the noise is 0.02 over four a value. Seven standard deviations.
    assert!(
        moved
            .values()
            .iter()
            .all(|value| (value - 0.05).abs() < 7.0 * 0.005),
        "{moved:?}"
    );
    assert!(
        moved
            .values()
            .iter()
            .any(|value| (value - 0.05).abs() > 1e-4),
        "{moved:?}"
    );
    let records = scene.records();
    let privacy = records[0].participant_privacy.as_ref().unwrap();
    assert_eq!(
        (privacy.clip_norm, privacy.next_clip_norm, privacy.expected),
        (1.0, 1.0, 4)
    );
    assert_eq!((privacy.noise, privacy.delta), (0.005, 1e-5));
    assert!(
        privacy.epsilon > 100.0,
        "so little noise costs much: {}",
        privacy.epsilon
    );
    assert_eq!(records[0].inexactness, None);
    assert!(!scene.config.run.folder().join("noise.key").exists());
}

#[tokio::test]
async fn update_beyond_the_norm_is_refused() {
    let scene = scene(FIXED);
    let running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let _south = scene.join("south", &running).await;
    let (round, _) = north.asked().await;
    north.deliver(round, &constant(0.2), 1).await;
    north.is_refused(round, RefusalReason::OverNorm).await;
}

#[tokio::test]
async fn norm_that_follows_the_updates_shrinks_them_and_grows_when_all_are_longer() {
    let scene = scene(ClipPlan::Adaptive {
        first_norm: 0.1,
        quantile: 0.5,
        learning_rate: 0.2,
        count_noise: 0.05,
    });
    let moved = whole(&scene).await.difference(&scene.start).unwrap();
    // Two of norm 0.1 over four, and noise of 0.0005 a value on 38.
    assert!((moved.norm() - 0.05).abs() < 0.01, "{}", moved.norm());
    let records = scene.records();
    let privacy = records[0].participant_privacy.as_ref().unwrap();
    // Two of four came and none was within: a share of 1/4, so exp(0.2 * 0.25) but for the noise on the count, 0.0125 of what is expected.
    let expected = 0.1 * 0.05_f64.exp();
    assert!(
        (privacy.next_clip_norm - expected).abs() < 1e-3,
        "{}",
        privacy.next_clip_norm
    );
}

#[tokio::test]
async fn server_that_was_killed_before_its_round_was_done_comes_to_the_same_adapter() {
    let mut found = Vec::new();
    // As a server leaves it that was killed while it merged the first round; the third time one that had not begun to.
    for key in [Some([5; 32]), Some([5; 32]), None] {
        let scene = scene(FIXED);
        if let Some(key) = key {
            fs::create_dir_all(scene.config.run.folder()).unwrap();
            let file = [&1_u32.to_le_bytes()[..], &key].concat();
            fs::write(scene.config.run.folder().join("noise.key"), file).unwrap();
        }
        found.push(whole(&scene).await);
        assert!(!scene.config.run.folder().join("noise.key").exists());
    }
    assert_eq!(found[0], found[1]);
    assert_ne!(found[0], found[2]);
}

#[tokio::test]
async fn round_whose_adapter_did_not_come_to_the_disk_is_formed_again_with_the_same_noise() {
    let mut scene = scene(FIXED);
    scene.config.run.rounds = 2;
    let key = scene.config.run.folder().join("noise.key");
    let is_kept = || assert!(key.exists(), "the round cannot be formed again without it");
    scene.lose_first_folder([0.1, 0.1], is_kept).await;
    // The journal knows the digest of what the round came to: any other adapter is refused.
    let mut running = scene.serve();
    running.saw(&["Resumed"]).await;
    let north = &mut scene.join("north", &running).await;
    let (second, global) = north.asked().await;
    assert_eq!((second.0, &global), (2, &scene.saved("round-0001")));
    assert!(!key.exists());
}

#[tokio::test]
async fn rounds_beyond_the_budget_are_refused_before_anybody_is_asked() {
    let mut scene = scene(FIXED);
    let privacy = scene.config.participant_privacy.as_mut().unwrap();
    (privacy.noise_multiplier, privacy.epsilon_max) = (5.0, 0.5);
    let Err(refused) = server::Server::bind(scene.config.clone()) else {
        panic!("bound");
    };
    assert!(refused.to_string().contains("0 rounds fit"), "{refused}");
    assert_eq!(refused.exit_code(), 78);
    let key = refused.about_key().unwrap().to_string();
    assert!(key.starts_with("participant_privacy.epsilon_max"), "{key}");
}
