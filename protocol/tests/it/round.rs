//! A round from its opening to its closing, and the end of a run (rules R1 to R12, F1 to F4).

use std::time::Duration;

use protocol::Text;
use protocol::close::{CloseCode, RefusalReason, RunFailure};
use protocol::coordinator::{Outcome, Report};
use protocol::message::{ToClient, TransferKind};
use protocol::participant;
use protocol::plan::Participants;

use super::pair::{Pair, Weather, name, plan};

fn failure(pair: &Pair) -> Option<RunFailure> {
    match &pair.server.outcome {
        Some(Outcome::Failed { reason, .. }) => Some(*reason),
        _ => None,
    }
}

fn training_in(pair: &Pair, round: usize) -> bool {
    pair.sites.iter().all(|site| site.trainings.len() == round)
}

/// R1, R2, R4: everyone is asked and gets the adapter, is counted once and told so, and the round closes with the last.
#[test]
fn a_round_asks_everyone_counts_each_once_and_closes_with_the_last() {
    let mut pair = Pair::new(plan(&["a", "b"], 1, 2), Weather::fair(), 1);
    pair.drive();
    for round in [1, 2] {
        assert_eq!(pair.counted(round), ["a", "b"]);
        let summary = &pair.server.summaries[round as usize - 1];
        assert_eq!(summary.accepted[0].weight, 10);
        assert_eq!(summary.accepted[0].metrics.train_loss, Some(1.5));
        assert!(summary.missing.is_empty() && summary.refused.is_empty());
        assert!(summary.closed_at - summary.opened_at < Duration::from_secs(2));
    }
    let accepted = |(_, message): &&(_, ToClient)| matches!(message, ToClient::Accepted { .. });
    assert_eq!(pair.server.sent.iter().filter(accepted).count(), 4);
    let globals = |(_, header): &&(_, protocol::message::TransferHeader)| {
        header.kind == TransferKind::GlobalAdapter
    };
    assert_eq!(pair.server.transfers.iter().filter(globals).count(), 4);
}

/// R5: at the soft deadline a quorum is enough; those still training are told that they are late.
#[test]
fn late_update_is_refused_and_named() {
    let mut pair = Pair::new(plan(&["a", "b", "c"], 2, 1), Weather::fair(), 1);
    pair.sites[2].manual = true;
    pair.drive_until("two counted", |pair| pair.counted(1).len() == 2);
    // c makes steps, so it is not stalled.
    for step in 1..=3 {
        pair.wait(Duration::from_secs(9));
        pair.sites[2].machine.progress(protocol::Round(1), step);
    }
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
    assert_eq!(pair.refusals("c"), [RefusalReason::Late]);
    assert_eq!(pair.server.summaries[0].missing, [name("c")]);
    let open = pair.server.summaries[0].closed_at - pair.server.summaries[0].opened_at;
    assert_eq!(open, Duration::from_secs(30));
    assert!(matches!(
        pair.sites[2].outcome,
        Some(participant::Outcome::Finished { .. })
    ));
}

/// R5: a participant that is delivering at the soft deadline is waited for.
#[test]
fn a_delivery_that_moves_is_not_cut_off_by_the_soft_deadline() {
    let mut weather = Weather::fair();
    weather.bulk_ms = (15_000, 15_000);
    weather.train_ms = (5_000, 5_000);
    // Global 15 s, training 5 s, update 15 s: 35 s, past the soft deadline at 30 s.
    let mut pair = Pair::new(plan(&["a", "b"], 1, 1), weather, 1);
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
    assert!(
        Duration::from_secs(34)
            < pair.server.summaries[0].closed_at - pair.server.summaries[0].opened_at
    );
}

/// R5: a delivery that broke off is none: its sender, back and training anew, is not waited for.
#[test]
fn a_broken_delivery_does_not_hold_the_round_past_the_soft_deadline() {
    let mut pair = Pair::new(plan(&["a", "b", "c"], 1, 1), Weather::fair(), 1);
    pair.sites[0].manual = true;
    // c trains slowly, so that the round is still open when a comes back.
    pair.sites[2].manual = true;
    pair.drive_until("training", |pair| training_in(pair, 1));
    for step in 1..=2 {
        pair.wait(Duration::from_secs(9));
        pair.sites[0].machine.progress(protocol::Round(1), step);
        pair.sites[2].machine.progress(protocol::Round(1), step);
    }
    let update = super::pair::content("a's update");
    pair.sites[0]
        .machine
        .trained(protocol::Round(1), update, 1, Default::default())
        .unwrap();
    pair.drive_until("delivering", |pair| !pair.sites[0].delivered.is_empty());
    pair.cut(0);
    pair.restart(0);
    pair.drive_until("a trains anew", |pair| pair.sites[0].trainings.len() == 2);
    pair.drive_until("closed", |pair| !pair.server.summaries.is_empty());
    assert_eq!(pair.counted(1), ["b"]);
    let summary = &pair.server.summaries[0];
    assert_eq!(
        summary.closed_at - summary.opened_at,
        Duration::from_secs(30)
    );
}

