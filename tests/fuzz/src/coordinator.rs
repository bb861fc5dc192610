//! Sequences of operations on a coordinator: participants that say anything, in any order, at any time, and an owner that is
//! killed and goes on from what it wrote down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use protocol::close::RefusalReason;
use protocol::coordinator::{
    Action, Allowance, Coordinator, Delta, History, Release, RoundSummary, Setup,
};
use protocol::message::{
    Beginning, Capabilities, Content, Metrics, ResendReason, ToClient, ToServer, TransferHeader,
    TransferKind,
};
use protocol::plan::{
    BasePlan, CheckedPlan, CohortPlan, Download, LatePolicy, LimitsPlan, LoraPlan, Participants,
    RunPlan, Schedule, SignedPlan, StrategyPlan, TrainingPlan, ValueEncoding,
};
use protocol::seal::Seal;
use protocol::transcript::{Outline, Record, SealedRecord};
use protocol::{ConnectionId, Digest, ParticipantName, Round, Text};

/// Plays the bytes as operations and checks after each that updates count once, rounds have their quorum, and no
/// deadline is named that has passed.
pub fn coordinator(bytes: &[u8]) {
    let mut bytes = bytes.iter().copied();
    let mut game = Game::new(bytes.next().unwrap_or(0));
    while let (Some(op), Some(a), Some(b)) = (bytes.next(), bytes.next(), bytes.next()) {
        game.play(op, a, b);
        game.settle();
    }
}

struct Game {
    coordinator: Coordinator,
    plan: CheckedPlan,
    now: Instant,
    /// What was written down, and the adapter that came out of the last round of it.
    history: History,
    release: Release,
    transcript: Vec<SealedRecord>,
    summary: Option<RoundSummary>,
    next_connection: u64,
    with_owner: BTreeSet<ParticipantName>,
    folded: BTreeSet<(Round, ParticipantName)>,
    /// The last record that each connection was told.
    told: BTreeMap<ConnectionId, Round>,
    to_aggregate: bool,
    ended: bool,
}

impl Game {
    fn new(rules: u8) -> Self {
        let plan = plan(rules).check().expect("a plan of our own");
        let now = Instant::now();
        let coordinator = Coordinator::new(setup(&plan, Release::whole(content(0))), now)
            .expect("its parts belong together");
        Self {
            coordinator,
            plan,
            now,
            history: History::default(),
            release: Release::whole(content(0)),
            transcript: Vec::new(),
            summary: None,
            next_connection: 0,
            with_owner: BTreeSet::new(),
            folded: BTreeSet::new(),
            told: BTreeMap::new(),
            to_aggregate: false,
            ended: false,
        }
    }

    fn play(&mut self, op: u8, a: u8, b: u8) {
        let now = self.now;
        // One of the last eight connections, so that live ones are hit often.
        let connection = ConnectionId(self.next_connection.saturating_sub(1 + u64::from(a % 8)));
        match op % 16 {
            0 | 1 => {
                self.coordinator
                    .handle_connected(ConnectionId(self.next_connection), name(a), now);
                self.next_connection += 1;
            }
            2 => self.coordinator.handle_disconnected(connection, now),
            3 | 4 => self.say(connection, hello(1 + u32::from(b == 255))),
            5 | 6 => {
                let holds = vec![content(b).sha256; usize::from(b % 10)];
                let plan = if b == 77 {
                    Digest::of(b"other")
                } else {
                    self.plan.digest()
                };
                let begun = self.begun(b);
                let recorded = Round(u32::from(b % 5));
                self.say(
                    connection,
                    ToServer::Ready {
                        plan,
                        holds,
                        begun,
                        recorded,
                    },
                );
            }
            7 => self.say(
                connection,
                ToServer::Progress {
                    round: self.round(b),
                    step: u32::from(b),
                    steps: 4,
                },
            ),
            8 | 9 => {
                let transfer = self.update(connection, b);
                let weight = u64::from(b % 7);
                self.say(
                    connection,
                    ToServer::Offer {
                        transfer,
                        weight,
                        metrics: Metrics::default(),
                    },
                );
            }
            10 | 11 => self.deliver(connection, b),
            12 => self.answer(b),
            13 => self.aggregated(b),
            14 => {
                self.now += Duration::from_millis(u64::from(a) * u64::from(b));
                self.coordinator.handle_timeout(self.now);
            }
            _ => self.rare(connection, b),
        }
    }

