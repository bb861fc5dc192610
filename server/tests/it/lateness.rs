//! Updates that are late and count after all, in a later round.

use protocol::Round;
use protocol::close::RefusalReason;
use protocol::message::ToClient;
use protocol::plan::LatePolicy;

use crate::scene::{Scene, in_time};
use crate::scripted::{Scripted, constant};

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

/// Sends the same value in every round it is asked for, as soon as it can, and gives the final adapter.
async fn takes_part(mut participant: Scripted, value: f32) -> Vec<u8> {
    let bytes = constant(value);
    loop {
        match participant.hear().await {
            ToClient::Train { global } => {
                participant.receive().await;
                let header = participant.header(global.round, &bytes);
                participant.offer(header, 1).await;
            }
            ToClient::Deliver { transfer, .. } => {
                let rounds = (1..=ROUNDS).map(Round);
                let mut headers = rounds.map(|round| participant.header(round, &bytes));
                let header = headers.find(|header| header.id == transfer);
                // It may be cut off by the end of the run.
                let _ = participant.send(&header.unwrap(), &bytes).await;
            }
            ToClient::Finished { .. } => {
                let (_, adapter) = participant.receive().await;
                in_time(participant.link.connection.closed()).await;
                return adapter;
            }
            _ => {}
        }
    }
}

const ROUNDS: u32 = 60;

/// One update closes each round; the other's arrives at about the same moment, and counts in the next.
#[tokio::test]
async fn an_update_that_arrives_while_its_round_closes_is_in_the_sum_of_the_round_that_counts_it() {
    let mut scene = Scene::new(&["north", "south"]);
    scene.config.run.rounds = ROUNDS;
    scene.config.cohort.quorum = 1;
    scene.config.cohort.enough = Some(1);
    scene.config.cohort.late = LatePolicy::LaterRound { rounds_max: 2 };
    let running = scene.serve();
    let north = scene.join("north", &running).await;
    let south = scene.join("south", &running).await;
    let (at_north, at_south) = tokio::join!(takes_part(north, 0.5), takes_part(south, -0.25));
    assert_eq!(at_north, at_south);
    let outcome = running.outcome().await.unwrap();
    let value = |name: &str| if name == "north" { 0.5 } else { -0.25 };
    let mean = |record: &server::RoundRecord| {
        let values = record.participants.iter().map(|one| value(&one.name));
        values.sum::<f32>() / record.participants.len() as f32
    };
    let moved: f32 = outcome.records.iter().map(mean).sum();
    for (found, start) in outcome.adapter.values().iter().zip(scene.start.values()) {
        assert!((found - start - moved).abs() < 1e-3, "{found} from {start}");
    }
}
