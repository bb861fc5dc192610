//! Attempts at secure aggregation that come to nothing over somebody, and what the server makes of it (S8, S10, S11).

use std::time::{Duration, Instant};

use protocol::close::{CloseCode, RunFailure};
use protocol::coordinator::{Action, Coordinator, History, Outcome, Report};
use protocol::message::{Metrics, ToServer};
use protocol::plan::CheckedPlan;
use protocol::secagg::{AttemptId, ForServer, MemberId};
use protocol::text::Text;
use protocol::{ConnectionId, ParticipantName, Round};

use crate::pair::{Rng, an_instant, content, coordinator, masked, name, plan, setup};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A server whose participants the test speaks for; connection `n` is that of the n-th name, from 1.
struct Stage {
    server: Coordinator,
    plan: CheckedPlan,
    names: Vec<ParticipantName>,
    now: Instant,
    actions: Vec<Action>,
    /// What the server had written down.
    history: History,
}

impl Stage {
    /// All have joined, trained, and certificates for so long from now.
    fn with(names: &[&str], quorum: u32, certificates: &[Duration]) -> Self {
        let mut plan = plan(names, quorum, 1);
        plan.limits.participants_max = plan.limits.participants_max.max(names.len() as u32);
        let (plan, now) = (masked(plan), an_instant());
        let mut stage = Self {
            server: coordinator(&plan, None, now),
            plan,
            names: names.iter().map(|one| name(one)).collect(),
            now,
            actions: Vec::new(),
            history: History::default(),
        };
        for (index, &certificate) in certificates.iter().enumerate() {
            stage.joins(index, index as u64 + 1, certificate);
        }
        for index in 0..names.len() {
            stage.has_trained(index as u64 + 1);
        }
        stage
    }

    fn new(names: &[&str], quorum: u32) -> Self {
        Self::with(names, quorum, &vec![DAY; names.len()])
    }

    fn joins(&mut self, index: usize, connection: u64, certificate: Duration) {
        let (connection, who) = (ConnectionId(connection), self.names[index].clone());
        self.server.handle_connected(connection, who, self.now);
        let credentials = (vec![vec![index as u8]], [index as u8 + 1; 32]);
        self.server
            .handle_identified(connection, credentials, self.now + certificate);
        self.says(
            connection.0,
            ToServer::Hello {
                version: 1,
                software: Text::default(),
                capabilities: protocol::message::Capabilities::default(),
            },
        );
        let plan = self.plan.digest();
        self.says(
            connection.0,
            ToServer::Ready {
                plan,
                holds: Vec::new(),
                begun: Vec::new(),
                recorded: Round(0),
            },
        );
    }

    fn says(&mut self, connection: u64, message: ToServer) {
        self.server
            .handle_message(ConnectionId(connection), message, self.now);
        self.collect();
    }

    fn has_trained(&mut self, connection: u64) {
        let (round, metrics) = (Round(1), Metrics::default());
        self.says(connection, ToServer::Trained { round, metrics });
    }

    fn objects(&mut self, by: usize, against: &str) {
        let (attempt, members) = self.attempt();
        let place = members
            .iter()
            .position(|one| *one == name(against))
            .unwrap();
        let against = MemberId(place as u32 + 1);
        let message = ForServer::Objection { against };
        self.says(by as u64 + 1, ToServer::Secure { attempt, message });
    }

    fn collect(&mut self) {
        while let Some(action) = self.server.poll_action() {
            if let Action::Record(entry) = &action {
                self.history.note(entry.clone());
            }
            self.actions.push(action);
        }
    }

    /// The server's process is killed; all come back to the next one, with their updates, and over the same connections to keep
    /// their numbers.
    fn restarts(&mut self) {
        let setup = setup(&self.plan, content("start"), None);
        self.server = Coordinator::resume(setup, self.history.clone(), self.now).unwrap();
        self.collect();
        for index in 0..self.names.len() {
            self.joins(index, index as u64 + 1, DAY);
        }
        for index in 0..self.names.len() {
            self.has_trained(index as u64 + 1);
        }
    }

