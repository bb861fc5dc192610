//! Who is asked when not everybody is, and what becomes of updates that are late (rules E1, E2 and L1 to L5).

use std::time::Duration;

use protocol::close::RefusalReason;
use protocol::coordinator::{Outcome, Report};
use protocol::message::{Metrics, ToClient, ToServer, TransferHeader};
use protocol::participant;
use protocol::plan::{Download, LatePolicy, RunPlan};
use protocol::{Digest, Round};

use super::pair::{Pair, Weather, content, name, plan};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn late(mut plan: RunPlan, rounds_max: u32) -> RunPlan {
    plan.cohort.late = LatePolicy::LaterRound { rounds_max };
    plan
}

/// Names asked in a round, in the order in which they were asked.
fn asked(pair: &Pair, round: u32) -> Vec<String> {
    let asked = |(to, message): &(protocol::ParticipantName, ToClient)| match message {
        ToClient::Train { global } if global.round == Round(round) => Some(to.to_string()),
        _ => None,
    };
    pair.server.sent.iter().filter_map(asked).collect()
}

fn postponed(pair: &Pair, who: &str) -> Vec<(Round, Round)> {
    let of = |(to, message): &(protocol::ParticipantName, ToClient)| match message {
        ToClient::Postponed { round, until } if to.as_str() == who => Some((*round, *until)),
        _ => None,
    };
    pair.server.sent.iter().filter_map(of).collect()
}

/// Two participants of which `a` is slow: the first of `rounds` rounds is over without it, and the next is open.
fn one_is_late(rounds: u32, rounds_max: u32) -> Pair {
    one_is_late_of(None, rounds, rounds_max)
}

/// As [`one_is_late`], under a plan that asks this many.
fn one_is_late_of(select: Option<u32>, rounds: u32, rounds_max: u32) -> Pair {
    let mut plan = late(plan(&["a", "b"], 1, rounds), rounds_max);
    plan.cohort.select = select;
    plan.cohort.enough = Some(1);
    let mut pair = Pair::new(plan, Weather::fair(), 1);
    pair.sites[0].manual = true;
    pair.drive_until("closed without a", |pair| pair.counted(1) == ["b"]);
    pair.sites[1].manual = true;
    pair.drive_until("next round", |pair| {
        pair.coordinator.open_round() == Some(Round(2))
    });
    pair
}

/// The slow one has finished: its machine offers the update, and the bytes follow as soon as they are asked for.
fn finish(pair: &mut Pair, site: usize, round: u32) {
    let metrics = Metrics::default();
    pair.sites[site].manual = false;
    let update = content(&format!("late update of {site}"));
    pair.sites[site]
        .machine
        .trained(Round(round), update, 3, metrics)
        .unwrap();
}

/// Who is asked in each of six rounds for three of five.
fn drawn(download: Download, seed: u64) -> Vec<Vec<String>> {
    let mut pair = Pair::new(three_of_five(download), Weather::fair(), seed);
    pair.drive();
    (1..=6).map(|round| asked(&pair, round)).collect()
}

fn three_of_five(download: Download) -> RunPlan {
    let mut plan = plan(&NAMES, 2, 6);
    plan.cohort.select = Some(3);
    plan.download = download;
    plan
}

/// E1: a round asks as many as the plan selects, others in other rounds, and the same ones on any machine.
#[test]
fn a_round_asks_those_who_are_drawn_and_not_always_the_same() {
    let first = drawn(Download::Whole, 1);
    assert!(first.iter().all(|names| names.len() == 3), "{first:?}");
    let mut all: Vec<_> = first.iter().flatten().collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5, "everybody is asked some time: {first:?}");
    let again = drawn(Download::Whole, 2);
    assert_eq!(first, again, "the network has no part in it");
}

/// E1: the lot is a SHA-256 that anybody can compute, and does not depend on how adapters travel.
#[test]
fn the_lowest_lots_are_drawn_and_how_adapters_come_has_no_part_in_it() {
    let plan = three_of_five(Download::Whole).check().unwrap();
    let lot = |round: u32, name: &str| {
        let parts: [&[u8]; 4] = [
            b"foedus/lot/1",
            &plan.digest().0,
            &round.to_le_bytes(),
            name.as_bytes(),
        ];
        Digest::of(&parts.concat()).0
    };
    let lowest = |round: u32| {
        let mut names = NAMES;
        names.sort_by_key(|name| lot(round, name));
        names[..3].to_vec()
    };
    let lowest: Vec<_> = (1..=6).map(lowest).collect();
    for download in [Download::Whole, Download::Delta] {
        assert_eq!(drawn(download, 1), lowest, "{download:?}");
    }
}

