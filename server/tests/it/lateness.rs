//! Updates that are late and count after all, in a later round.

use protocol::Round;
use protocol::close::RefusalReason;
use protocol::message::ToClient;
use protocol::plan::LatePolicy;

use crate::scene::Scene;
use crate::scripted::constant;

#[tokio::test]
async fn a_late_update_counts_in_the_next_round_and_is_written_down_as_late() {
    let mut scene = Scene::new(&["north", "south"]);
    scene.config.run.rounds = 2;
    scene.config.cohort.quorum = 1;
    scene.config.cohort.enough = Some(1);
    scene.config.cohort.late = LatePolicy::LaterRound { rounds_max: 1 };
    let mut running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let mut south = scene.join("south", &running).await;
    let (first, second) = (Round(1), Round(2));
    north.asked().await;
    south.asked().await;
    south.deliver(first, &constant(0.5), 1).await;
    south.is_accepted(first).await;
    let told = north.hear().await;
    let until = second;
    assert_eq!(
        told,
        ToClient::Postponed {
            round: first,
            until
        }
    );
    running.saw(&["Postponed", "north"]).await;
    south.asked().await;
    north.deliver(first, &constant(0.25), 3).await;
    north.is_accepted(second).await;
    south.is_refused(second, RefusalReason::Late).await;
    let adapter = north.finished().await;
    south.finished().await;
    let outcome = running.outcome().await.unwrap();
    for (found, start) in adapter.values().iter().zip(scene.start.values()) {
        assert!((found - start - 0.75).abs() < 1e-5, "{found} from {start}");
    }
    let late: Vec<_> = outcome
        .records
        .iter()
        .flat_map(|record| &record.participants)
        .map(|update| (update.name.as_str(), update.rounds_late))
        .collect();
    assert_eq!(late, [("south", 0), ("north", 1)]);
}