/// R5: without a quorum the soft deadline only makes a report.
#[test]
fn the_soft_deadline_without_a_quorum_is_reported_and_waited_out() {
    let mut pair = Pair::new(plan(&["a", "b"], 2, 1), Weather::fair(), 1);
    pair.weather.train_ms = (40_000, 40_000);
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
    let reported = |report: &Report| {
        matches!(
            report,
            Report::QuorumMissing {
                accepted: 0,
                quorum: 2,
                ..
            }
        )
    };
    assert_eq!(
        pair.server
            .reports
            .iter()
            .filter(|report| reported(report))
            .count(),
        1
    );
}

/// R6: killing one client in the middle of a round does not stop the round.
#[test]
fn a_killed_client_does_not_stop_the_round_if_the_quorum_remains() {
    let mut pair = Pair::new(plan(&["a", "b", "c"], 2, 2), Weather::fair(), 1);
    pair.drive_until("training", |pair| training_in(pair, 1));
    pair.kill(1);
    pair.drive();
    assert_eq!(
        (pair.counted(1), pair.counted(2)),
        (vec!["a", "c"], vec!["a", "c"])
    );
    assert_eq!(pair.server.summaries[0].missing, [name("b")]);
    assert!(
        pair.now - pair.began < Duration::from_secs(10),
        "nobody waits for a deadline"
    );
}

/// R7: a participant without progress is closed and counts as missing.
#[test]
fn a_stalled_participant_is_closed_and_the_round_goes_on() {
    let mut pair = Pair::new(plan(&["a", "b", "c"], 2, 1), Weather::fair(), 1);
    pair.sites[0].manual = true;
    pair.drive_until("stall", |pair| {
        pair.codes("a").contains(&CloseCode::Stalled)
    });
    let stalled_after = pair.now - pair.began;
    assert!(
        Duration::from_secs(20) < stalled_after && stalled_after < Duration::from_secs(21),
        "{stalled_after:?}"
    );
    pair.drive_until("closed", |pair| !pair.server.summaries.is_empty());
    assert_eq!(pair.counted(1), ["b", "c"]);
    assert!(pair.server.reports.contains(&Report::Stalled {
        participant: name("a")
    }));
}

/// R7: only a larger step is progress: repeating one, or inventing steps beyond the plan, does not help.
#[test]
fn repeated_and_invented_steps_are_no_progress() {
    let mut pair = Pair::new(plan(&["a", "b"], 1, 1), Weather::fair(), 1);
    pair.sites[0].manual = true;
    pair.drive_until("training", |pair| training_in(pair, 1));
    let began = pair.now;
    for step in [1, 1, 5, 900] {
        pair.wait(Duration::from_secs(6));
        pair.sites[0].machine.progress(protocol::Round(1), step);
    }
    pair.drive_until("stall", |pair| {
        pair.codes("a").contains(&CloseCode::Stalled)
    });
    assert_eq!(pair.now - began, Duration::from_millis(26_010));
}

/// R8: the hard deadline ends a round without its quorum, and the run.
#[test]
fn a_quorum_that_does_not_come_fails_the_run_at_the_hard_deadline() {
    let mut pair = Pair::new(plan(&["a", "b", "c"], 3, 1), Weather::fair(), 1);
    pair.drive_until("training", |pair| training_in(pair, 1));
    pair.kill(1);
    pair.drive();
    assert_eq!(failure(&pair), Some(RunFailure::QuorumNotMet));
    assert!(RunFailure::QuorumNotMet.is_temporary());
    let told = |outcome: &Option<participant::Outcome>| {
        matches!(
            outcome,
            Some(participant::Outcome::Failed {
                reason: RunFailure::QuorumNotMet,
                ..
            })
        )
    };
    assert!(told(&pair.sites[0].outcome), "{:?}", pair.sites[0].outcome);
}