/// Two of five are drawn for the first round and asked; a test trains for them.
fn two_are_drawn() -> Pair {
    let mut plan = plan(&NAMES, 2, 1);
    plan.cohort.select = Some(2);
    let mut pair = Pair::new(plan, Weather::fair(), 1);
    for site in &mut pair.sites {
        site.manual = true;
    }
    pair.drive_until("asked", |pair| asked(pair, 1).len() == 2);
    pair
}

/// E1: in the place of one that is gone another is asked.
#[test]
fn the_next_is_asked_in_the_place_of_one_that_is_refused_or_gone() {
    let mut pair = two_are_drawn();
    let first = pair.site(&asked(&pair, 1)[0]);
    pair.kill(first);
    pair.drive_until("another is asked", |pair| asked(pair, 1).len() == 3);
    pair.wait(Duration::from_secs(5));
    assert_eq!(asked(&pair, 1).len(), 3);
}

/// E1, R3: who was not drawn is told so, whether it offers first or just sends, and has no part in the round any more.
#[test]
fn one_that_was_not_drawn_is_refused_by_name_and_not_asked_afterwards() {
    let mut pair = two_are_drawn();
    let drawn = asked(&pair, 1);
    let idle: Vec<_> = NAMES
        .into_iter()
        .filter(|name| !drawn.iter().any(|drawn| drawn == name))
        .collect();
    let [offers, sends, waits] = idle[..] else {
        panic!("{drawn:?} of five were drawn");
    };
    let update = |pair: &Pair, of: &str| {
        let plan = pair.plan.digest();
        TransferHeader::update(&name(of), Round(1), plan, content("not asked for"))
    };
    for (who, is_offered) in [(offers, true), (sends, false)] {
        let (site, transfer) = (pair.site(who), update(&pair, who));
        pair.sites[site].puppet = true;
        let (weight, metrics) = (1, Metrics::default());
        let offer = ToServer::Offer {
            transfer,
            weight,
            metrics,
        };
        if is_offered {
            pair.say(site, offer.clone());
        }
        pair.pour(site, transfer);
        pair.say(site, offer);
        pair.wait(Duration::from_millis(30));
        let times = 2 + usize::from(is_offered);
        assert_eq!(pair.refusals(who), vec![RefusalReason::NotInRound; times]);
    }
    // In the place of those that were drawn only the one that kept quiet is asked.
    for who in &drawn {
        pair.kill(pair.site(who));
    }
    pair.wait(Duration::from_secs(5));
    assert_eq!(asked(&pair, 1)[2..], [waits]);
    assert!(pair.counted(1).is_empty());
}

/// E2: a round closes with enough updates, and says so to those who are still at work.
#[test]
fn a_round_closes_with_enough_updates() {
    let mut plan = plan(&NAMES, 2, 1);
    plan.cohort.enough = Some(3);
    let mut pair = Pair::new(plan, Weather::fair(), 1);
    pair.sites[0].manual = true;
    pair.sites[1].manual = true;
    pair.drive();
    assert_eq!(pair.counted(1), ["c", "d", "e"]);
    for who in ["a", "b"] {
        assert_eq!(pair.refusals(who), [RefusalReason::Late]);
    }
    let time = pair.now - pair.began;
    assert!(
        time < Duration::from_secs(10),
        "no deadline passed: {time:?}"
    );
}

/// L1: a late update counts in the round that is open when it arrives, and its participant is not asked meanwhile.
#[test]
fn a_late_update_counts_in_the_next_round_once() {
    let mut pair = one_is_late(3, 2);
    assert_eq!(postponed(&pair, "a"), [(Round(1), Round(3))]);
    let told = Report::Postponed {
        participant: name("a"),
        round: Round(1),
        until: Round(3),
    };
    assert!(pair.server.reports.contains(&told));
    assert_eq!(asked(&pair, 2), ["b"]);
    finish(&mut pair, 0, 1);
    pair.drive_until("counted", |pair| pair.counted(2) == ["a"]);
    pair.drive();
    assert_eq!(pair.server.summaries[1].accepted[0].rounds_late, 1);
    assert_eq!(pair.sites[0].trainings, [Round(1), Round(3)]);
    assert!(pair.refusals("a").is_empty());
    assert!(matches!(
        pair.server.outcome,
        Some(Outcome::Finished { rounds: 3, .. })
    ));
}