    fn reports(&self) -> impl DoubleEndedIterator<Item = &Report> {
        self.actions.iter().filter_map(|action| match action {
            Action::Report(report) => Some(report),
            _ => None,
        })
    }

    /// The last attempt and its members.
    #[track_caller]
    fn attempt(&self) -> (AttemptId, Vec<ParticipantName>) {
        let began = |report: &Report| match report {
            Report::AttemptBegan { attempt, members } => Some((*attempt, members.clone())),
            _ => None,
        };
        self.reports().rev().find_map(began).expect("an attempt")
    }

    #[track_caller]
    fn goes_on_in(&self, number: u32, with: &[&str]) {
        let (attempt, members) = self.attempt();
        let expected: Vec<_> = with.iter().map(|one| name(one)).collect();
        assert_eq!((attempt.number, members), (number, expected));
    }

    fn left_out(&self) -> Vec<(u32, &str)> {
        let left_out = self.reports().filter_map(|report| match report {
            Report::LeftOut {
                attempt,
                participant,
                ..
            } => Some((attempt.number, participant.as_str())),
            _ => None,
        });
        left_out.collect()
    }

    fn failure(&self) -> Option<RunFailure> {
        self.actions.iter().find_map(|action| match action {
            Action::End(Outcome::Failed { reason, .. }) => Some(*reason),
            _ => None,
        })
    }

    fn closes(&self) -> Vec<(u64, CloseCode)> {
        let closes = self.actions.iter().filter_map(|action| match action {
            Action::Close {
                connection, code, ..
            } => Some((connection.0, *code)),
            _ => None,
        });
        closes.collect()
    }
}

/// S8, S10: `e` seals shares that nobody can open.
#[test]
fn a_member_whose_shares_cannot_be_used_is_left_out_by_name_after_the_second_failure() {
    let mut stage = Stage::new(&["a", "b", "c", "d", "e"], 3);
    stage.goes_on_in(1, &["a", "b", "c", "d", "e"]);
    stage.objects(0, "e");
    stage.goes_on_in(2, &["a", "b", "c", "d", "e"]);
    stage.objects(1, "e");
    stage.goes_on_in(3, &["a", "b", "c", "d"]);
    assert_eq!(stage.left_out(), [(3, "e")]);
    assert_eq!(stage.failure(), None);
}

/// S10: `e` objects to the good shares of others.
#[test]
fn a_member_that_objects_to_everybody_is_left_out_and_nobody_else() {
    let mut stage = Stage::new(&["a", "b", "c", "d", "e"], 3);
    stage.objects(4, "a");
    stage.objects(4, "b");
    stage.goes_on_in(3, &["a", "b", "c", "d"]);
}

/// S10: the quorum can do without one only, so the accused goes first, and comes back when the other does it again.
#[test]
fn a_liar_among_as_few_as_the_quorum_allows_ends_no_run() {
    let mut stage = Stage::new(&["a", "b", "c", "d", "e"], 4);
    stage.objects(4, "a");
    stage.objects(4, "a");
    stage.goes_on_in(3, &["b", "c", "d", "e"]);
    stage.objects(4, "b");
    stage.goes_on_in(4, &["a", "b", "c", "d"]);
    assert_eq!(stage.left_out(), [(3, "a"), (4, "e")]);
    assert_eq!(stage.failure(), None);
}

/// S10: four of twelve object one after the other, each against another; the quorum can do without them and whom they accuse.
#[test]
fn members_that_object_in_turns_are_all_left_out_after_one_failure_each() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let mut stage = Stage::new(&names, 4);
    for (liar, accused) in [(8, "a"), (9, "b"), (10, "c"), (11, "d")] {
        stage.objects(liar, accused);
    }
    stage.goes_on_in(5, &["e", "f", "g", "h"]);
    assert_eq!(stage.failure(), None);
}

