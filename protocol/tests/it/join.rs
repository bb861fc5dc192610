//! Joining and the start of a run (rules J1 to J11).

use std::time::Duration;

use protocol::close::{CloseCode, RunFailure};
use protocol::coordinator::{Action, Outcome};
use protocol::message::{Capabilities, ToClient, ToServer};
use protocol::plan::{EwcPlace, EwcPlan, Participants};
use protocol::{ConnectionId, Digest, Round, Text};

use super::pair::{Pair, Weather, an_instant, content, coordinator, name, plan};

fn hello(version: u32) -> ToServer {
    ToServer::Hello {
        version,
        software: Text::new("x"),
        capabilities: Capabilities::NONE,
    }
}

/// The close codes among the actions that wait.
fn closes(coordinator: &mut protocol::coordinator::Coordinator) -> Vec<(u64, CloseCode)> {
    let mut codes = Vec::new();
    while let Some(action) = coordinator.poll_action() {
        if let Action::Close {
            connection, code, ..
        } = action
        {
            codes.push((connection.0, code));
        }
    }
    codes
}

/// J1: Hello comes first, once.
#[test]
fn anything_before_hello_and_a_second_hello_end_the_connection() {
    let now = an_instant();
    let plan = plan(&["a", "b"], 1, 1).check().unwrap();
    let mut coordinator = coordinator(&plan, None, now);
    let early = ToServer::Ready {
        plan: plan.digest(),
        holds: Vec::new(),
        begun: Vec::new(),
        recorded: Round(0),
    };
    coordinator.handle_connected(ConnectionId(1), name("a"), now);
    coordinator.handle_message(ConnectionId(1), early, now);
    coordinator.handle_connected(ConnectionId(2), name("b"), now);
    coordinator.handle_message(ConnectionId(2), hello(1), now);
    coordinator.handle_message(ConnectionId(2), hello(1), now);
    let expected = [(1, CloseCode::Unexpected), (2, CloseCode::Unexpected)];
    assert_eq!(closes(&mut coordinator), expected);
}

/// J2: another protocol version is refused by name.
#[test]
fn another_protocol_version_ends_the_connection() {
    let now = an_instant();
    let mut coordinator = coordinator(&plan(&["a"], 1, 1).check().unwrap(), None, now);
    coordinator.handle_connected(ConnectionId(1), name("a"), now);
    coordinator.handle_message(ConnectionId(1), hello(2), now);
    let mut violation = None;
    while let Some(action) = coordinator.poll_action() {
        if let Action::Close {
            code,
            violation: found,
            ..
        } = action
        {
            violation = found.map(|found| (code, found.to_string()));
        }
    }
    let sentence = "the participant broke the protocol: protocol version 2, expected 1".to_owned();
    assert_eq!(violation, Some((CloseCode::VersionMismatch, sentence)));
}

/// J3: Ready and Decline name the plan of this run.
#[test]
fn agreeing_to_another_plan_ends_the_connection() {
    let now = an_instant();
    let mut coordinator = coordinator(&plan(&["a", "b"], 1, 1).check().unwrap(), None, now);
    let other = Digest::of(b"another plan");
    coordinator.handle_connected(ConnectionId(1), name("a"), now);
    coordinator.handle_message(ConnectionId(1), hello(1), now);
    coordinator.handle_message(
        ConnectionId(1),
        ToServer::Ready {
            plan: other,
            holds: vec![],
            begun: Vec::new(),
            recorded: Round(0),
        },
        now,
    );
    coordinator.handle_connected(ConnectionId(2), name("b"), now);
    coordinator.handle_message(ConnectionId(2), hello(1), now);
    let decline = ToServer::Decline {
        plan: other,
        reason: Text::default(),
    };
    coordinator.handle_message(ConnectionId(2), decline, now);
    let expected = [(1, CloseCode::WrongPlan), (2, CloseCode::WrongPlan)];
    assert_eq!(closes(&mut coordinator), expected);
}

/// J4: who the plan does not name, or for whom there is no room, is told so at once.
#[test]
fn a_stranger_and_one_too_many_are_closed_by_name() {
    let now = an_instant();
    let mut named = coordinator(&plan(&["a"], 1, 1).check().unwrap(), None, now);
    named.handle_connected(ConnectionId(1), name("mallory"), now);
    assert_eq!(closes(&mut named), [(1, CloseCode::NotInCohort)]);

    let mut open = plan(&[], 1, 1);
    open.cohort.participants = Participants::Any;
    open.limits.participants_max = 1;
    let mut open = coordinator(&open.check().unwrap(), None, now);
    open.handle_connected(ConnectionId(1), name("a"), now);
    open.handle_connected(ConnectionId(2), name("b"), now);
    assert_eq!(closes(&mut open), [(2, CloseCode::Full)]);
}

/// J5: the run starts as soon as every named participant is ready or has declined.
#[test]
fn the_run_starts_when_the_whole_cohort_has_answered() {
    let mut pair = Pair::new(plan(&["a", "b", "c"], 2, 1), Weather::fair(), 1);
    pair.sites[2].declines = true;
    pair.drive_until("round 1", |pair| pair.coordinator.open_round().is_some());
    assert!(pair.now - pair.began < Duration::from_secs(1));
    assert_eq!(pair.codes("c"), [CloseCode::Declined]);
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
    assert_eq!(pair.server.summaries[0].missing, [name("c")]);
}

/// J6: after the join deadline a quorum is enough.
#[test]
fn the_run_starts_with_a_quorum_after_the_join_deadline() {
    let mut pair = Pair::new(plan(&["a", "b", "c"], 2, 1), Weather::fair(), 1);
    pair.kill(2);
    pair.drive_until("round 1", |pair| pair.coordinator.open_round().is_some());
    assert_eq!(pair.now - pair.began, Duration::from_secs(10));
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
}

