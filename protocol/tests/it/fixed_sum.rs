//! A sum that members were asked to open and that became no adapter: what follows is of the same participants, or the run ends in words,
//! and no honest member finds reason to accuse the server (S7, S12).
//!
//! The machines of both sides are the real ones; keys, shares and vectors are made up, as nothing here looks into them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use protocol::close::{RefusalReason, RunFailure};
use protocol::coordinator::{Action, Coordinator, History, Outcome, Report};
use protocol::message::{Capabilities, Content, Metrics, ToClient, ToServer, TransferHeader};
use protocol::plan::CheckedPlan;
use protocol::secagg::{
    self, AttemptId, Deceit, Earlier, ForMember, ForServer, Keys, Member, MemberId, MemberSetup,
    Sealed, Share, VerifiedMember,
};
use protocol::{ConnectionId, Digest, ParticipantName, Round, Text, TransferId};

use crate::pair::{an_instant, content, coordinator, masked, name, plan, setup};

mod killed;
mod left_out;
mod slow;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const ROUND: Round = Round::FIRST;

fn sign(public_key: &[u8; 32], message: &[u8]) -> Vec<u8> {
    Digest::of(&[public_key.as_slice(), message].concat())
        .0
        .to_vec()
}

fn verify(public_key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    sign(public_key, message) == signature
}

fn public_key(name: &ParticipantName) -> [u8; 32] {
    Digest::of(name.as_str().as_bytes()).0
}

/// One institution: its machine in an attempt, and what it has on disk.
struct Site {
    name: ParticipantName,
    connection: Option<ConnectionId>,
    member: Option<Member>,
    model: Digest,
    /// Its key in the attempt.
    sealing: [u8; 32],
    earlier: Option<Earlier>,
    /// How it would accuse the server.
    deceit: Option<Deceit>,
    /// What it says nothing more than before, as its program is killed there.
    dies_before: Option<&'static str>,
    /// It trains, and has nothing to say before that is done.
    is_silent: bool,
}

/// The server and its sites, without a network.
struct Stage {
    server: Coordinator,
    plan: CheckedPlan,
    sites: Vec<Site>,
    now: Instant,
    heard: VecDeque<(ConnectionId, ToClient)>,
    connections: u64,
    history: History,
    reports: Vec<Report>,
    outcome: Option<Outcome>,
    /// Whose updates were in the sums that the server was to open, one after the other.
    sums: Vec<Vec<ParticipantName>>,
    /// Actions of the server so far, over all its processes.
    actions: u64,
    /// Its process is killed before the action of this number.
    killed_before: Option<u64>,
    /// The action that was not performed for that.
    undone: Option<Action>,
    /// Whose masked update takes its time, and what is on its way of it.
    slow: Option<usize>,
    on_its_way: Vec<TransferHeader>,
    /// Who was told that its update does not count, and why.
    refused: Vec<(ParticipantName, RefusalReason)>,
}