    fn rare(&mut self, connection: ConnectionId, b: u8) {
        let reason = Text::default();
        match b % 8 {
            0 => self.say(connection, ToServer::Leave { reason }),
            1 => self.say(
                connection,
                ToServer::Decline {
                    plan: self.plan.digest(),
                    reason,
                },
            ),
            2 => self.coordinator.handle_malformed(connection, self.now),
            3 => self
                .coordinator
                .handle_transfer_progress(connection, self.now),
            4 if b < 128 => {
                let global = self.global(b);
                let delta = self.release.delta.filter(|_| b < 64);
                let delta = delta.and_then(|delta| global.delta(delta.content));
                let transfer = delta.unwrap_or(global).id;
                let reason = ResendReason::BadDelta;
                self.say(connection, ToServer::Resend { transfer, reason });
            }
            4 => {
                let transfer = if b % 16 < 8 {
                    self.update(connection, b).id
                } else {
                    self.global(b).id
                };
                self.say(connection, ToServer::Received { transfer });
            }
            5 if b < 16 => {
                let transfer = self.update(connection, b).id;
                self.coordinator.update_found(&name(b), transfer, u64::MAX);
            }
            5 => {
                let transfer = self.update(connection, b).id;
                self.coordinator
                    .update_kept(connection, &name(b), transfer, u64::MAX);
            }
            6 if b == 254 => self.coordinator.stop(),
            // With and without an answer whose consequences are lost.
            7 => {
                if 128 <= b {
                    self.answer(b);
                }
                self.crash();
            }
            _ => {}
        }
    }

    /// Kills the owner: what was not written down never was.
    fn crash(&mut self) {
        if self.ended || self.coordinator.is_over() {
            return;
        }
        let transcript = self.transcript.clone();
        let setup = Setup {
            transcript,
            ..setup(&self.plan, self.release)
        };
        self.coordinator = Coordinator::resume(setup, self.history.clone(), self.now)
            .expect("its parts belong together");
        self.with_owner.clear();
        self.to_aggregate = false;
        let round = self.history.round();
        self.folded.retain(|(folded, _)| *folded < round);
        let accepted = self
            .history
            .open
            .iter()
            .flat_map(|open| open.accepted.keys());
        self.folded
            .extend(accepted.map(|name| (round, name.clone())));
    }

    fn say(&mut self, connection: ConnectionId, message: ToServer) {
        self.coordinator
            .handle_message(connection, message, self.now);
    }

    /// The open round mostly, else one beside it.
    fn round(&self, b: u8) -> Round {
        let open = self.coordinator.open_round().unwrap_or(Round::FIRST);
        match b % 16 {
            0 => Round(open.0.wrapping_sub(1)),
            1 => open.next(),
            _ => open,
        }
    }

    /// The adapter of a round near the open one.
    fn global(&self, b: u8) -> TransferHeader {
        let kind = TransferKind::GlobalAdapter;
        TransferHeader::from_server(
            kind,
            self.round(b),
            self.plan.digest(),
            self.release.adapter,
        )
    }

    /// Beginnings of the present adapter and of others, too many at times.
    fn begun(&self, b: u8) -> Vec<Beginning> {
        let of = |number: u8| Beginning {
            sha256: if number == 0 {
                self.release.adapter.sha256
            } else {
                content(number).sha256
            },
            bytes: u64::MAX >> (b % 64),
        };
        (0..b % 10).map(of).collect()
    }

    fn update(&self, connection: ConnectionId, b: u8) -> TransferHeader {
        let sender = self
            .coordinator
            .participant(connection)
            .cloned()
            .unwrap_or_else(|| name(b));
        let plan = if b == 200 {
            Digest::of(b"other")
        } else {
            self.plan.digest()
        };
        TransferHeader::update(&sender, self.round(b), plan, content(b % 3))
    }