/// J7: without a quorum the run fails at the hard deadline.
#[test]
fn too_few_that_join_fail_the_run_at_the_hard_deadline() {
    let mut pair = Pair::new(plan(&["a", "b", "c"], 2, 1), Weather::fair(), 1);
    pair.kill(1);
    pair.kill(2);
    pair.drive();
    assert_eq!(pair.now - pair.began, Duration::from_millis(120_010));
    let Some(Outcome::Failed { reason, detail }) = &pair.server.outcome else {
        panic!("{:?}", pair.server.outcome);
    };
    assert_eq!(*reason, RunFailure::TooFewJoined);
    assert_eq!(detail.as_str(), "1 joined within 120s, the quorum is 2");
    assert!(pair.sites[0].outcome.as_ref().unwrap().is_temporary());
}

/// J8: when too many decline, nobody is kept waiting.
#[test]
fn a_quorum_that_declines_fails_the_run_at_once() {
    let mut pair = Pair::new(plan(&["a", "b", "c"], 2, 1), Weather::fair(), 1);
    pair.sites[1].declines = true;
    pair.sites[2].declines = true;
    pair.drive();
    assert!(pair.now - pair.began < Duration::from_secs(1));
    let failed = |outcome: &Option<Outcome>| {
        matches!(
            outcome,
            Some(Outcome::Failed {
                reason: RunFailure::QuorumOutOfReach,
                ..
            })
        )
    };
    assert!(failed(&pair.server.outcome));
}

/// J9: a newer connection of the same participant supersedes the older one.
#[test]
fn a_newer_connection_supersedes_the_older_one() {
    let now = an_instant();
    let mut coordinator = coordinator(&plan(&["a"], 1, 1).check().unwrap(), None, now);
    coordinator.handle_connected(ConnectionId(1), name("a"), now);
    coordinator.handle_connected(ConnectionId(2), name("a"), now);
    assert_eq!(closes(&mut coordinator), [(1, CloseCode::Superseded)]);
    // What the old connection still brings is ignored, and so is its end.
    coordinator.handle_message(
        ConnectionId(1),
        ToServer::Leave {
            reason: Text::default(),
        },
        now,
    );
    coordinator.handle_disconnected(ConnectionId(1), now);
    assert_eq!(coordinator.poll_action(), None);
    assert_eq!(coordinator.participant(ConnectionId(2)), Some(&name("a")));
}

/// J10: a connection that says nothing is closed.
#[test]
fn a_silent_connection_is_closed() {
    let now = an_instant();
    let mut coordinator = coordinator(&plan(&["a"], 1, 1).check().unwrap(), None, now);
    coordinator.handle_connected(ConnectionId(1), name("a"), now);
    assert_eq!(
        coordinator.poll_timeout(),
        Some(now + Duration::from_secs(10))
    );
    coordinator.handle_timeout(now + Duration::from_secs(10));
    assert_eq!(closes(&mut coordinator), [(1, CloseCode::Silent)]);
}

/// J10: nor is one waited for that never says what it thinks of the plan.
#[test]
fn a_connection_that_neither_agrees_nor_declines_is_closed_at_the_hard_deadline() {
    let now = an_instant();
    let plan = plan(&["a", "b"], 1, 1).check().unwrap();
    let mut coordinator = coordinator(&plan, None, now);
    let deadline = now + plan.cohort.hard_deadline;
    for (connection, who) in [(1, "a"), (2, "b")] {
        coordinator.handle_connected(ConnectionId(connection), name(who), now);
        coordinator.handle_message(ConnectionId(connection), hello(1), now);
    }
    let ready = ToServer::Ready {
        plan: plan.digest(),
        holds: Vec::new(),
        begun: Vec::new(),
        recorded: Round(0),
    };
    // Just before, so that b, which is asked in the first round then, owes nothing yet.
    let before = deadline - Duration::from_millis(1);
    coordinator.handle_message(ConnectionId(2), ready, before);
    assert_eq!(closes(&mut coordinator), []);
    assert_eq!(coordinator.poll_timeout(), Some(deadline));
    coordinator.handle_timeout(deadline);
    assert_eq!(closes(&mut coordinator), [(1, CloseCode::Silent)]);
}

/// J11: the anchor goes to those who need it and lack it.
#[test]
fn the_anchor_is_sent_only_to_those_who_lack_it() {
    let now = an_instant();
    let anchor = content("anchor");
    let mut plan = plan(&["a", "b"], 2, 1);
    plan.ewc = Some(EwcPlan {
        lambda: 1.0,
        place: EwcPlace::Client,
        anchor: anchor.sha256,
    });
    let plan = plan.check().unwrap();
    let mut coordinator = coordinator(&plan, Some(anchor), now);
    for (connection, who, holds) in [(1, "a", vec![]), (2, "b", vec![anchor.sha256])] {
        let connection = ConnectionId(connection);
        coordinator.handle_connected(connection, name(who), now);
        coordinator.handle_message(connection, hello(1), now);
        let ready = ToServer::Ready {
            plan: plan.digest(),
            holds,
            begun: Vec::new(),
            recorded: Round(0),
        };
        coordinator.handle_message(connection, ready, now);
    }
    let (mut anchors, mut asked) = (Vec::new(), Vec::new());
    while let Some(action) = coordinator.poll_action() {
        match action {
            Action::SendTransfer { connection, header } if header.sha256 == anchor.sha256 => {
                anchors.push(connection.0);
            }
            Action::Send {
                connection,
                message: ToClient::Train { .. },
            } => asked.push(connection.0),
            _ => {}
        }
    }
    assert_eq!((anchors, asked), (vec![1], vec![1, 2]));
}