/// R8: at the hard deadline a quorum closes the round, even if somebody is still delivering.
#[test]
fn the_hard_deadline_closes_a_round_that_has_its_quorum() {
    let mut pair = Pair::new(plan(&["a", "b"], 1, 1), Weather::fair(), 1);
    pair.sites[1].manual = true;
    pair.drive_until("training", |pair| training_in(pair, 1));
    let update = super::pair::content("b's update");
    pair.sites[1]
        .machine
        .trained(protocol::Round(1), update, 1, Default::default())
        .unwrap();
    pair.drive_until("delivering", |pair| !pair.sites[1].delivered.is_empty());
    while pair.server.summaries.is_empty() {
        // Bytes trickle for ever.
        pair.wait(Duration::from_secs(5));
        let connection = protocol::ConnectionId(2);
        pair.coordinator
            .handle_transfer_progress(connection, pair.now);
    }
    let summary = &pair.server.summaries[0];
    assert_eq!(
        summary.closed_at - summary.opened_at,
        Duration::from_secs(120)
    );
    assert_eq!(pair.counted(1), ["a"]);
}

/// R9: when refusals and departures leave too few, the run fails at once.
#[test]
fn a_quorum_out_of_reach_fails_the_run_at_once() {
    let mut pair = Pair::new(plan(&["a", "b", "c"], 2, 1), Weather::fair(), 1);
    pair.drive_until("training", |pair| training_in(pair, 1));
    for site in 0..2 {
        let now = pair.now;
        pair.sites[site]
            .machine
            .leave(Text::new("the loss is not finite"), now);
    }
    pair.drive();
    assert_eq!(failure(&pair), Some(RunFailure::QuorumOutOfReach));
    assert!(pair.now - pair.began < Duration::from_secs(2));
    assert_eq!(pair.sites[0].outcome, Some(participant::Outcome::Left));
    assert_eq!(pair.codes("a"), [CloseCode::Left]);
}

/// R10: a participant that comes while a round is open enters it.
#[test]
fn a_late_participant_enters_the_open_round() {
    let mut plan = plan(&["a"], 1, 1);
    plan.cohort.participants = Participants::Any;
    plan.cohort.join_deadline = Duration::from_secs(1);
    let mut pair = Pair::new(plan, Weather::fair(), 1);
    pair.weather.train_ms = (5000, 5000);
    pair.add_site(name("a"));
    pair.drive_until("round 1", |pair| pair.coordinator.open_round().is_some());
    pair.add_site(name("b"));
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
}

/// R10: but not one that only waits for its last delivery after the soft deadline.
#[test]
fn a_participant_that_comes_after_the_soft_deadline_waits_for_the_next_round() {
    let mut plan = plan(&[], 1, 2);
    plan.cohort.participants = Participants::Any;
    plan.cohort.join_deadline = Duration::from_secs(1);
    let mut pair = Pair::new(plan, Weather::fair(), 1);
    pair.add_site(name("a"));
    pair.add_site(name("b"));
    pair.sites[1].manual = true;
    pair.drive_until("counted", |pair| pair.counted(1) == ["a"]);
    for step in 1..=2 {
        pair.wait(Duration::from_secs(9));
        pair.sites[1].machine.progress(protocol::Round(1), step);
    }
    let update = super::pair::content("b's update");
    pair.wait(Duration::from_secs(9));
    let header = pair.sites[1]
        .machine
        .trained(protocol::Round(1), update, 1, Default::default())
        .unwrap()
        .unwrap();
    pair.wait(Duration::from_secs(5));
    let late = pair.add_site(name("c"));
    pair.wait(Duration::from_secs(1));
    assert_eq!(pair.sites[late].trainings, []);
    pair.pour(1, header);
    pair.drive_until("round 2", |pair| {
        pair.counted(1) == ["a", "b"] && pair.sites[late].trainings.len() == 1
    });
    assert_eq!(pair.sites[late].trainings, [protocol::Round(2)]);
}

