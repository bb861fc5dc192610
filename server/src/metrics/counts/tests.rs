use std::io;
use std::net::SocketAddr;

use protocol::identity::{Identity, Role};
use protocol::quic::{Closed, HandshakeError, PeerRefusal, RefusedPeer, Rejection};
use protocol::secagg::AttemptId;
use protocol::{Digest, Round};

use super::*;
use crate::metrics::health;
use crate::record::RoundRecord;

/// A run of two rounds over `north` and `south`, both of which must deliver, or over anybody.
pub(in crate::metrics) fn counts(named: &[&str], now: Instant) -> Counts {
    let facts = Facts {
        run: "trial".parse().unwrap(),
        plan: Digest([1; 32]),
        rounds: 2,
        quorum: 2,
        named: named.iter().map(|name| name.parse().unwrap()).collect(),
        expires: after_epoch(1000),
        revocations_due: Some(after_epoch(500)),
    };
    Counts::new(facts, now)
}

pub(in crate::metrics) fn after_epoch(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn name(name: &str) -> ParticipantName {
    name.parse().unwrap()
}

pub(in crate::metrics) fn connected(participant: &str, expires: u64) -> RunEvent {
    RunEvent::Connected {
        participant: name(participant),
        expires: after_epoch(expires),
    }
}

fn joined(participant: &str) -> RunEvent {
    RunEvent::Joined {
        participant: name(participant),
        software: "scripted 1".to_owned(),
    }
}

fn disconnected(participant: &str) -> RunEvent {
    RunEvent::Disconnected {
        participant: name(participant),
        how: "the peer fell silent".to_owned(),
    }
}

fn opened(round: u32) -> RunEvent {
    RunEvent::RoundOpened {
        round: Round(round),
        asked: vec![name("north"), name("south")],
    }
}

pub(in crate::metrics) fn accepted(participant: &str, round: u32) -> RunEvent {
    RunEvent::Accepted {
        participant: name(participant),
        round: Round(round),
    }
}

fn closed(round: u32, accepted: usize) -> RunEvent {
    RunEvent::RoundClosed {
        round: Round(round),
        accepted,
    }
}

fn finished(round: u32, seconds: f64) -> RunEvent {
    RunEvent::RoundFinished(Box::new(RoundRecord {
        round,
        seconds,
        participants: Vec::new(),
        refused: Vec::new(),
        missing: Vec::new(),
        update_norm: 0.1,
        inexactness: None,
        rule: None,
        rounding: 0.0,
        bytes_up: 3,
        bytes_down: 4,
        adapter_sha256: Digest([3; 32]).to_string(),
        ewc: None,
        secure: None,
        participant_privacy: None,
        turned_away: Vec::new(),
    }))
}

/// The end of a run that comes to it.
fn end() -> RunEvent {
    RunEvent::Finished {
        rounds: 2,
        adapter: Digest([3; 32]),
    }
}

#[test]
fn a_round_whose_sum_was_none_is_open_again() {
    let now = Instant::now();
    let mut counts = counts(&["north", "south"], now);
    counts.take(&opened(1), now);
    counts.take(&closed(1, 2), now);
    assert_eq!(
        (counts.phase, counts.round_accepted),
        (Phase::Aggregating, 2)
    );
    let failed = RunEvent::AttemptFailed {
        attempt: AttemptId {
            round: Round(1),
            number: 1,
        },
        reason: "its sum was not opened".to_owned(),
    };
    counts.take(&failed, now);
    assert_eq!((counts.phase, counts.round_accepted), (Phase::Open, 0));
    assert_eq!(counts.attempts_failed, 1);
}

#[test]
fn a_run_goes_through_its_phases() {
    let now = Instant::now();
    let mut counts = counts(&["north", "south"], now);
    let course = [
        (connected("north", 9), Phase::Joining),
        (joined("north"), Phase::Joining),
        (opened(1), Phase::Open),
        (accepted("north", 1), Phase::Open),
        (closed(1, 2), Phase::Aggregating),
        (finished(1, 20.0), Phase::Aggregating),
        (opened(2), Phase::Open),
        (closed(2, 2), Phase::Aggregating),
        (finished(2, 40.0), Phase::Finishing),
        (end(), Phase::Over),
    ];
    for (event, phase) in course {
        counts.take(&event, now);
        assert_eq!(counts.phase, phase, "{event:?}");
    }
    assert_eq!((counts.rounds_finished, counts.accepted), (2, 1));
    let rounds = (counts.round_seconds.count(), counts.round_seconds.sum());
    assert_eq!(rounds, (2, 60.0));
}

#[test]
fn health_says_where_the_run_stands() {
    let now = Instant::now();
    let mut counts = counts(&["north", "south"], now);
    counts.take(&connected("north", 9), now);
    let course = [
        (joined("north"), "ok: 1 joined, waiting for more"),
        (opened(1), "ok: round 1 of 2, 0 updates, the quorum is 2"),
        (
            accepted("north", 1),
            "ok: round 1 of 2, 1 updates, the quorum is 2",
        ),
        (closed(1, 2), "ok: round 1 of 2, aggregating"),
        (finished(2, 40.0), "ok: round 2 of 2 is done, finishing"),
        (end(), "ok: all 2 rounds are done"),
    ];
    for (event, line) in course {
        counts.take(&event, now);
        let said = health::of(&counts);
        assert_eq!(
            (said.is_well, said.line.as_str()),
            (true, line),
            "{event:?}"
        );
    }
}

#[test]
fn the_wait_for_a_quorum_runs_from_the_soft_deadline_to_the_update_that_makes_it() {
    let began = Instant::now();
    let at = |seconds| began + Duration::from_secs(seconds);
    let mut counts = counts(&["north", "south"], began);
    counts.take(&opened(1), began);
    let missing = RunEvent::QuorumMissing {
        round: Round(1),
        accepted: 0,
        quorum: 2,
    };
    counts.take(&missing, at(10));
    assert_eq!(counts.waited(at(12)), Duration::from_secs(2));
    counts.take(&accepted("north", 1), at(15));
    assert_eq!(counts.waited(at(16)), Duration::from_secs(6));
    counts.take(&accepted("south", 1), at(20));
    assert_eq!(counts.waited(at(99)), Duration::from_secs(10));
    counts.take(&closed(1, 2), at(21));
    counts.take(&opened(2), at(22));
    counts.take(&missing, at(30));
    let failed = RunEvent::Failed {
        reason: RunFailure::QuorumNotMet,
        detail: "round 2 has 0 updates".to_owned(),
    };
    counts.take(&failed, at(33));
    assert_eq!(counts.waited(at(99)), Duration::from_secs(13));
}

#[test]
fn an_update_that_comes_between_two_rounds_counts_in_the_later_one() {
    let now = Instant::now();
    let mut counts = counts(&[], now);
    for event in [opened(1), closed(1, 1), accepted("north", 2), opened(2)] {
        counts.take(&event, now);
    }
    assert_eq!((counts.round, counts.round_accepted), (2, 1));
}

#[test]
fn one_that_comes_back_before_its_old_connection_is_gone_stays_there() {
    let now = Instant::now();
    let mut counts = counts(&["north", "south"], now);
    for event in [
        connected("north", 9),
        joined("north"),
        connected("north", 9),
        joined("north"),
    ] {
        counts.take(&event, now);
    }
    assert_eq!(
        (counts.connected(), counts.joined(), counts.connections),
        (1, 1, 2)
    );
    counts.take(&disconnected("north"), now);
    assert_eq!((counts.connected(), counts.joined()), (1, 1));
    counts.take(&disconnected("north"), now);
    assert_eq!((counts.connected(), counts.joined()), (0, 0));
}

#[test]
fn a_stranger_is_forgotten_with_its_connection_and_a_named_one_is_not() {
    let now = Instant::now();
    let mut counts = counts(&["north"], now);
    for event in [connected("north", 9), connected("mallory", 8)] {
        counts.take(&event, now);
    }
    assert_eq!(counts.parties.len(), 2);
    for event in [disconnected("north"), disconnected("mallory")] {
        counts.take(&event, now);
    }
    let left: Vec<_> = counts.parties.keys().map(ParticipantName::as_str).collect();
    assert_eq!(left, ["north"]);
    assert_eq!(counts.parties[&name("north")].expires, Some(after_epoch(9)));
}

#[test]
fn a_run_that_is_resumed_goes_on_in_the_phase_that_it_was_in() {
    let now = Instant::now();
    let resumed = |round, accepted, is_open| {
        let mut counts = counts(&["north", "south"], now);
        let round = Round(round);
        let event = RunEvent::Resumed {
            round,
            accepted,
            is_open,
        };
        counts.take(&event, now);
        (
            counts.phase,
            counts.round,
            counts.rounds_finished,
            counts.round_accepted,
        )
    };
    assert_eq!(resumed(1, 0, false), (Phase::Joining, 0, 0, 0));
    assert_eq!(resumed(2, 1, true), (Phase::Open, 2, 1, 1));
    assert_eq!(resumed(3, 0, false), (Phase::Finishing, 2, 2, 0));
}

#[test]
fn our_own_fault_is_what_health_says_whatever_the_run_is_told() {
    let now = Instant::now();
    let mut counts = counts(&[], now);
    let what = "the journal /srv/j.redb: no space\nleft".to_owned();
    let stopped = RunEvent::Failed {
        reason: RunFailure::Stopped,
        detail: "the operator stopped the run".to_owned(),
    };
    counts.take(&RunEvent::Broken { what }, now);
    counts.take(&stopped, now);
    let said = health::of(&counts);
    assert!(!said.is_well);
    assert_eq!(said.line, "broken: the journal /srv/j.redb: no space left");
    assert_eq!(counts.phase, Phase::Over);
}

#[test]
fn peers_that_were_turned_away_unseen_are_all_counted() {
    let now = Instant::now();
    let mut counts = counts(&[], now);
    let event = RunEvent::HandshakeRejected {
        peer: "unknown".to_owned(),
        label: "turned-away",
        reason: String::new(),
        count: 7,
    };
    counts.take(&event, now);
    assert_eq!(counts.rejected["turned-away"], 7);
}

/// One rejection of each kind; a new kind does not compile until it is here.
fn rejections() -> Vec<Rejection> {
    let expected = Role::Participant;
    let (since, until) = (after_epoch(1), after_epoch(1));
    let known = |rejection: &Rejection| match rejection {
        Rejection::NoCertificate
        | Rejection::Malformed { .. }
        | Rejection::WrongFederation { .. }
        | Rejection::WrongRole { .. }
        | Rejection::WrongAuthority
        | Rejection::Expired { .. }
        | Rejection::NotYetValid { .. }
        | Rejection::Revoked
        | Rejection::RevocationUnknown
        | Rejection::WrongPurpose { .. }
        | Rejection::AuthorityExpired => {}
    };
    let all = vec![
        Rejection::NoCertificate,
        Rejection::Malformed {
            what: String::new(),
        },
        Rejection::WrongFederation {
            expected: String::new(),
            found: String::new(),
        },
        Rejection::WrongRole {
            expected,
            found: Role::Server,
        },
        Rejection::WrongAuthority,
        Rejection::Expired { since },
        Rejection::NotYetValid { until },
        Rejection::Revoked,
        Rejection::RevocationUnknown,
        Rejection::WrongPurpose { expected },
        Rejection::AuthorityExpired,
    ];
    all.iter().for_each(known);
    all
}

/// One failure of each kind; a new kind does not compile until it is here.
fn handshake_errors() -> Vec<HandshakeError> {
    let remote = SocketAddr::from(([127, 0, 0, 1], 1));
    let own = || Box::new("foedus://north-sea/server/hub".parse::<Identity>().unwrap());
    let what = || io::Error::other("x").to_string();
    let known = |error: &HandshakeError| match error {
        HandshakeError::Refused(_)
        | HandshakeError::RefusedByPeer { .. }
        | HandshakeError::Busy { .. }
        | HandshakeError::TurnedAway { .. }
        | HandshakeError::Closed { .. }
        | HandshakeError::TimedOut { .. }
        | HandshakeError::Foreign { .. }
        | HandshakeError::Role { .. }
        | HandshakeError::Local { .. } => {}
    };
    let refused = rejections().into_iter().map(|reason| {
        HandshakeError::Refused(Box::new(RefusedPeer {
            remote,
            claimed: None,
            reason,
        }))
    });
    let mut all: Vec<_> = refused.collect();
    all.extend([
        HandshakeError::RefusedByPeer {
            remote,
            own: own(),
            reason: PeerRefusal::Unchecked,
        },
        HandshakeError::Busy { remote },
        HandshakeError::TurnedAway {
            remote,
            count: 1,
            limit: "handshakes",
        },
        HandshakeError::Closed {
            remote,
            closed: Closed::Here,
        },
        HandshakeError::TimedOut {
            remote,
            after: Duration::ZERO,
        },
        HandshakeError::Foreign {
            remote,
            what: what(),
        },
        HandshakeError::Role {
            identity: own(),
            expected: Role::Participant,
        },
        HandshakeError::Local {
            remote,
            what: what(),
        },
    ]);
    all.iter().for_each(known);
    all
}

#[test]
fn every_reason_for_which_a_handshake_fails_is_shown_from_the_start() {
    let mut labels: Vec<_> = handshake_errors()
        .iter()
        .map(HandshakeError::label)
        .collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels, HANDSHAKE_REASONS);
}