/// L1: an update that is on its way while the round closes, or while its adapter is formed, is not sent again.
#[test]
fn an_update_that_arrives_while_the_round_is_aggregated_counts_in_the_next() {
    let mut plan = late(plan(&["a", "b"], 1, 2), 1);
    plan.cohort.enough = Some(1);
    // The bytes of a take longer than those of b, and the adapter takes longest.
    let weather = Weather {
        fold_ms: (2000, 2000),
        ..Weather::fair()
    };
    let mut pair = Pair::new(plan, weather, 1);
    pair.sites[0].manual = true;
    pair.drive_until("b is with the server", |pair| {
        pair.server.is_with_owner("b")
    });
    finish(&mut pair, 0, 1);
    pair.sites[0].manual = true;
    pair.drive_until("asked for", |pair| !pair.sites[0].delivered.is_empty());
    let header = pair.sites[0].delivered[0];
    pair.drive_until("aggregating", |pair| {
        pair.server.summaries.len() == 1 && pair.coordinator.open_round().is_none()
    });
    pair.pour(0, header);
    pair.sites[0].manual = false;
    pair.drive();
    assert_eq!(pair.counted(1), ["b"]);
    assert_eq!(pair.sites[0].delivered.len(), 1);
    let late = &pair.server.summaries[1].accepted[0];
    assert_eq!((late.participant.as_str(), late.rounds_late), ("a", 1));
}

/// L2: an update that is older than the plan allows, or later than the last round, is refused as late.
#[test]
fn an_update_that_is_too_late_is_refused_and_named() {
    let mut pair = one_is_late(4, 1);
    pair.sites[1].manual = false;
    finish(&mut pair, 1, 2);
    pair.drive_until("the round after", |pair| {
        pair.coordinator.open_round() == Some(Round(3))
    });
    pair.drive_until("told", |pair| pair.refusals("a") == [RefusalReason::Late]);
    assert_eq!(asked(&pair, 3), ["a", "b"], "it is free again");

    let mut pair = one_is_late(2, 5);
    finish(&mut pair, 1, 2);
    pair.drive_until("over", |pair| pair.server.outcome.is_some());
    assert_eq!(pair.refusals("a"), [RefusalReason::Late]);
}

/// L3: one that lost its connection, or its process, goes on with its late update if it still has it.
#[test]
fn a_late_participant_that_comes_back_goes_on_with_what_it_has() {
    for is_killed in [false, true] {
        let mut pair = one_is_late(2, 1);
        pair.weather.spool = true;
        if is_killed {
            // It had finished, and nobody heard of it.
            pair.trained_unheard(0, Round(1));
            pair.cut(0);
            pair.restart(0);
            pair.sites[0].manual = false;
        } else {
            pair.cut(0);
            pair.drive_until("told again", |pair| postponed(pair, "a").len() == 2);
            finish(&mut pair, 0, 1);
        }
        pair.drive_until("counted", |pair| pair.counted(2) == ["a"]);
        assert_eq!(asked(&pair, 2), ["b"], "killed: {is_killed}");
    }
}

/// L3: one that comes back with nothing is asked for the open round.
#[test]
fn a_late_participant_that_comes_back_with_nothing_is_asked_anew() {
    let mut pair = one_is_late(2, 1);
    pair.cut(0);
    pair.restart(0);
    pair.drive_until("asked", |pair| asked(pair, 2) == ["b", "a"]);
    assert!(pair.server.history.late.is_empty());
    pair.sites[0].manual = false;
    pair.drive_until("counted", |pair| pair.counted(2).contains(&"a"));
    assert_eq!(pair.sites[0].trainings, [Round(1), Round(2)]);
}

