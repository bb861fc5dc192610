//! The server's process is killed and goes on from what was written down (rules D1 to D6).

use std::time::Duration;

use protocol::close::CloseCode;
use protocol::coordinator::{Coordinator, Entry, History, Late, Outcome};
use protocol::participant;
use protocol::{Round, Text};

use super::pair::{Pair, Weather, name, plan};

const NAMES: [&str; 3] = ["a", "b", "c"];

fn pair() -> Pair {
    Pair::new(plan(&NAMES, 3, 2), Weather::fair(), 1)
}

/// D1: before whichever action the process dies, the run comes to what it would have come to, and nobody trains twice.
#[test]
fn a_server_killed_before_any_of_its_actions_counts_every_update_once() {
    let mut whole = pair();
    whole.drive();
    let actions = whole.server.actions;
    assert!(60 < actions, "{actions} actions");
    for before in 0..actions {
        let mut pair = pair();
        pair.crash_before = Some(before);
        pair.drive();
        assert_eq!(pair.server.crashes, 1, "before action {before}");
        let outcome = pair.server.outcome.as_ref();
        assert_eq!(
            outcome,
            whole.server.outcome.as_ref(),
            "before action {before}"
        );
        let (chain, expected) = (pair.chain(), whole.chain());
        assert_eq!(chain, expected, "before action {before}");
        for round in 1..=2 {
            assert_eq!(pair.counted(round), NAMES, "before action {before}");
        }
        for site in &pair.sites {
            let expected = [Round(1), Round(2)];
            assert_eq!(
                site.trainings, expected,
                "{} before action {before}",
                site.name
            );
            let ended = matches!(site.outcome, Some(participant::Outcome::Finished { .. }));
            assert!(
                ended,
                "{} before action {before}: {:?}",
                site.name, site.outcome
            );
        }
    }
}

/// D2: the round waits for those whom the restart sent away, though the quorum is there.
#[test]
fn a_restarted_round_waits_for_those_who_were_at_work() {
    let mut pair = Pair::new(plan(&NAMES, 1, 1), Weather::fair(), 1);
    pair.drive_until("training", |pair| {
        pair.sites.iter().all(|site| !site.trainings.is_empty())
    });
    pair.weather.train_ms = (8000, 8000);
    pair.kill(2);
    pair.restart(2);
    pair.drive_until("two are counted", |pair| pair.counted(1).len() == 2);
    pair.crash();
    assert_eq!(pair.coordinator.open_round(), Some(Round(1)));
    pair.drive();
    assert_eq!(pair.counted(1), NAMES);
}

/// D2: but not for ever.
#[test]
fn who_does_not_come_back_is_waited_for_until_the_join_deadline() {
    let mut pair = Pair::new(plan(&NAMES, 2, 1), Weather::fair(), 1);
    pair.drive_until("training", |pair| {
        pair.sites.iter().all(|site| !site.trainings.is_empty())
    });
    pair.kill(2);
    pair.drive_until("two are counted or closed", |pair| {
        pair.counted(1).len() == 2
    });
    pair.crash();
    let restarted = pair.now;
    pair.drive_until("closed", |pair| !pair.server.summaries.is_empty());
    let waited = pair.now - restarted;
    assert!(waited <= Duration::from_secs(10), "{waited:?}");
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
    assert!(matches!(
        pair.server.outcome,
        Some(Outcome::Finished { .. })
    ));
}

/// D3: a refusal is not forgotten either.
#[test]
fn a_refused_update_stays_refused_after_a_restart() {
    let mut pair = Pair::new(plan(&NAMES, 2, 1), Weather::fair(), 1);
    pair.hold_folds = true;
    pair.drive_until("a is with the owner", |pair| pair.server.is_with_owner("a"));
    pair.refuse("a");
    pair.hold_folds = false;
    pair.act();
    pair.crash();
    pair.drive();
    assert_eq!(pair.counted(1), ["b", "c"]);
    assert_eq!(pair.sites[0].trainings, [Round(1)]);
}

/// D4: a history says nothing about rounds that are over.
#[test]
fn entries_of_other_rounds_change_nothing() {
    let mut history = History::default();
    history.note(Entry::Opened { round: Round(1) });
    history.round_done();
    let done = history.clone();
    history.note(Entry::Closed { round: Round(1) });
    history.note(Entry::Opened { round: Round(3) });
    history.note(Entry::Refused {
        participant: name("a"),
        round: Round(1),
        reason: protocol::close::RefusalReason::Late,
    });
    assert_eq!(history, done);
    assert_eq!(history.round(), Round(2));
}