/// S10: one more objection than what is explained by whom the next attempt does without can happen to anybody; the second leaves out
/// all in them, the accused first where the quorum cannot do without all.
#[test]
fn whose_objections_are_explained_by_one_that_is_left_out_stays_in() {
    let mut stage = Stage::new(&["a", "b", "c", "d", "e", "f", "g"], 3);
    stage.objects(0, "g");
    stage.objects(1, "g");
    stage.goes_on_in(3, &["a", "b", "c", "d", "e", "f"]);
    stage.objects(2, "f");
    stage.goes_on_in(4, &["a", "b", "c", "d", "e", "f"]);
    stage.objects(3, "e");
    stage.goes_on_in(5, &["a", "b", "d"]);
}

/// S10: ten of forty spoil attempts one after the other, whichever way; the quorum can do without twice as many.
#[test]
fn colluders_that_the_quorum_can_do_without_twice_end_no_run() {
    let names: Vec<_> = (0..40).map(|index| format!("m{index:02}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let is_liar = |name: &ParticipantName| name.as_str() < "m10";
    let place = |name: &ParticipantName| names.iter().position(|one| *one == name.as_str());
    for seed in 0..20 {
        let mut stage = Stage::new(&names, 20);
        let mut rng = Rng(seed + 1);
        loop {
            let (attempt, members) = stage.attempt();
            let liars: Vec<_> = members.iter().filter(|one| is_liar(one)).collect();
            if liars.is_empty() {
                break;
            }
            assert!(attempt.number <= 20, "seed {seed}: {attempt}");
            let liar = liars[rng.below(liars.len() as u64) as usize];
            // Few victims, so that liars concentrate on some of them in some seeds.
            let others: Vec<_> = members.iter().filter(|one| *one != liar).collect();
            let most = [others.len() as u64, 12][seed as usize % 2].min(others.len() as u64);
            let other = others[rng.below(most) as usize];
            // Whoever lies may seal bad shares, or say that good ones are bad.
            let (by, against) = match rng.below(2) {
                0 => (liar, other),
                _ => (other, liar),
            };
            stage.objects(place(by).unwrap(), against.as_str());
            assert_eq!(stage.failure(), None, "seed {seed}, after {attempt}");
        }
    }
}

/// S10: there is nobody to spare.
#[test]
fn a_run_that_needs_everybody_fails_after_eight_attempts_and_says_over_whom() {
    let mut stage = Stage::new(&["a", "b", "c"], 3);
    for _ in 0..8 {
        stage.objects(2, "a");
    }
    assert_eq!(stage.failure(), Some(RunFailure::SumNotOpened));
    let said = stage.reports().rev().find_map(|report| match report {
        Report::AttemptFailed { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    assert_eq!(said.unwrap(), "c cannot use what a sent");
}

/// S10: over whom attempts failed is known to the next process, and with it who is left out.
#[test]
fn a_server_that_is_started_again_remembers_over_whom_attempts_failed() {
    let mut stage = Stage::new(&["a", "b", "c", "d", "e"], 3);
    stage.objects(0, "e");
    stage.restarts();
    // The attempt that the restart ended is nobody's fault.
    stage.goes_on_in(3, &["a", "b", "c", "d", "e"]);
    assert_eq!(stage.left_out(), []);
    stage.objects(1, "e");
    stage.goes_on_in(4, &["a", "b", "c", "d"]);
    stage.restarts();
    stage.goes_on_in(5, &["a", "b", "c", "d"]);
    assert_eq!(stage.left_out(), [(4, "e"), (5, "e")]);
}

/// S10: starting the server again gives a round no more than its eight attempts, and one that had them none.
#[test]
fn eight_attempts_are_counted_over_all_processes_of_the_server() {
    let mut stage = Stage::new(&["a", "b", "c"], 3);
    for _ in 0..7 {
        stage.objects(2, "a");
        stage.restarts();
    }
    assert_eq!(stage.failure(), None);
    stage.objects(2, "a");
    assert_eq!(stage.failure(), Some(RunFailure::SumNotOpened));
    let (attempt, _) = stage.attempt();
    stage.actions.clear();
    stage.restarts();
    let end = stage.actions.iter().find_map(|action| match action {
        Action::End(Outcome::Failed { detail, .. }) => Some(detail.to_string()),
        _ => None,
    });
    let expected = "round 1 had 8 attempts; in the last one c cannot use what a sent";
    assert_eq!(end.unwrap(), expected);
    let began = |report: &Report| matches!(report, Report::AttemptBegan { .. });
    assert!(!stage.reports().any(began), "after attempt {attempt}");
}

/// S10: keys that are not signed are a breach; the member is gone, and the others go on in the same attempt.
#[test]
fn a_member_whose_keys_are_not_signed_is_closed_as_a_deceiver() {
    let mut stage = Stage::new(&["a", "b", "c", "d", "e"], 3);
    let (attempt, _) = stage.attempt();
    let keys = protocol::secagg::Keys {
        sealing: [1; 32],
        masking: [2; 32],
        commitment: [3; 32],
    };
    let message = ForServer::Keys {
        keys,
        signature: vec![0; 64],
    };
    stage.says(5, ToServer::Secure { attempt, message });
    assert_eq!(stage.closes(), [(5, CloseCode::Deceived)]);
    stage.goes_on_in(1, &["a", "b", "c", "d", "e"]);
    assert_eq!(stage.failure(), None);
}

/// S2: a chain is relayed to every member.
#[test]
fn a_certificate_chain_that_is_too_long_to_be_relayed_closes_its_connection() {
    let mut stage = Stage::new(&["a", "b", "c", "d"], 3);
    for (connection, bytes) in [(8, 4096), (9, 4097)] {
        let (connection, who) = (ConnectionId(connection), stage.names[3].clone());
        stage.server.handle_connected(connection, who, stage.now);
        let credentials = (vec![vec![3; 1000], vec![0; bytes - 1000]], [4; 32]);
        let expires = stage.now + DAY;
        stage
            .server
            .handle_identified(connection, credentials, expires);
        stage.collect();
    }
    let closes = [
        (4, CloseCode::Superseded),
        (8, CloseCode::Superseded),
        (9, CloseCode::Deceived),
    ];
    assert_eq!(stage.closes(), closes);
}

/// S11: its time is over before the round's first attempt.
#[test]
fn a_member_whose_certificate_is_over_is_asked_to_come_back_with_a_renewed_one() {
    let certificates = [DAY, Duration::from_secs(50), DAY, DAY];
    let mut stage = Stage::with(&["a", "b", "c", "d"], 3, &certificates);
    stage.goes_on_in(1, &["a", "c", "d"]);
    assert_eq!(stage.closes(), [(2, CloseCode::Expired)]);
    let expired = Report::Expired {
        participant: name("b"),
    };
    assert!(stage.reports().any(|report| *report == expired));
    assert!(CloseCode::Expired.is_temporary());

    // It comes back, and the next attempt is made with it.
    stage.joins(1, 9, DAY);
    stage.has_trained(9);
    stage.objects(0, "c");
    stage.goes_on_in(2, &["a", "b", "c", "d"]);
}

/// S11: no attempt without enough of them.
#[test]
fn certificates_that_are_over_leave_a_round_waiting_and_name_their_owners() {
    let soon = Duration::from_secs(1);
    let mut stage = Stage::with(&["a", "b", "c"], 3, &[DAY, soon, DAY]);
    let began = |report: &Report| matches!(report, Report::AttemptBegan { .. });
    assert!(!stage.reports().any(began));
    assert_eq!(stage.closes(), [(2, CloseCode::Expired)]);
    stage.joins(1, 9, DAY);
    stage.has_trained(9);
    stage.goes_on_in(1, &["a", "b", "c"]);
}
