//! Runs whose plan protects participants as a whole.

use protocol::plan::ClipPlan;

use super::*;
use crate::terms::Objection;

/// A federation of three whose updates are cut to a thousandth, with next to no noise.
fn world(ring: Option<Masks>) -> World {
    let mut world = World::new();
    (world.participants, world.ring) = (3, ring);
    world.participant_privacy = Some(ParticipantPrivacyPlan {
        clip: ClipPlan::Fixed { norm: 1e-3 },
        noise_multiplier: 0.01,
        epsilon_max: 1e9,
        delta: 1e-5,
        expected: 3,
        force: true,
    });
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_leave_within_the_norm_in_every_form_in_which_they_travel() {
    let texts: Vec<_> = NAMES[..3]
        .iter()
        .map(|name| (*name, text(&WORDS)))
        .collect();
    for (ring, transfer) in [
        (None, ValueEncoding::F32),
        (None, ValueEncoding::Bf16),
        (Some(Masks::Off), ValueEncoding::F32),
        (Some(Masks::On), ValueEncoding::F32),
    ] {
        let mut world = world(ring);
        world.transfer = transfer;
        let (served, ends) = world.run(&texts).await;
        // The server refuses what is longer, and refuses nothing here; under masks it sees the sum only.
        let served = served.unwrap();
        assert!(ends.iter().all(Result::is_ok), "{ends:?}");
        for round in &served.records {
            assert!(round.refused.is_empty(), "{round:?}");
            assert_eq!(round.participants.len(), 3);
            // All three learn the same, so the mean is as long as each: cut from far longer ones.
            let noise = 1e-5 / 3.0 * (served.adapter.values().len() as f64).sqrt();
            assert!(
                round.update_norm <= 1e-3 + 2.0 * noise,
                "{}",
                round.update_norm
            );
            assert!(round.update_norm > 0.9e-3, "{}", round.update_norm);
            assert_eq!(round.inexactness, None);
        }
        let moved = distance(&served.adapter, &start_adapter());
        assert!(moved < 2.1e-3, "{moved}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn training_loss_and_a_promise_that_does_not_add_up_are_declined_by_the_site() {
    let mut told = world(None);
    told.shared = true;
    let (served, ends) = told.run(&[("north", text(&WORDS))]).await;
    assert!(served.is_err());
    let [Err(error @ ClientError::Declined(Objection::PlainMetrics))] = &ends[..] else {
        panic!("{ends:?}")
    };
    assert!(error.to_string().contains("E_DP_METRICS"), "{error}");

    let server = Server::bind(world(None).server()).unwrap();
    let mut plan = server.plan().plan().clone();
    plan.participant_privacy.as_mut().unwrap().epsilon_max = 1.0;
    let refused = crate::terms::check(&plan, &base()).unwrap_err().to_string();
    assert!(
        refused.contains("E_DP_BUDGET") && refused.contains("2 rounds"),
        "{refused}"
    );
}