/// D5: of two participants one had the final adapter when the server was killed before writing that down, and is gone; the
/// other is still away. Who comes back in time is served, and the end waits a minute for who does not.
#[test]
fn a_restart_after_the_last_round_waits_a_minute_for_those_whose_last_word_was_lost() {
    for comes_back in [false, true] {
        let mut plan = plan(&["a", "b"], 2, 1);
        plan.cohort.join_deadline = Duration::from_secs(600);
        plan.cohort.hard_deadline = Duration::from_secs(3600);
        let mut pair = Pair::new(plan, Weather::fair(), 1);
        pair.drive_until("done", |pair| pair.server.history.rounds_done == 1);
        assert_eq!(pair.server.history.joined.len(), 2);
        pair.kill(0);
        pair.kill(1);
        pair.crash();
        let restarted = pair.now;
        if comes_back {
            pair.restart(1);
        }
        pair.drive_until("over", |pair| pair.server.outcome.is_some());
        assert!(matches!(
            pair.server.outcome,
            Some(Outcome::Finished { rounds: 1, .. })
        ));
        assert_eq!(pair.now - restarted, Duration::from_secs(60));
        let has_adapter = matches!(
            pair.sites[1].outcome,
            Some(participant::Outcome::Finished { .. })
        );
        assert_eq!(has_adapter, comes_back);
    }
}

/// D6: the server is killed before it has written down that `c` leaves, whatever it was doing; it hears that again from `c`, and
/// the round does not wait for it.
#[test]
fn a_participant_whose_leave_died_with_the_server_says_it_again() {
    let mut forgotten = 0;
    for after in 0..8 {
        let mut plan = plan(&NAMES, 2, 1);
        plan.cohort.join_deadline = Duration::from_secs(600);
        plan.cohort.soft_deadline = Duration::from_secs(1000);
        plan.cohort.hard_deadline = Duration::from_secs(2000);
        let mut pair = Pair::new(plan, Weather::fair(), 1);
        pair.drive_until("training", |pair| {
            pair.sites.iter().all(|site| !site.trainings.is_empty())
        });
        let now = pair.now;
        pair.crash_before = Some(pair.server.actions + after);
        pair.sites[2].machine.leave(Text::new("enough"), now);
        pair.drive_until("killed", |pair| pair.server.crashes == 1);
        forgotten += u32::from(pair.server.history.joined.contains(&name("c")));
        pair.drive();
        let left = Some(participant::Outcome::Left);
        assert_eq!(pair.sites[2].outcome, left, "{after} actions after");
        assert_eq!(pair.counted(1), ["a", "b"], "{after} actions after");
        let took = pair.now - now;
        assert!(
            took < Duration::from_secs(20),
            "{took:?}, {after} actions after"
        );
    }
    assert!(0 < forgotten && forgotten < 8, "{forgotten} of 8");
}

/// D6: but not for ever, nor where it was heard, or where a newer process of its own is there.
#[test]
fn a_participant_that_leaves_ends_once_it_was_heard_or_after_a_while() {
    let mut pair = pair();
    pair.drive_until("training", |pair| {
        pair.sites.iter().all(|site| !site.trainings.is_empty())
    });
    let now = pair.now;
    let [lost, heard, superseded] = &mut pair.sites[..] else {
        panic!("three sites");
    };
    for (site, code) in [
        (heard, CloseCode::Left),
        (superseded, CloseCode::Superseded),
    ] {
        site.machine.leave(Text::new("enough"), now);
        site.machine.handle_disconnected(Some(code), now);
        assert!(site.machine.is_over(), "{code:?}");
    }
    let machine = &mut lost.machine;
    machine.leave(Text::new("enough"), now);
    machine.handle_disconnected(None, now);
    // Nobody answers, and it tries again every two seconds at the least.
    let until = now + Duration::from_secs(45);
    let mut at = now;
    for _ in 0..20 {
        let next = machine.poll_timeout().unwrap();
        assert!(next <= at + Duration::from_secs(2));
        at = next;
        machine.handle_timeout(at);
        machine.handle_connect_failed(at);
    }
    machine.handle_timeout(until - Duration::from_millis(1));
    assert_eq!(
        (machine.is_over(), machine.poll_timeout()),
        (false, Some(until))
    );
    machine.handle_timeout(until);
    assert!(machine.is_over());
}

/// D4: the standing entries of a history are as few as can be, and come to the same.
#[test]
fn who_takes_part_and_who_is_late_is_said_by_as_few_entries_as_can_be() {
    let mut history = History::default();
    let late = Late {
        round: Round(2),
        global: protocol::Digest([3; 32]),
    };
    for participant in NAMES.map(name) {
        history.note(Entry::Joined {
            participant: participant.clone(),
        });
        history.note(Entry::Postponed { participant, late });
    }
    history.note(Entry::LateSettled {
        participant: name("b"),
    });
    history.note(Entry::Parted {
        participant: name("c"),
    });
    let standing = history.standing();
    assert_eq!(standing.len(), 3);
    let mut again = History::default();
    standing.into_iter().for_each(|entry| again.note(entry));
    assert_eq!(again, history);
}

/// D4: a run whose last round is done only hands its adapter over.
#[test]
fn a_run_that_was_done_ends_at_once_if_nobody_needs_the_adapter() {
    let mut pair = pair();
    pair.drive();
    let history = pair.server.history.clone();
    assert!(history.joined.is_empty());
    let setup = pair.setup();
    let mut again = Coordinator::resume(setup, history, pair.now).unwrap();
    let first = again.poll_action();
    assert!(
        matches!(
            first,
            Some(protocol::coordinator::Action::End(Outcome::Finished { .. }))
        ),
        "{first:?}"
    );
}