    fn deliver(&mut self, connection: ConnectionId, b: u8) {
        let header = self.update(connection, b).at(u64::from(b % 2));
        // While a round is aggregated, what is late for it comes for the next.
        let next = Round(self.history.rounds_done + 2);
        let open = self.coordinator.open_round().unwrap_or(next);
        if let Some(admission) = self
            .coordinator
            .handle_update_received(connection, &header, self.now)
        {
            assert_eq!(
                admission.round, open,
                "admitted into a round that is not open"
            );
            let counted = (admission.round, admission.participant.clone());
            assert!(!self.folded.contains(&counted), "to be folded twice");
            assert!(
                self.with_owner.insert(admission.participant),
                "already with the owner"
            );
        }
    }

    fn answer(&mut self, b: u8) {
        // The owner forms the adapter of a closed round before it folds for the next.
        if self.to_aggregate && !self.with_owner.is_empty() {
            return;
        }
        let Some(who) = self.with_owner.pop_first() else {
            let misused = self
                .coordinator
                .handle_update_accepted(&name(b), self.now)
                .is_err();
            assert!(misused || self.ended);
            return;
        };
        if b.is_multiple_of(4) {
            let answer =
                self.coordinator
                    .handle_update_refused(&who, RefusalReason::OverNorm, self.now);
            answer.expect("it is with the owner");
        } else {
            if let Some(round) = self.coordinator.open_round() {
                self.folded.insert((round, who.clone()));
            }
            self.coordinator
                .handle_update_accepted(&who, self.now)
                .expect("it is with the owner");
        }
    }

    fn aggregated(&mut self, b: u8) {
        let record = self.record(content(b));
        // Shorter than the adapter, or longer.
        let delta = Delta {
            base: self.release.adapter.sha256,
            content: Content {
                bytes: u64::from(b),
                sha256: Digest::of(&[b]),
            },
        };
        let release = Release {
            adapter: content(b),
            delta: (!b.is_multiple_of(4)).then_some(delta),
        };
        if self.to_aggregate && !self.coordinator.is_over() {
            self.history.round_done();
            self.release = release;
            self.transcript.push(record.clone());
        }
        let answer = self.coordinator.round_aggregated(release, record, self.now);
        assert_eq!(
            answer.is_ok(),
            std::mem::take(&mut self.to_aggregate) || self.ended
        );
    }

    /// What the owner would put on record about the round that was closed last.
    fn record(&self, after: Content) -> SealedRecord {
        let now = self.now;
        let summary = self.summary.clone().unwrap_or_else(|| RoundSummary {
            round: Round::FIRST,
            opened_at: now,
            closed_at: now,
            accepted: Vec::new(),
            refused: Vec::new(),
            missing: Vec::new(),
        });
        let last = self.transcript.last();
        let outline = Outline {
            plan: self.plan.digest(),
            previous: last.map_or(self.plan.digest(), |last| last.record.heading.hash()),
            before: self.release.adapter.sha256,
            after: after.sha256,
            adapter: after.sha256,
            secret: Digest::default(),
        };
        Record::draw_up(&outline, &summary).seal(|_| Seal::default())
    }

    /// A record goes out before anything that builds on it.
    fn check_told(&mut self, connection: ConnectionId, message: &ToClient) {
        let done = u32::try_from(self.transcript.len()).expect("three rounds");
        match message {
            ToClient::Recorded(excerpt) => {
                excerpt.heading.hash();
                self.told.insert(connection, excerpt.heading.round);
            }
            ToClient::Train { global } => assert_eq!(global.round, Round(done).next()),
            _ => return,
        }
        if let Some(told) = self.told.get(&connection) {
            assert!(told.0 <= done, "told of a round that is not done");
        }
    }