/// L3: one that comes back while its late update is with the owner waits for the answer, whatever it still has.
#[test]
fn a_late_participant_that_comes_back_while_its_update_is_folded_hears_the_answer() {
    for (is_restarted, is_refused) in [(true, false), (true, true), (false, false), (false, true)] {
        let case = format!("restarted: {is_restarted}, refused: {is_refused}");
        let mut pair = one_is_late(2, 1);
        pair.hold_folds = true;
        finish(&mut pair, 0, 1);
        pair.drive_until("with the owner", |pair| pair.server.is_with_owner("a"));
        pair.sites[0].manual = true;
        pair.cut(0);
        if is_restarted {
            // Nothing is left on its disk: its `Ready` holds nothing.
            pair.restart(0);
        }
        let is_a = |report: &&Report| matches!(report, Report::Joined { participant, .. } if *participant == name("a"));
        pair.drive_until("back", |pair| {
            pair.server.reports.iter().filter(is_a).count() == 2
        });
        pair.hold_folds = false;
        if is_refused {
            pair.refuse("a");
            finish(&mut pair, 1, 2);
        } else {
            pair.folded(name("a"));
        }
        assert_eq!(asked(&pair, 2), ["b"], "{case}");
        pair.drive();
        let counted = if is_refused { "b" } else { "a" };
        assert_eq!(pair.counted(2), [counted], "{case}");
        assert_eq!(!pair.refusals("a").is_empty(), is_refused, "{case}");
        let outcome = &pair.server.outcome;
        assert!(
            matches!(outcome, Some(Outcome::Finished { rounds: 2, .. })),
            "{case}: {outcome:?}"
        );
    }
}

/// L4: before whichever action the server dies, a late update counts once or its participant is told.
#[test]
fn a_server_killed_before_any_of_its_actions_keeps_what_it_said_about_late_updates() {
    let whole = |select: Option<u32>, crash_before: Option<u64>| {
        let mut plan = late(plan(&["a", "b", "c"], 1, 3), 2);
        plan.cohort.enough = Some(2);
        plan.cohort.select = select;
        let weather = Weather {
            train_ms: (100, 6000),
            fold_ms: (0, 500),
            ..Weather::fair()
        };
        let mut pair = Pair::new(plan, weather, 5);
        pair.crash_before = crash_before;
        pair.drive();
        pair
    };
    for select in [Some(3), None] {
        let calm = whole(select, None);
        let said = calm.server.sent.iter();
        let postponed = said.filter(|(_, message)| matches!(message, ToClient::Postponed { .. }));
        assert!(
            0 < postponed.count(),
            "nobody is late: the sample is of no use"
        );
        for before in 0..calm.server.actions {
            let pair = whole(select, Some(before));
            assert_eq!(pair.server.crashes, 1, "before action {before}");
            assert!(
                matches!(
                    pair.server.outcome,
                    Some(Outcome::Finished { rounds: 3, .. })
                ),
                "before action {before}, select {select:?}"
            );
        }
    }
}

/// L4: a server that is killed in an open round still knows who is late, also if its plan asks everybody.
#[test]
fn a_late_participant_is_not_forgotten_when_the_server_is_killed_in_an_open_round() {
    for select in [None, Some(2)] {
        let mut pair = one_is_late_of(select, 2, 1);
        pair.crash();
        pair.drive_until("told again", |pair| postponed(pair, "a").len() == 2);
        assert!(!asked(&pair, 2).contains(&"a".to_owned()), "{select:?}");
        finish(&mut pair, 0, 1);
        pair.drive_until("counted", |pair| pair.counted(2) == ["a"]);
        pair.drive();
        assert_eq!(pair.sites[0].trainings, [Round(1)], "{select:?}");
        assert_eq!(pair.server.summaries[1].accepted[0].rounds_late, 1);
    }
}

/// L5: one that is asked for another round before it heard what became of its update says so.
#[test]
fn an_update_that_was_never_answered_is_reported_by_its_participant() {
    let mut pair = Pair::new(plan(&["a", "b"], 1, 2), Weather::fair(), 1);
    pair.sites[0].manual = true;
    pair.drive_until("training", |pair| !pair.sites[0].trainings.is_empty());
    // Without its connection it does not hear that it is late.
    pair.cut(0);
    pair.drive_until("the next round", |pair| {
        pair.sites[0].trainings == [Round(1), Round(2)]
    });
    let unanswered = participant::Report::Unanswered { round: Round(1) };
    assert!(pair.sites[0].reports.contains(&unanswered));
}