/// R10: nor one that comes to a round that has as many participants as the plan allows, those that have left it included.
#[test]
fn a_participant_that_finds_a_round_full_waits_for_the_next() {
    let mut plan = plan(&[], 1, 2);
    plan.cohort.participants = Participants::Any;
    plan.limits.participants_max = 2;
    let mut pair = Pair::new(plan, Weather::fair(), 1);
    pair.add_site(name("a"));
    pair.add_site(name("b"));
    pair.sites[0].manual = true;
    pair.drive_until("b counts", |pair| pair.counted(1) == ["b"]);
    let now = pair.now;
    pair.sites[1].machine.leave(Text::new("enough"), now);
    pair.drive_until("b is gone", |pair| pair.codes("b") == [CloseCode::Left]);
    let late = pair.add_site(name("c"));
    pair.wait(Duration::from_secs(5));
    let joined = pair.coordinator.ready().any(|ready| *ready == name("c"));
    assert!(joined && pair.sites[late].trainings.is_empty());
    pair.sites[0].manual = false;
    let update = super::pair::content("a's update");
    pair.sites[0]
        .machine
        .trained(protocol::Round(1), update, 1, Default::default())
        .unwrap();
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
    assert_eq!(pair.counted(2), ["a", "c"]);
    assert_eq!(pair.sites[late].trainings, [protocol::Round(2)]);
}

/// R11: a refused update does not stop the round, and the participant is asked again in the next.
#[test]
fn a_refused_update_does_not_stop_the_round_and_its_sender_is_asked_again() {
    let mut pair = Pair::new(plan(&["a", "b"], 1, 2), Weather::fair(), 1);
    pair.hold_folds = true;
    pair.drive_until("both with the server", |pair| {
        pair.sites.iter().all(|site| site.delivered.len() == 1)
    });
    pair.wait(Duration::from_secs(1));
    pair.weather.refuse = 1000;
    pair.folded(name("a"));
    pair.weather.refuse = 0;
    pair.folded(name("b"));
    pair.hold_folds = false;
    pair.drive();
    assert_eq!(
        (pair.counted(1), pair.counted(2)),
        (vec!["b"], vec!["a", "b"])
    );
    assert_eq!(
        pair.server.summaries[0].refused,
        [(name("a"), RefusalReason::OverNorm)]
    );
    assert_eq!(pair.refusals("a"), [RefusalReason::OverNorm]);
}

/// R12: an update in the server's hands keeps the round open, even past the hard deadline.
#[test]
fn a_round_does_not_close_over_an_update_in_the_servers_hands() {
    let mut pair = Pair::new(plan(&["a", "b"], 1, 1), Weather::fair(), 1);
    pair.hold_folds = true;
    pair.drive_until("both with the server", |pair| {
        pair.sites.iter().all(|site| site.delivered.len() == 1)
    });
    pair.wait(Duration::from_secs(1));
    pair.folded(name("a"));
    pair.wait(Duration::from_secs(500));
    assert!(pair.server.summaries.is_empty() && pair.server.outcome.is_none());
    pair.folded(name("b"));
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
}

/// F1: everyone who is there gets the final adapter, and is closed with "finished" once it is received.
#[test]
fn the_final_adapter_goes_to_everyone_also_to_those_refused() {
    let mut pair = Pair::new(plan(&["a", "b"], 1, 1), Weather::fair(), 3);
    pair.hold_folds = true;
    pair.drive_until("both with the server", |pair| {
        pair.sites.iter().all(|site| site.delivered.len() == 1)
    });
    pair.wait(Duration::from_secs(1));
    pair.weather.refuse = 1000;
    pair.folded(name("a"));
    pair.weather.refuse = 0;
    pair.folded(name("b"));
    pair.drive();
    for site in ["a", "b"] {
        assert_eq!(pair.codes(site), [CloseCode::Finished]);
        let index = pair.site(site);
        assert!(matches!(
            pair.sites[index].outcome,
            Some(participant::Outcome::Finished { rounds: 1, .. })
        ));
    }
}

/// F2: who is away when the run ends, or does not take the final adapter, is not waited for beyond the stall limit.
#[test]
fn the_end_does_not_wait_for_those_who_are_away_or_stuck() {
    let mut pair = Pair::new(plan(&["a", "b", "c"], 1, 1), Weather::fair(), 1);
    pair.drive_until("training", |pair| training_in(pair, 1));
    pair.kill(0);
    // What b is sent from now on takes an hour.
    pair.drive_until("counted", |pair| pair.counted(1) == ["b", "c"]);
    pair.weather.bulk_ms = (3_600_000, 3_600_000);
    pair.drive_until("over", |pair| pair.server.outcome.is_some());
    assert!(matches!(
        pair.server.outcome,
        Some(Outcome::Finished { .. })
    ));
    assert!(pair.now - pair.began < Duration::from_secs(30));
    assert!(pair.codes("b").contains(&CloseCode::Stalled));
}