impl Stage {
    /// All have joined; the named ones die before they say this.
    fn new(quorum: u32, deaths: &[(&str, &'static str)]) -> Self {
        let mut stage = Self::empty(quorum, deaths);
        stage.all_come();
        stage
    }

    /// Nobody has joined yet.
    fn empty(quorum: u32, deaths: &[(&str, &'static str)]) -> Self {
        let plan = masked(plan(&NAMES, quorum, 1));
        let now = an_instant();
        let deaths: BTreeMap<_, _> = deaths.iter().copied().collect();
        let site = |one: &&'static str| Site {
            name: name(one),
            connection: None,
            member: None,
            model: Digest::default(),
            sealing: [0; 32],
            earlier: None,
            deceit: None,
            dies_before: deaths.get(one).copied(),
            is_silent: false,
        };
        Self {
            server: coordinator(&plan, None, now).with_signatures(verify),
            plan,
            sites: NAMES.iter().map(site).collect(),
            now,
            heard: VecDeque::new(),
            connections: 0,
            history: History::default(),
            reports: Vec::new(),
            outcome: None,
            sums: Vec::new(),
            actions: 0,
            killed_before: None,
            undone: None,
            slow: None,
            on_its_way: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn all_come(&mut self) {
        (0..NAMES.len()).for_each(|index| self.connects(index));
        self.go_on();
    }

    /// The server's process is killed, and another one goes on from what was written down. Nobody is connected to it yet.
    fn restarts(&mut self) {
        let setup = setup(&self.plan, content("start"), None);
        let server = Coordinator::resume(setup, self.history.clone(), self.now).unwrap();
        self.server = server.with_signatures(verify);
        self.heard.clear();
        for site in &mut self.sites {
            (site.connection, site.member) = (None, None);
        }
    }

    /// The site comes, and says what it has to say.
    fn connects(&mut self, index: usize) {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let name = self.sites[index].name.clone();
        self.sites[index].connection = Some(connection);
        let credentials = (vec![public_key(&name).to_vec()], public_key(&name));
        let expires = self.now + Duration::from_secs(24 * 3600);
        self.server.handle_connected(connection, name, self.now);
        self.server
            .handle_identified(connection, credentials, expires);
        self.says(
            connection,
            ToServer::Hello {
                version: 1,
                software: Text::default(),
                capabilities: Capabilities::default(),
            },
        );
        self.says(
            connection,
            ToServer::Ready {
                plan: self.plan.digest(),
                // The adapter outlives the process of one that comes back.
                holds: vec![content("start").sha256],
                begun: Vec::new(),
                recorded: Round(0),
            },
        );
    }

    fn comes_back(&mut self, who: &str) {
        let index = NAMES.iter().position(|one| *one == who).unwrap();
        self.sites[index].dies_before = None;
        self.connects(index);
        self.go_on();
    }

    fn says(&mut self, connection: ConnectionId, message: ToServer) {
        self.server.handle_message(connection, message, self.now);
    }

    /// Has everybody say what is to be said, until nobody has anything to say.
    fn go_on(&mut self) {
        loop {
            if let Some(action) = self.server.poll_action() {
                let number = self.actions;
                self.actions += 1;
                if self.killed_before == Some(number) {
                    self.undone = Some(action);
                    self.restarts();
                    (0..NAMES.len()).for_each(|index| self.connects(index));
                } else {
                    self.perform(action);
                }
            } else if let Some((connection, message)) = self.heard.pop_front() {
                self.hears(connection, message);
            } else {
                return;
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send {
                connection,
                message,
            } => self.heard.push_back((connection, message)),
            Action::Record(entry) => self.history.note(entry),
            Action::Report(report) => self.reports.push(report),
            Action::Aggregate { summary } => {
                let accepted = summary.accepted.iter();
                self.sums
                    .push(accepted.map(|one| one.participant.clone()).collect());
            }
            Action::Close { connection, .. } => {
                let closed = self
                    .sites
                    .iter_mut()
                    .find(|site| site.connection == Some(connection));
                if let Some(site) = closed {
                    site.connection = None;
                }
            }
            Action::End(outcome) => self.outcome = Some(outcome),
            Action::SendTransfer { .. } | Action::BeginSum { .. } | Action::OpenSum(_) => {}
        }
    }

    fn hears(&mut self, connection: ConnectionId, message: ToClient) {
        let at = |site: &Site| site.connection == Some(connection);
        let Some(index) = self.sites.iter().position(at) else {
            return;
        };
        match message {
            ToClient::Train { .. } if self.sites[index].is_silent => {}
            ToClient::Train { global } => {
                if self.sites[index].member.is_some() {
                    // It has its masked update still.
                    self.offers(index);
                }
                self.sites[index].model = global.sha256;
                let (round, metrics) = (global.round, Metrics::default());
                self.says(connection, ToServer::Trained { round, metrics });
            }
            ToClient::Secure { attempt, message } => self.hears_in(index, attempt, message),
            ToClient::Refused { reason, .. } => {
                let name = self.sites[index].name.clone();
                self.refused.push((name, reason));
            }
            ToClient::Deliver { .. } => {
                let header = self.vector(index);
                if self.slow == Some(index) {
                    self.on_its_way.push(header);
                } else {
                    self.arrives(connection, &header);
                }
            }
            _ => {}
        }
    }

    /// A masked update is there as a whole.
    fn arrives(&mut self, connection: ConnectionId, header: &TransferHeader) {
        let taken = self
            .server
            .handle_update_received(connection, header, self.now);
        if let Some(admission) = taken {
            let name = admission.participant;
            self.server.handle_update_accepted(&name, self.now).unwrap();
        }
    }

    /// Another one in each attempt, as its masks are.
    fn vector(&self, index: usize) -> TransferHeader {
        let Site { name, member, .. } = &self.sites[index];
        let attempt = member.as_ref().map(|member| member.attempt().number);
        let content = Content {
            bytes: self.plan.update_bytes(),
            sha256: Digest::of(format!("{name} {attempt:?}").as_bytes()),
        };
        TransferHeader::update(name, ROUND, self.plan.digest(), content)
    }

    fn hears_in(&mut self, index: usize, attempt: AttemptId, message: ForMember) {
        let site = &mut self.sites[index];
        if site.member.as_ref().map(Member::attempt) != Some(attempt) {
            if !matches!(message, ForMember::Roster(_)) {
                return;
            }
            let setup = MemberSetup {
                name: site.name.clone(),
                public_key: public_key(&site.name),
                plan: self.plan.clone(),
                model: site.model,
                earlier: site.earlier.clone(),
                verify,
            };
            site.member = Member::new(setup, attempt);
        }
        let taken = site.member.as_mut().unwrap().handle_message(message);
        self.finds(index, taken);
        self.act(index, attempt);
    }

    fn finds(&mut self, index: usize, found: Result<(), Deceit>) {
        if let Err(deceit) = found {
            self.sites[index].deceit = Some(deceit);
            self.dies(index);
        }
    }

    /// Its program is gone, and with it the secrets of its attempt.
    fn dies(&mut self, index: usize) {
        let site = &mut self.sites[index];
        site.member = None;
        if let Some(connection) = site.connection.take() {
            self.server.handle_disconnected(connection, self.now);
        }
    }

    fn act(&mut self, index: usize, attempt: AttemptId) {
        loop {
            let site = &mut self.sites[index];
            let Some(member) = &mut site.member else {
                return;
            };
            let Some(action) = member.poll_action() else {
                return;
            };
            let own = public_key(&site.name);
            match action {
                secagg::Action::CheckRoster(entries) => {
                    let verified = entries.iter().map(|entry| VerifiedMember {
                        name: entry.name.clone(),
                        public_key: public_key(&entry.name),
                    });
                    let found = member.roster_checked(Ok(verified.collect()));
                    self.finds(index, found);
                }
                secagg::Action::Advertise { context, .. } => {
                    let keys = keys(&context, &site.name);
                    site.sealing = keys.sealing;
                    member.advertised(keys, |said| sign(&own, said));
                }
                secagg::Action::Share { places, .. } => {
                    let others = places.iter().filter(|(_, key)| *key != site.sealing);
                    let sealed: Vec<_> = others.map(|(member, _)| sealed(*member)).collect();
                    member.shared(&sealed);
                }
                secagg::Action::Mask { .. } => {
                    member.masked();
                    self.offers(index);
                }
                secagg::Action::Confirm { statement } => member.confirmed(sign(&own, &statement)),
                secagg::Action::Record(earlier) => site.earlier = Some(earlier),
                secagg::Action::Reveal { delivered, dropped } => {
                    let all = delivered.iter().chain(&dropped);
                    let share = |&of: &MemberId| Share {
                        of,
                        x: 1,
                        y: [0; 32],
                    };
                    member.revealed(all.map(share).collect());
                }
                secagg::Action::Send(message) => self.answers(index, attempt, message),
            }
        }
    }

    fn offers(&mut self, index: usize) {
        if self.sites[index].dies_before == Some("Offer") {
            return self.dies(index);
        }
        let (transfer, metrics) = (self.vector(index), Metrics::default());
        let offer = ToServer::Offer {
            transfer,
            weight: 1,
            metrics,
        };
        if let Some(connection) = self.sites[index].connection {
            self.says(connection, offer);
        }
    }

    fn answers(&mut self, index: usize, attempt: AttemptId, message: ForServer) {
        let site = &self.sites[index];
        if site.dies_before == Some(message.name()) {
            return self.dies(index);
        }
        if let Some(connection) = site.connection {
            self.says(connection, ToServer::Secure { attempt, message });
        }
    }

    // What is to be seen.

    /// The attempts and their members.
    fn attempts(&self) -> Vec<(u32, String)> {
        let began = |report: &Report| match report {
            Report::AttemptBegan { attempt, members } => Some((attempt.number, joined(members))),
            _ => None,
        };
        self.reports.iter().filter_map(began).collect()
    }

    #[track_caller]
    fn assert_nobody_accuses(&self) {
        for site in &self.sites {
            assert_eq!(site.deceit, None, "{}", site.name);
        }
    }

    #[track_caller]
    fn failure(&self) -> (RunFailure, String) {
        match &self.outcome {
            Some(Outcome::Failed { reason, detail }) => (*reason, detail.to_string()),
            other => panic!("{other:?}"),
        }
    }
}

fn joined(names: &[ParticipantName]) -> String {
    names.iter().map(ParticipantName::as_str).collect()
}

/// The public keys of a member in a context.
fn keys(context: &Digest, name: &ParticipantName) -> Keys {
    let key = |what: &str| {
        Digest::of(&[&context.0, name.as_str().as_bytes(), what.as_bytes()].concat()).0
    };
    Keys {
        sealing: key("sealing"),
        masking: key("masking"),
        commitment: key("commitment"),
    }
}

fn sealed(member: MemberId) -> Sealed {
    let bytes = vec![0; 80];
    Sealed { member, bytes }
}

const ALL: &str = "abcde";

fn wait(stage: &mut Stage, seconds: u64) {
    stage.now += Duration::from_secs(seconds);
    stage.server.handle_timeout(stage.now);
    stage.go_on();
}

/// S7, S12: `e` drops out before its vector; the sum of the others is none, and is summed once more without `e`, who is back by then.
#[test]
fn a_sum_that_is_none_is_summed_once_more_by_the_same_participants_only() {
    let mut stage = Stage::new(3, &[("e", "Offer")]);
    // It may come back with its vector, and is waited for so long.
    wait(&mut stage, 20);
    assert_eq!(stage.attempts(), [(1, ALL.to_owned())]);
    assert_eq!(joined(&stage.sums[0]), "abcd");
    stage.comes_back("e");
    let detail = Text::new("coordinate 3 is too large");
    stage.server.sum_not_opened(detail, stage.now);
    stage.go_on();
    assert_eq!(stage.attempts()[1..], [(2, "abcd".to_owned())]);
    assert_eq!(joined(&stage.sums[1]), "abcd");
    let failed = stage.reports.iter().find_map(|report| match report {
        Report::AttemptFailed { attempt, reason } => Some((attempt.number, reason.to_string())),
        _ => None,
    });
    let said = "its sum was not opened: coordinate 3 is too large".to_owned();
    assert_eq!(failed, Some((1, said)));
    assert_eq!(stage.outcome, None);
    stage.assert_nobody_accuses();
}

/// S7: `e` comes back without its keys: it cannot mask for this attempt any more, and nobody waits as if it could.
#[test]
fn a_member_that_is_back_without_its_keys_is_not_waited_for() {
    let mut stage = Stage::new(3, &[("e", "Offer")]);
    assert_eq!(stage.sums, [[]; 0]);
    stage.comes_back("e");
    assert_eq!(joined(&stage.sums[0]), "abcd");
    // Without it the sum is of too few, and another attempt has it again.
    let mut stage = Stage::new(5, &[("e", "Offer")]);
    stage.comes_back("e");
    assert_eq!(stage.attempts()[1..], [(2, ALL.to_owned())]);
    assert_eq!(joined(&stage.sums[0]), ALL);
    stage.assert_nobody_accuses();
}

/// S7: `e` comes back when its masked update is in the sum and another's is not: with its keys it goes on, without them nobody waits for
/// what it cannot say.
#[test]
fn a_member_in_the_sum_that_is_back_is_waited_for_if_it_has_its_keys_and_not_otherwise() {
    for has_keys in [true, false] {
        let mut stage = Stage::empty(3, &[]);
        stage.slow = Some(0);
        stage.all_come();
        if !has_keys {
            stage.dies(4);
        }
        stage.comes_back("e");
        let of_a = stage.sites[0].connection.unwrap();
        let last = stage.on_its_way[0];
        stage.arrives(of_a, &last);
        stage.go_on();
        assert_eq!(stage.attempts(), [(1, ALL.to_owned())]);
        assert_eq!(joined(&stage.sums[0]), ALL, "with its keys: {has_keys}");
        assert_eq!(stage.sites[4].earlier.is_some(), has_keys);
        stage.assert_nobody_accuses();
    }
}

/// S7: `e` dies with its update in the first attempt, and is still training again when the next one could begin: it begins once `e` has
/// trained, and not with somebody who knows nothing of it.
#[test]
fn an_attempt_does_not_begin_with_one_that_is_back_and_has_not_said_that_it_has_trained() {
    let mut stage = Stage::empty(5, &[("e", "Keys")]);
    stage.all_come();
    stage.sites[4].is_silent = true;
    stage.comes_back("e");
    assert_eq!(stage.attempts(), [(1, ALL.to_owned())]);
    stage.sites[4].is_silent = false;
    let of_e = stage.sites[4].connection.unwrap();
    let (round, metrics) = (ROUND, Metrics::default());
    stage.says(of_e, ToServer::Trained { round, metrics });
    stage.go_on();
    assert_eq!(stage.attempts()[1..], [(2, ALL.to_owned())]);
    assert_eq!(joined(&stage.sums[0]), ALL);
    stage.assert_nobody_accuses();
}

/// S12: one of them masks garbage, and does it again.
#[test]
fn a_sum_that_is_none_again_ends_the_run_in_words() {
    let mut stage = Stage::new(3, &[]);
    for _ in 0..2 {
        let detail = Text::new("coordinate 3 is too large");
        stage.server.sum_not_opened(detail, stage.now);
        stage.go_on();
    }
    let (reason, said) = stage.failure();
    assert_eq!(reason, RunFailure::SumNotOpened);
    assert!(
        said.contains("2 attempts among the same") && said.contains("coordinate 3"),
        "{said}"
    );
    assert_eq!(stage.sums.len(), 2);
    stage.assert_nobody_accuses();
}

/// S7, S12: so many die when the sum is to be opened that nobody can open it; the others have written down whose it is.
#[test]
fn an_attempt_that_too_few_open_is_followed_by_one_of_the_same_once_they_are_back() {
    let mut stage = Stage::new(3, &[("d", "Reveal"), ("e", "Reveal")]);
    assert_eq!(stage.attempts(), [(1, ALL.to_owned())]);
    assert!(
        stage.sums.is_empty(),
        "three of five are below the threshold of four"
    );
    stage.comes_back("d");
    assert_eq!(stage.attempts().len(), 1, "e is not there yet");
    stage.comes_back("e");
    assert_eq!(stage.attempts()[1..], [(2, ALL.to_owned())]);
    assert_eq!(joined(&stage.sums[0]), ALL);
    stage.assert_nobody_accuses();
}

/// S10, S12: what came to nothing before the sum was fixed does not count against it, also over a restart.
#[test]
fn a_fixed_sum_has_eight_attempts_of_its_own() {
    for restarts in [false, true] {
        let mut stage = Stage::empty(5, &[("d", "Reveal"), ("e", "Reveal")]);
        stage.slow = Some(0);
        stage.all_come();
        for number in 1..=7 {
            assert_eq!(stage.attempts().len(), number);
            if number == 7 {
                stage.slow = None;
            }
            let (of_b, against) = (stage.sites[1].connection.unwrap(), MemberId(1));
            let (round, number) = (ROUND, number as u32);
            let message = ForServer::Objection { against };
            let attempt = AttemptId { round, number };
            stage.says(of_b, ToServer::Secure { attempt, message });
            stage.go_on();
        }
        // The eighth failure is that too few open it.
        assert_eq!((stage.attempts().len(), &stage.outcome), (8, &None));
        if restarts {
            stage.restarts();
            (0..3).for_each(|index| stage.connects(index));
            stage.go_on();
        }
        stage.comes_back("d");
        stage.comes_back("e");
        assert_eq!(stage.attempts()[8..], [(9, ALL.to_owned())]);
        assert_eq!(joined(&stage.sums[0]), ALL);
        stage.assert_nobody_accuses();
    }
}

/// S12: in the second attempt nobody may drop out, wherever it is.
#[test]
fn who_drops_out_of_the_second_attempt_is_waited_for_and_no_smaller_sum_is_shown_to_anybody() {
    let mut stage = Stage::new(3, &[("d", "Reveal"), ("e", "Reveal")]);
    for (number, word) in [(2, "Keys"), (3, "Shares"), (4, "Offer")] {
        stage.comes_back("d");
        stage.sites[4].dies_before = Some(word);
        stage.connects(4);
        stage.go_on();
        // One that may still bring its vector is waited for.
        wait(&mut stage, 20);
        assert_eq!(stage.attempts().len(), number, "{word}");
        assert!(stage.sums.is_empty(), "{word}");
        stage.dies(3);
        stage.go_on();
    }
    stage.comes_back("d");
    stage.comes_back("e");
    assert_eq!(joined(&stage.sums[0]), ALL);
    stage.assert_nobody_accuses();
}

/// S12: `e` leaves, or does not come back in time; the run says whom it needed.
#[test]
fn a_participant_of_a_fixed_sum_that_is_gone_for_good_ends_the_run_by_name() {
    let deaths = [("d", "Reveal"), ("e", "Reveal")];
    let mut left = Stage::new(3, &deaths);
    left.comes_back("d");
    left.sites[4].dies_before = Some("Keys");
    left.connects(4);
    let (connection, reason) = (ConnectionId(left.connections), Text::new("enough"));
    left.says(connection, ToServer::Leave { reason });
    left.go_on();
    let mut late = Stage::new(3, &deaths);
    late.comes_back("d");
    wait(&mut late, 119);
    assert_eq!(late.outcome, None);
    wait(&mut late, 1);
    for stage in [left, late] {
        let (reason, said) = stage.failure();
        assert_eq!(reason, RunFailure::SumNotOpened);
        assert!(
            said.contains("needs e once more") && said.contains("these 5"),
            "{said}"
        );
        stage.assert_nobody_accuses();
    }
}