    /// Reads the actions and checks what must hold between operations.
    fn settle(&mut self) {
        while let Some(action) = self.coordinator.poll_action() {
            match action {
                Action::Record(entry) => self.history.note(entry),
                Action::SendTransfer { header, .. } => assert!(header.offset <= header.bytes),
                Action::Send {
                    connection,
                    message,
                } => self.check_told(connection, &message),
                Action::Aggregate { summary } => {
                    assert!(
                        self.with_owner.is_empty(),
                        "closed over an update with the owner"
                    );
                    let counted = self
                        .folded
                        .iter()
                        .filter(|(round, _)| *round == summary.round)
                        .count();
                    assert_eq!(summary.accepted.len(), counted);
                    assert!(
                        self.plan.cohort.quorum as usize <= counted,
                        "closed without quorum"
                    );
                    self.to_aggregate = true;
                    self.summary = Some(summary);
                }
                Action::End(_) => assert!(!std::mem::replace(&mut self.ended, true), "ended twice"),
                _ => {}
            }
        }
        assert_eq!(self.ended, self.coordinator.is_over());
        if let Some(due) = self
            .coordinator
            .poll_timeout()
            .filter(|due| *due <= self.now)
        {
            self.coordinator.handle_timeout(self.now);
            let next = self.coordinator.poll_timeout();
            assert!(
                next.is_none_or(|next| self.now < next),
                "{due:?} stays due: an owner would spin"
            );
            self.settle();
        }
    }
}

fn setup(plan: &CheckedPlan, release: Release) -> Setup {
    Setup {
        signed: SignedPlan::new(plan, |_| Seal::default()),
        transcript: Vec::new(),
        plan: plan.clone(),
        release,
        anchor: None,
        software: Text::default(),
        allowance: Allowance::default(),
    }
}

fn hello(version: u32) -> ToServer {
    ToServer::Hello {
        version,
        software: Text::default(),
        capabilities: Capabilities::NONE,
    }
}

fn content(salt: u8) -> Content {
    Content {
        bytes: if salt == 99 { 1 } else { 64 },
        sha256: Digest([salt; 32]),
    }
}

fn name(index: u8) -> ParticipantName {
    ["a", "b", "c", "stranger"][usize::from(index % 4)]
        .parse()
        .expect("a label")
}

/// The plan whose cohort has one of the combinations of rules.
pub(crate) fn plan(rules: u8) -> RunPlan {
    let late = match rules % 3 {
        0 => LatePolicy::Refuse,
        rounds_max => LatePolicy::LaterRound {
            rounds_max: u32::from(rounds_max),
        },
    };
    RunPlan {
        run: "fuzz".parse().expect("a label"),
        base: BasePlan {
            name: "tiny".into(),
            fingerprint: Digest::default(),
        },
        lora: LoraPlan {
            rank: 1,
            alpha: 1.0,
            dropout: 0.0,
            rslora: false,
            target_modules: vec!["q_proj".into()],
        },
        layout_digest: Digest::default(),
        adapter_bytes: 64,
        encoding: ValueEncoding::F32,
        download: if rules & 32 == 0 {
            Download::Whole
        } else {
            Download::Delta
        },
        rounds: 3,
        seed: 0,
        training: TrainingPlan {
            local_steps: 4,
            batch_examples: 1,
            accumulation: 1,
            max_tokens: 8,
            learning_rate: 0.1,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            weight_decay: 0.0,
            clip_norm: 1.0,
        },
        strategy: StrategyPlan::FedAvg,
        ewc: None,
        privacy: None,
        participant_privacy: None,
        cohort: CohortPlan {
            participants: Participants::Named((0..3).map(name).collect()),
            quorum: 2,
            soft_deadline: Duration::from_secs(30),
            hard_deadline: Duration::from_secs(120),
            stall_limit: Duration::from_secs(20),
            join_deadline: Duration::from_secs(10),
            select: (rules & 8 != 0).then_some(2),
            enough: (rules & 16 != 0).then_some(2),
            late,
        },
        limits: LimitsPlan {
            update_norm_max: 1.0,
            weight_max: 5,
            participants_max: 3,
        },
        ring: None,
        secure_aggregation: None,
    }
}