/// F2: a participant that keeps coming back and taking nothing does not keep the run from its end for ever.
#[test]
fn the_end_does_not_wait_beyond_the_hard_deadline_for_one_that_comes_and_goes() {
    let mut pair = Pair::new(plan(&["a"], 1, 1), Weather::fair(), 1);
    pair.drive_until("counted", |pair| pair.counted(1) == ["a"]);
    let counted = pair.now;
    pair.weather.cut_bulk = 1000;
    pair.weather.damage = 1000;
    pair.drive_until("over", |pair| pair.server.outcome.is_some());
    let waited = pair.now - counted;
    assert!(waited < Duration::from_secs(140), "{waited:?}");
    assert!(Duration::from_secs(100) < waited, "{waited:?}");
}

/// The only participant was told of the end, and the final adapter is slow to come.
fn final_adapter_is_on_its_way() -> Pair {
    let mut pair = Pair::new(plan(&["a"], 1, 1), Weather::fair(), 1);
    pair.drive_until("counted", |pair| pair.counted(1) == ["a"]);
    pair.weather.bulk_ms = (3_600_000, 3_600_000);
    pair.drive_until("told", |pair| {
        let is_end = |(_, message): &(_, ToClient)| matches!(message, ToClient::Finished { .. });
        pair.server.sent.iter().any(is_end)
    });
    pair
}

/// F2: a participant that takes a little of the final adapter now and then does not keep the run from its end for ever; one that takes
/// it as slowly as an update may come is waited for.
#[test]
fn the_end_does_not_wait_for_days_for_one_that_sips_the_final_adapter() {
    let mut pair = final_adapter_is_on_its_way();
    let (told, connection) = (pair.now, pair.sites[0].connection.expect("a is there"));
    while pair.server.outcome.is_none() {
        assert!(pair.now - told < Duration::from_secs(600));
        pair.wait(Duration::from_secs(10));
        let now = pair.now;
        pair.coordinator.handle_transfer_progress(connection, now);
    }
    // A mebibyte at 4 KiB a second, which is longer than the hard deadline.
    let waited = pair.now - told;
    assert!(waited.as_secs().abs_diff(256) <= 10, "{waited:?}");
    assert!(pair.codes("a").contains(&CloseCode::Stalled));
    assert!(matches!(
        pair.server.outcome,
        Some(Outcome::Finished { .. })
    ));
}

/// F5: what a participant said last may be lost with its connection; that it left is not.
#[test]
fn the_end_does_not_wait_for_one_that_closed_with_its_last_word() {
    let mut pair = final_adapter_is_on_its_way();
    let connection = pair.sites[0].connection.expect("a is there");
    let left = pair.now;
    pair.coordinator.handle_left(connection, left);
    pair.act();
    assert!(matches!(
        pair.server.outcome,
        Some(Outcome::Finished { .. })
    ));
}

/// F3: stopping the server tells the participants to come back later.
#[test]
fn a_stopped_server_ends_the_run_and_participants_try_again_until_their_patience_ends() {
    let mut pair = Pair::new(plan(&["a", "b"], 1, 1), Weather::fair(), 1);
    pair.drive_until("training", |pair| training_in(pair, 1));
    pair.coordinator.stop();
    pair.weather.dial_fails = 1000;
    let stopped = pair.now;
    pair.drive();
    assert_eq!(failure(&pair), Some(RunFailure::Stopped));
    for site in &pair.sites {
        assert_eq!(site.outcome, Some(participant::Outcome::ServerAway));
        let codes = pair.codes(site.name.as_str());
        assert_eq!(codes, [CloseCode::ServerStopping]);
    }
    assert_eq!((pair.now - stopped).as_secs(), 600);
}

/// F4: a participant that comes after the end is told so.
#[test]
fn a_participant_that_comes_after_the_end_is_told_so() {
    let mut pair = Pair::new(plan(&["a", "b"], 1, 1), Weather::fair(), 1);
    pair.drive_until("training", |pair| training_in(pair, 1));
    pair.kill(1);
    pair.drive();
    pair.restart(1);
    pair.drive();
    assert_eq!(
        pair.sites[1].outcome,
        Some(participant::Outcome::Closed(CloseCode::Finished))
    );
}
