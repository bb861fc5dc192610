//! A federation in memory: one coordinator, n participants, a virtual clock and a network that can be bad.
//!
//! Control messages of one connection and direction arrive in order, as on a QUIC stream; bulk transfers and the
//! messages of different links overtake each other. A lost connection takes everything in flight with it, and the two
//! ends notice at different times. Everything random comes from one seed.
//!
//! The owners played here (a server that folds, a client that trains) check the promises of the state machines as
//! they go; see [`Server`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::close::{CloseCode, RefusalReason};
use protocol::coordinator::{
    self, Coordinator, Delta, History, Outcome, Release, Report, RoundSummary,
};
use protocol::message::{
    Beginning, Content, Metrics, ResendReason, ToClient, ToServer, TransferHeader, TransferKind,
};
use protocol::participant::{self, AnchorCopy, Disposition, Participant, Spooled};
use protocol::plan::{
    BasePlan, CheckedPlan, CohortPlan, Download, LatePolicy, LimitsPlan, LoraPlan, Participants,
    RingBits, RingPlan, RunPlan, Schedule, SecureAggregationPlan, ServerTrust, SignedPlan,
    StrategyPlan, TrainingPlan, ValueEncoding,
};
use protocol::seal::{Examiner, Seal, SealFault};
use protocol::transcript::{Chain, Evidence, Outline, Record, SealedRecord, Witness};
use protocol::{ConnectionId, Digest, ParticipantName, Round, Text, TransferId};

/// SplitMix64: small, and the same on every machine.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    fn between(&mut self, range: (u64, u64)) -> Duration {
        Duration::from_millis(range.0 + self.below(range.1 - range.0 + 1))
    }
}

/// How bad the network and the sites are. Times in milliseconds, chances per mille.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) latency_ms: (u64, u64),
    pub(crate) bulk_ms: (u64, u64),
    pub(crate) train_ms: (u64, u64),
    pub(crate) fold_ms: (u64, u64),
    /// Per control message: the connection breaks instead.
    pub(crate) cut: u64,
    /// Per bulk transfer: the connection breaks while it runs.
    pub(crate) cut_bulk: u64,
    /// Per bulk transfer to the server: it arrives twice.
    pub(crate) duplicate: u64,
    /// Per training: the process dies and starts again.
    pub(crate) kill: u64,
    /// Per training: the process hangs and never reports again.
    pub(crate) hang: u64,
    /// Per update: the server refuses it.
    pub(crate) refuse: u64,
    /// Per site: it declines the plan.
    pub(crate) decline: u64,
    /// Per dial: it fails.
    pub(crate) dial_fails: u64,
    /// Per action of the server: its process is killed before it, and starts again.
    pub(crate) crash: u64,
    /// Killed processes find their update on disk, and what they had of the server's transfers.
    pub(crate) spool: bool,
    /// Per beginning of a transfer that a site keeps: its disk damages it.
    pub(crate) damage: u64,
    /// Per bulk transfer to the server: other bytes arrive than announced.
    pub(crate) corrupt: u64,
    /// Per entry to be written down: the server's disk is full, it stops and is started again.
    pub(crate) disk_full: u64,
    /// Per step: all clocks jump ahead, by up to an hour.
    pub(crate) clock_jump: u64,
}

impl Weather {
    /// Nothing goes wrong: 10 ms each way, 100 ms of bulk, a second of training.
    pub(crate) fn fair() -> Self {
        Self {
            latency_ms: (10, 10),
            bulk_ms: (100, 100),
            train_ms: (1000, 1000),
            fold_ms: (5, 5),
            cut: 0,
            cut_bulk: 0,
            duplicate: 0,
            kill: 0,
            hang: 0,
            refuse: 0,
            decline: 0,
            dial_fails: 0,
            crash: 0,
            spool: false,
            damage: 0,
            corrupt: 0,
            disk_full: 0,
            clock_jump: 0,
        }
    }
}

/// One end of a line has something coming.
#[derive(Clone, Debug)]
enum Event {
    ServerGets(ConnectionId, ToServer),
    ServerGetsTransfer(ConnectionId, TransferHeader),
    ServerGetsOtherBytes(ConnectionId, TransferHeader),
    ServerConnected(ConnectionId, usize),
    ServerLost(ConnectionId),
    SiteConnected(ConnectionId),
    SiteGets(ConnectionId, ToClient),
    SiteGetsTransfer(ConnectionId, TransferHeader),
    SiteLost(ConnectionId, Option<CloseCode>),
    BulkCut(ConnectionId, Option<(TransferHeader, u64)>),
    DialFailed(usize, u64),
    PlanChecked(usize, u64, SignedPlan),
    Step(usize, u64, Round, u32),
    Trained(usize, u64, Round),
    Restart(usize),
    /// The number of the server's process comes with what only that process can hear.
    Folded(u64, ParticipantName),
    Aggregated(u64, Round),
}

/// A connection, as its two ends see it.
#[derive(Debug)]
struct Line {
    site: usize,
    server_open: bool,
    site_open: bool,
    /// Nothing arrives any more, though an end may not know yet.
    cut: bool,
    to_server_until: Instant,
    to_site_until: Instant,
}

/// One institution: the machine and what its owner would keep.
pub(crate) struct Site {
    pub(crate) name: ParticipantName,
    pub(crate) machine: Participant,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) kept: BTreeSet<TransferId>,
    pub(crate) spool: Option<Spooled>,
    /// What is here of transfers from the server, by content.
    pub(crate) begun: BTreeMap<Digest, Begun>,
    /// What of it the present connection was told.
    listed: BTreeMap<Digest, u64>,
    /// What outlives its process of what it saw.
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) acknowledged: BTreeSet<Round>,
    /// Those that the present process heard of: one after it is told again.
    heard: BTreeSet<Round>,
    pub(crate) reports: Vec<participant::Report>,
    pub(crate) trainings: Vec<Round>,
    pub(crate) outcome: Option<participant::Outcome>,
    pub(crate) declines: bool,
    /// Bulk streams sent, by header: tells resumed ones by their offset.
    pub(crate) delivered: Vec<TransferHeader>,
    /// Does not report or deliver by itself: tests speak for it.
    pub(crate) manual: bool,
    /// Its machine hears nothing any more: the test is the participant.
    pub(crate) puppet: bool,
    generation: u64,
    global: Option<Digest>,
    /// The final adapter, once it is on disk.
    durable: Option<TransferId>,
}

/// The first bytes of a content at a site.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) bytes: u64,
    pub(crate) is_damaged: bool,
}

/// What a server would do, with the promises it relies on checked on the way: a fold is asked for once per
/// participant and round, never after the round was closed, and no round closes without its quorum.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) folded: BTreeMap<Round, BTreeSet<ParticipantName>>,
    pub(crate) summaries: Vec<RoundSummary>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) closes: Vec<(Option<ParticipantName>, CloseCode)>,
    pub(crate) reports: Vec<Report>,
    pub(crate) sent: Vec<(ParticipantName, ToClient)>,
    pub(crate) transfers: Vec<(ParticipantName, TransferHeader)>,
    /// What was written down.
    pub(crate) history: History,
    /// The records of the rounds that are done.
    pub(crate) transcript: Vec<SealedRecord>,
    /// Actions that were polled, over all its processes.
    pub(crate) actions: u64,
    /// Times that its process was killed.
    pub(crate) crashes: u64,
    with_owner: BTreeSet<ParticipantName>,
    asked: BTreeSet<(Round, ParticipantName)>,
    /// Transfers of the final adapter.
    finals: BTreeSet<TransferId>,
}

pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) began: Instant,
    pub(crate) plan: CheckedPlan,
    pub(crate) coordinator: Coordinator,
    pub(crate) server: Server,
    pub(crate) sites: Vec<Site>,
    pub(crate) weather: Weather,
    pub(crate) rng: Rng,
    queue: BTreeMap<(Instant, u64), Event>,
    lines: BTreeMap<ConnectionId, Line>,
    sequence: u64,
    next_connection: u64,
    /// Answers to folds are withheld until the test gives them.
    pub(crate) hold_folds: bool,
    /// The server's process is killed before it performs the action of this number.
    pub(crate) crash_before: Option<u64>,
    is_aggregating: bool,
}

/// A plan that is easy to reason about: soft deadline 30 s, hard 120 s, stall 20 s, join 10 s, four steps.
pub(crate) fn plan(participants: &[&str], quorum: u32, rounds: u32) -> RunPlan {
    let named = participants
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
    RunPlan {
        run: "run-1".parse().unwrap(),
        base: BasePlan {
            name: "tiny".into(),
            fingerprint: Digest::of(b"base"),
        },
        lora: LoraPlan {
            rank: 4,
            alpha: 8.0,
            dropout: 0.0,
            rslora: false,
            target_modules: vec!["q_proj".into()],
        },
        layout_digest: Digest::of(b"layout"),
        adapter_bytes: ADAPTER_BYTES,
        encoding: ValueEncoding::F32,
        download: Download::Whole,
        rounds,
        seed: 1,
        training: TrainingPlan {
            local_steps: 4,
            batch_examples: 1,
            accumulation: 1,
            max_tokens: 64,
            learning_rate: 1e-3,
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
            participants: Participants::Named(named),
            quorum,
            soft_deadline: Duration::from_secs(30),
            hard_deadline: Duration::from_secs(120),
            stall_limit: Duration::from_secs(20),
            join_deadline: Duration::from_secs(10),
            select: None,
            enough: None,
            late: LatePolicy::Refuse,
        },
        limits: LimitsPlan {
            update_norm_max: 10.0,
            weight_max: 1000,
            participants_max: 16,
        },
        ring: None,
        secure_aggregation: None,
    }
}

pub(crate) const ADAPTER_BYTES: u64 = 1 << 20;

/// The same plan with updates masked, against a server that may lie.
pub(crate) fn masked(mut plan: RunPlan) -> CheckedPlan {
    plan.ring = Some(RingPlan {
        bits: RingBits::Bits32,
        value_max: 0.5,
    });
    plan.secure_aggregation = Some(SecureAggregationPlan {
        cohort_min: 3,
        trust: ServerTrust::Malicious,
    });
    plan.check().unwrap()
}

pub(crate) fn name(text: &str) -> ParticipantName {
    text.parse().unwrap()
}

pub(crate) fn sign(plan: &CheckedPlan) -> SignedPlan {
    SignedPlan::new(plan, |bytes| seal(KEY, bytes))
}

/// The server's key. Its "certificate" is the key itself, and a signature the digest of key and bytes.
pub(crate) const KEY: &[u8] = b"the server's key";

pub(crate) fn seal(key: &[u8], bytes: &[u8]) -> Seal {
    Seal {
        signature: Digest::of(&[key, bytes].concat()).0.to_vec(),
        certificates: vec![key.to_vec()],
    }
}

/// Believes what [`seal`] makes with [`KEY`].
#[derive(Debug)]
pub(crate) struct Eye;

impl Examiner for Eye {
    fn examine(&self, bytes: &[u8], found: &Seal) -> Result<(), SealFault> {
        let what = "the authority does not know it".to_owned();
        if found.certificates != [KEY] {
            return Err(SealFault::Untrusted { what });
        }
        let right = found.signature == seal(KEY, bytes).signature;
        right.then_some(()).ok_or(SealFault::Signature)
    }
}

/// The record of a round that came to `adapter`.
pub(crate) fn record(
    chain: &Chain,
    summary: &RoundSummary,
    before: Content,
    adapter: Content,
) -> SealedRecord {
    let outline = Outline {
        plan: chain.plan(),
        previous: chain.last(),
        before: before.sha256,
        after: adapter.sha256,
        adapter: adapter.sha256,
        secret: Digest::of(b"secret"),
    };
    Record::draw_up(&outline, summary).seal(|bytes| seal(KEY, bytes))
}

/// An adapter or update by what it stands for.
pub(crate) fn content(of: &str) -> Content {
    Content {
        bytes: ADAPTER_BYTES,
        sha256: Digest::of(of.as_bytes()),
    }
}

/// The adapter after so many rounds.
pub(crate) fn global(rounds_done: u32) -> Content {
    match rounds_done {
        0 => content("start"),
        done => content(&format!("global after {done}")),
    }
}

/// The same with its delta, a third as long.
pub(crate) fn release(rounds_done: u32) -> Release {
    let adapter = global(rounds_done);
    let delta = rounds_done.checked_sub(1).map(|before| Delta {
        base: global(before).sha256,
        content: Content {
            bytes: ADAPTER_BYTES / 3,
            sha256: Digest::of(format!("delta to {rounds_done}").as_bytes()),
        },
    });
    Release { adapter, delta }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an instant to count virtual time from"
)]
pub(crate) fn an_instant() -> Instant {
    Instant::now()
}

pub(crate) fn coordinator(
    plan: &CheckedPlan,
    anchor: Option<Content>,
    now: Instant,
) -> Coordinator {
    Coordinator::new(setup(plan, content("start"), anchor), now).unwrap()
}

pub(crate) fn setup(
    plan: &CheckedPlan,
    adapter: Content,
    anchor: Option<Content>,
) -> coordinator::Setup {
    coordinator::Setup {
        transcript: Vec::new(),
        plan: plan.clone(),
        signed: sign(plan),
        release: Release::whole(adapter),
        anchor,
        software: Text::new("test server"),
        allowance: coordinator::Allowance::default(),
    }
}

impl Site {
    /// Rebuilds an adapter from its delta, if its base is here, as a client does.
    fn rebuild(&mut self, delta: &TransferHeader, now: Instant) -> Option<Content> {
        let is_final = delta.kind == TransferKind::FinalDelta;
        let release = release(delta.round.0 - u32::from(!is_final));
        let base = release.delta.expect("a server has one").base;
        let unusable = match self.begun.get(&base) {
            Some(base) if base.bytes < ADAPTER_BYTES => Some(ResendReason::NoBase),
            Some(base) if base.is_damaged => Some(ResendReason::BaseDamaged),
            Some(_) => None,
            None => Some(ResendReason::NoBase),
        };
        if let Some(reason) = unusable {
            self.begun.remove(&base);
            self.machine.handle_delta_unusable(delta, reason);
            return None;
        }
        let adapter = release.adapter;
        if let Some(header) = self.machine.handle_delta_rebuilt(delta, adapter, now) {
            self.kept.insert(header.id);
        }
        Some(adapter)
    }
}

impl Server {
    /// Notes a transfer of the final adapter, which is acknowledged under its own name, also if it comes as a delta.
    fn note_final(&mut self, header: &TransferHeader) {
        let whole = header.rebuilt(global(header.round.0));
        let whole = whole.unwrap_or(*header);
        if whole.kind == TransferKind::FinalAdapter {
            self.finals.insert(whole.id);
        }
    }

    /// Whether this participant's update waits for an answer.
    pub(crate) fn is_with_owner(&self, site: &str) -> bool {
        self.with_owner.contains(&name(site))
    }
}

impl Pair {
    /// A federation of the plan's participants, all of which dial at once.
    pub(crate) fn new(plan: RunPlan, weather: Weather, seed: u64) -> Self {
        let names = match &plan.cohort.participants {
            Participants::Named(names) => names.clone(),
            Participants::Any => Vec::new(),
        };
        let plan = plan.check().unwrap();
        let now = an_instant();
        let mut pair = Self {
            now,
            began: now,
            coordinator: coordinator(&plan, None, now),
            plan,
            server: Server::default(),
            sites: Vec::new(),
            weather,
            rng: Rng(seed),
            queue: BTreeMap::new(),
            lines: BTreeMap::new(),
            sequence: 0,
            next_connection: 1,
            hold_folds: false,
            crash_before: None,
            is_aggregating: false,
        };
        for name in names {
            pair.add_site(name);
        }
        pair
    }

    /// Adds a site that dials now and returns its index.
    pub(crate) fn add_site(&mut self, name: ParticipantName) -> usize {
        let declines = self.rng.chance(self.weather.decline);
        let machine = self.machine(&name, None);
        self.sites.push(Site {
            name,
            machine,
            connection: None,
            kept: BTreeSet::new(),
            spool: None,
            begun: BTreeMap::new(),
            listed: BTreeMap::new(),
            evidence: Vec::new(),
            acknowledged: BTreeSet::new(),
            heard: BTreeSet::new(),
            reports: Vec::new(),
            trainings: Vec::new(),
            outcome: None,
            declines,
            delivered: Vec::new(),
            manual: false,
            puppet: false,
            generation: 0,
            global: None,
            durable: None,
        });
        self.sites.len() - 1
    }

    fn machine(&mut self, name: &ParticipantName, spooled: Option<Spooled>) -> Participant {
        let software = Text::new("test client");
        let seed = self.rng.next();
        let mut setup = participant::Setup::new(name.clone(), software, seed, Arc::new(Eye));
        setup.spooled = spooled;
        Participant::new(setup, self.now)
    }

    // Driving.

    /// Does everything that is due at the next instant at which anything is; false if nothing ever is.
    pub(crate) fn step(&mut self) -> bool {
        self.act();
        let event = self.queue.keys().next().map(|&(at, _)| at);
        let timers = self
            .sites
            .iter()
            .filter_map(|site| site.machine.poll_timeout());
        let next = timers
            .chain(event)
            .chain(self.coordinator.poll_timeout())
            .min();
        let Some(next) = next else {
            return false;
        };
        self.now = self.now.max(next);
        if self.weather.clock_jump > 0 && self.rng.chance(self.weather.clock_jump) {
            self.now += Duration::from_secs(self.rng.below(3600));
        }
        while let Some(entry) = self.queue.first_entry() {
            if self.now < entry.key().0 {
                break;
            }
            let event = entry.remove();
            self.happen(event);
            self.act();
        }
        for site in &mut self.sites {
            if site
                .machine
                .poll_timeout()
                .is_some_and(|due| due <= self.now)
            {
                site.machine.handle_timeout(self.now);
            }
        }
        if self
            .coordinator
            .poll_timeout()
            .is_some_and(|due| due <= self.now)
        {
            self.coordinator.handle_timeout(self.now);
        }
        self.act();
        true
    }

    /// Runs until the run is over on every side.
    pub(crate) fn drive(&mut self) {
        assert!(self.drive_bounded(200_000), "the run does not end");
    }

    /// Runs at most this many steps; true if the run ended.
    pub(crate) fn drive_bounded(&mut self, steps: usize) -> bool {
        for _ in 0..steps {
            if !self.step() {
                break;
            }
            if self.server.outcome.is_some() && self.sites.iter().all(|site| site.outcome.is_some())
            {
                return true;
            }
        }
        self.server.outcome.is_some()
    }

    /// Runs until the condition holds.
    pub(crate) fn drive_until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        for _ in 0..50_000 {
            if condition(self) {
                return;
            }
            assert!(self.step(), "nothing happens any more before: {what}");
        }
        panic!("does not come about: {what}");
    }

    /// Lets virtual time pass.
    pub(crate) fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.act();
            let event = self.queue.keys().next().map(|&(at, _)| at);
            let timers = self
                .sites
                .iter()
                .filter_map(|site| site.machine.poll_timeout());
            let next = timers
                .chain(event)
                .chain(self.coordinator.poll_timeout())
                .min();
            if next.is_none_or(|next| until < next) {
                break;
            }
            self.step();
        }
        self.now = self.now.max(until);
    }

    // Faults, by hand or by the weather.

    /// All clocks jump ahead.
    pub(crate) fn jump(&mut self, time: Duration) {
        self.now += time;
    }

    /// Breaks a site's connection; the server notices a second later.
    pub(crate) fn cut(&mut self, site: usize) {
        if let Some(connection) = self.sites[site].connection {
            self.break_line(connection);
        }
    }

    /// Kills a site's process for good.
    pub(crate) fn kill(&mut self, site: usize) {
        self.cut(site);
        let site = &mut self.sites[site];
        site.generation += 1;
        site.connection = None;
        site.outcome = Some(participant::Outcome::ServerAway);
        site.machine.leave(Text::new("killed"), self.now);
        while site.machine.poll_action().is_some() {}
        site.machine
            .handle_timeout(self.now + Duration::from_secs(3600));
        while site.machine.poll_action().is_some() {}
    }

    /// Starts a killed site's process again.
    pub(crate) fn restart(&mut self, site: usize) {
        let name = self.sites[site].name.clone();
        let spooled = self.sites[site]
            .spool
            .clone()
            .filter(|_| self.weather.spool);
        let machine = self.machine(&name, spooled);
        let has_disk = self.weather.spool;
        let site = &mut self.sites[site];
        if !has_disk {
            site.begun.clear();
        }
        site.generation += 1;
        site.machine = machine;
        site.kept.clear();
        site.heard.clear();
        site.outcome = None;
        site.global = None;
    }

    /// Kills the server's process and starts it again from what was written down. Actions that were not performed are lost.
    pub(crate) fn crash(&mut self) {
        let lines: Vec<_> = self.lines.keys().copied().collect();
        for connection in lines {
            self.break_line(connection);
            self.lines.get_mut(&connection).unwrap().server_open = false;
        }
        let server = &mut self.server;
        server.crashes += 1;
        server.with_owner.clear();
        self.is_aggregating = false;
        server
            .summaries
            .truncate(server.history.rounds_done as usize);
        let accepted = server
            .history
            .open
            .iter()
            .flat_map(|open| open.accepted.keys());
        let accepted = accepted.cloned().collect();
        server.folded.insert(server.history.round(), accepted);
        let history = self.server.history.clone();
        self.coordinator = Coordinator::resume(self.setup(), history, self.now).unwrap();
    }

    /// The server cannot write an entry down: nothing that follows from it is said; it stops, and is started again.
    pub(crate) fn disk_full(&mut self) {
        if self.server.outcome.is_some() {
            return;
        }
        while self.coordinator.poll_action().is_some() {}
        self.coordinator.stop();
        while let Some(action) = self.coordinator.poll_action() {
            if matches!(action, coordinator::Action::Close { .. }) {
                self.act_for_server(action);
            }
        }
        self.crash();
    }

    /// What the server starts from, given what was written down.
    pub(crate) fn setup(&self) -> coordinator::Setup {
        let release = release(self.server.history.rounds_done);
        let transcript = self.server.transcript.clone();
        coordinator::Setup {
            transcript,
            release,
            ..setup(&self.plan, release.adapter, None)
        }
    }

    /// What the server wrote down, as a chain.
    pub(crate) fn chain(&self) -> Chain {
        let mut chain = Chain::new(self.plan.digest());
        for sealed in &self.server.transcript {
            sealed.check(&Eye).unwrap();
            chain.extend(&sealed.record.heading).unwrap();
        }
        chain
    }

    /// Puts a round on record.
    fn put_on_record(&mut self, round: Round, adapter: Content) -> SealedRecord {
        let before = global(round.0 - 1);
        let summary = &self.server.summaries[round.0 as usize - 1];
        let record = record(&self.chain(), summary, before, adapter);
        self.server.transcript.push(record.clone());
        record
    }

    /// Refuses an update that is with the owner.
    pub(crate) fn refuse(&mut self, site: &str) {
        let site = name(site);
        assert!(self.server.with_owner.remove(&site));
        self.coordinator
            .handle_update_refused(&site, RefusalReason::OverNorm, self.now)
            .unwrap();
    }

    fn break_line(&mut self, connection: ConnectionId) {
        let Some(line) = self.lines.get_mut(&connection) else {
            return;
        };
        line.cut = true;
        let (now, site_open, server_open) = (self.now, line.site_open, line.server_open);
        if site_open {
            self.at(now, Event::SiteLost(connection, None));
        }
        if server_open {
            let notices = now + self.rng.between((1000, 1000));
            self.at(notices, Event::ServerLost(connection));
        }
    }

    // The network.

    fn at(&mut self, when: Instant, event: Event) {
        self.sequence += 1;
        self.queue.insert((when, self.sequence), event);
    }

    fn send_to_server(&mut self, connection: ConnectionId, event: Event) {
        let latency = self.rng.between(self.weather.latency_ms);
        let now = self.now;
        let Some(line) = self.lines.get_mut(&connection) else {
            return;
        };
        line.to_server_until = line.to_server_until.max(now + latency);
        let when = line.to_server_until;
        self.at(when, event);
    }

    fn send_to_site(&mut self, connection: ConnectionId, event: Event) {
        let latency = self.rng.between(self.weather.latency_ms);
        let now = self.now;
        let Some(line) = self.lines.get_mut(&connection) else {
            return;
        };
        line.to_site_until = line.to_site_until.max(now + latency);
        let when = line.to_site_until;
        self.at(when, event);
    }

    fn bulk_time(&mut self) -> Duration {
        self.rng.between(self.weather.latency_ms) + self.rng.between(self.weather.bulk_ms)
    }

    /// Speaks for a site: the message goes to the server whatever its machine thinks.
    pub(crate) fn say(&mut self, site: usize, message: ToServer) {
        let connection = self.sites[site].connection.unwrap();
        self.send_to_server(connection, Event::ServerGets(connection, message));
    }

    /// Makes a line that a test connects by itself.
    pub(crate) fn lend_line(&mut self, connection: ConnectionId, site: &str) {
        let site = self.site(site);
        self.lines.insert(connection, Line::new(site, self.now));
        self.sites[site].connection = Some(connection);
    }

    /// Delivers bulk bytes for a site, whatever its machine thinks.
    pub(crate) fn pour(&mut self, site: usize, header: TransferHeader) {
        let connection = self.sites[site].connection.unwrap();
        self.send_to_server(connection, Event::ServerGetsTransfer(connection, header));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ServerGets(connection, message) => {
                if self.lines[&connection].reaches_server() {
                    self.coordinator
                        .handle_message(connection, message, self.now);
                }
            }
            Event::ServerGetsTransfer(connection, header) => {
                self.server_gets_transfer(connection, header)
            }
            Event::ServerGetsOtherBytes(connection, header) => {
                self.server_gets_other_bytes(connection, &header)
            }
            Event::ServerConnected(connection, site) => {
                let name = self.sites[site].name.clone();
                self.coordinator
                    .handle_connected(connection, name, self.now);
            }
            Event::ServerLost(connection) => {
                if let Some(line) = self.lines.get_mut(&connection)
                    && std::mem::take(&mut line.server_open)
                {
                    self.coordinator.handle_disconnected(connection, self.now);
                }
            }
            Event::BulkCut(connection, kept) => self.bulk_cut(connection, kept),
            Event::Folded(process, _) | Event::Aggregated(process, _)
                if process != self.server.crashes => {}
            // The owner forms the adapter of a closed round before it folds for the next.
            Event::Folded(process, name) if self.is_aggregating => {
                let when = self.now + Duration::from_millis(5);
                self.at(when, Event::Folded(process, name));
            }
            Event::Folded(_, name) => self.folded(name),
            Event::Aggregated(_, round) => {
                self.is_aggregating = false;
                self.server.history.round_done();
                let release = release(round.0);
                let record = self.put_on_record(round, release.adapter);
                self.coordinator
                    .round_aggregated(release, record, self.now)
                    .unwrap();
            }
            Event::Restart(site) => self.restart(site),
            other => self.happen_at_site(other),
        }
    }

    fn happen_at_site(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::SiteConnected(connection) => {
                if let Some(site) = self.site_of(connection) {
                    let begun = site.begun.iter();
                    let begun = begun.map(|(&sha256, begun)| Beginning {
                        sha256,
                        bytes: begun.bytes,
                    });
                    let begun: Vec<_> = begun.collect();
                    site.listed = begun.iter().map(|one| (one.sha256, one.bytes)).collect();
                    site.machine.transfers_kept(begun);
                    site.machine.handle_connected(now);
                }
            }
            Event::SiteGets(connection, message) => {
                if self.lines[&connection].reaches_site()
                    && let Some(site) = self.site_of(connection)
                {
                    site.machine.handle_message(message, now);
                }
            }
            Event::SiteGetsTransfer(connection, header) => {
                self.site_gets_transfer(connection, &header)
            }
            Event::SiteLost(connection, code) => {
                let site = self.site_of(connection);
                if let Some(site) = site {
                    site.connection = None;
                    site.machine.handle_disconnected(code, now);
                }
                if let Some(line) = self.lines.get_mut(&connection) {
                    line.site_open = false;
                }
            }
            Event::DialFailed(site, generation) => {
                let site = &mut self.sites[site];
                if site.generation == generation {
                    site.machine.handle_connect_failed(now);
                }
            }
            Event::PlanChecked(site, generation, signed) => {
                self.plan_checked(site, generation, &signed)
            }
            Event::Step(site, generation, round, step) => {
                let site = &mut self.sites[site];
                if site.generation == generation {
                    site.machine.progress(round, step);
                }
            }
            Event::Trained(site, generation, round) => self.trained(site, generation, round),
            _ => unreachable!("an event of the server"),
        }
    }

    fn site_gets_transfer(&mut self, connection: ConnectionId, header: &TransferHeader) {
        let now = self.now;
        // Bases are kept in memory where there is no disk.
        let keeps = self.weather.spool || self.plan.download == Download::Delta;
        let is_spoilt = keeps && self.plan.download == Download::Delta && {
            let damage = self.weather.damage;
            damage > 0 && self.rng.chance(damage)
        };
        if !self.lines[&connection].reaches_site() {
            return;
        }
        let Some(site) = self.site_of(connection) else {
            return;
        };
        let begun = site.begun.remove(&header.sha256);
        let listed = site.listed.get(&header.sha256).copied().unwrap_or(0);
        assert!(
            header.offset <= listed,
            "bytes were left out that nobody said were there"
        );
        // A content that overtook this one may have taken the room of its beginning.
        let is_whole = begun.is_some_and(|begun| header.offset <= begun.bytes && !begun.is_damaged);
        if 0 < header.offset && !is_whole {
            return site.machine.handle_transfer_damaged(header);
        }
        let adapter = if header.kind.is_delta() {
            match site.rebuild(header, now) {
                Some(adapter) => adapter,
                None => return,
            }
        } else {
            if site.machine.handle_transfer_received(header, now) == Disposition::Keep {
                site.kept.insert(header.id);
            }
            header.content()
        };
        if keeps {
            let whole = Begun {
                bytes: adapter.bytes,
                is_damaged: is_spoilt,
            };
            site.begun = BTreeMap::from([(adapter.sha256, whole)]);
        }
    }

    fn site_of(&mut self, connection: ConnectionId) -> Option<&mut Site> {
        let site = &mut self.sites[self.lines.get(&connection)?.site];
        (site.connection == Some(connection) && !site.puppet).then_some(site)
    }

    // The server's owner.

    fn server_gets_transfer(&mut self, connection: ConnectionId, header: TransferHeader) {
        if !self.lines[&connection].reaches_server() {
            return;
        }
        // While a round is aggregated, what is late for it comes for the next.
        let done = self.server.history.rounds_done;
        let open = self.coordinator.open_round().unwrap_or(Round(done + 2));
        let admission = self
            .coordinator
            .handle_update_received(connection, &header, self.now);
        if let Some(admission) = admission {
            let name = admission.participant;
            assert_eq!(
                admission.round, open,
                "an update was admitted into a round that is not open"
            );
            assert!((1..=self.plan.limits.weight_max).contains(&admission.weight));
            let folded = self.server.folded.get(&admission.round);
            assert!(
                folded.is_none_or(|folded| !folded.contains(&name)),
                "{name} is to be folded twice"
            );
            assert!(
                self.server.with_owner.insert(name.clone()),
                "{name} is already with the owner"
            );
            if !self.hold_folds {
                let when = self.now + self.rng.between(self.weather.fold_ms);
                self.at(when, Event::Folded(self.server.crashes, name));
            }
        }
    }

    /// As the server's driver does: other bytes are the sender's fault, unless we kept their beginning.
    fn server_gets_other_bytes(&mut self, connection: ConnectionId, header: &TransferHeader) {
        if !self.lines[&connection].reaches_server() {
            return;
        }
        if 0 < header.offset {
            self.coordinator
                .restart_delivery(connection, header.id, self.now);
        } else if let Some(admission) = self
            .coordinator
            .handle_update_received(connection, header, self.now)
        {
            let (name, reason) = (admission.participant, RefusalReason::WrongDigest);
            self.coordinator
                .handle_update_refused(&name, reason, self.now)
                .unwrap();
        }
    }

    /// Answers for an update that is with the owner.
    pub(crate) fn folded(&mut self, name: ParticipantName) {
        assert!(
            self.server.with_owner.remove(&name),
            "{name} is not with the owner"
        );
        let Some(round) = self.coordinator.open_round() else {
            assert!(
                self.coordinator.is_over(),
                "a round was closed while an update was with the owner"
            );
            return;
        };
        if self.rng.chance(self.weather.refuse) {
            self.coordinator
                .handle_update_refused(&name, RefusalReason::OverNorm, self.now)
                .unwrap();
        } else {
            self.server
                .folded
                .entry(round)
                .or_default()
                .insert(name.clone());
            self.coordinator
                .handle_update_accepted(&name, self.now)
                .unwrap();
        }
    }

    fn bulk_cut(&mut self, connection: ConnectionId, kept: Option<(TransferHeader, u64)>) {
        let line = &self.lines[&connection];
        if line.cut || !line.server_open || !line.site_open {
            return;
        }
        let site = &mut self.sites[line.site];
        match kept {
            Some((header, bytes)) if header.kind == TransferKind::Update => {
                let name = site.name.clone();
                self.coordinator
                    .update_kept(connection, &name, header.id, bytes);
            }
            Some((header, bytes)) => {
                let is_damaged = self.rng.chance(self.weather.damage);
                let begun = Begun { bytes, is_damaged };
                site.begun.insert(header.sha256, begun);
            }
            None => {}
        }
        self.break_line(connection);
    }

    fn aggregate(&mut self, summary: RoundSummary) {
        let round = summary.round;
        let folded = self.server.folded.entry(round).or_default();
        let counted: BTreeSet<_> = summary
            .accepted
            .iter()
            .map(|update| update.participant.clone())
            .collect();
        assert_eq!(*folded, counted, "round {round} counts what was folded");
        assert!(
            self.plan.cohort.quorum as usize <= counted.len(),
            "round {round} has no quorum"
        );
        assert_eq!(summary.accepted.len(), counted.len());
        assert_eq!(
            round.0 as usize,
            self.server.summaries.len() + 1,
            "rounds come in order"
        );
        self.is_aggregating = true;
        self.server.summaries.push(summary);
        self.each_update_counts_once();
        let when = self.now + self.rng.between(self.weather.fold_ms);
        self.at(when, Event::Aggregated(self.server.crashes, round));
    }

    /// Over all rounds: no update of a participant for one round counts twice, nor later than the plan allows.
    fn each_update_counts_once(&self) {
        let mut counted = BTreeSet::new();
        for summary in &self.server.summaries {
            for update in &summary.accepted {
                let trained = Round(summary.round.0 - update.rounds_late);
                let latest = self.plan.cohort.late.last_round(trained);
                assert!(summary.round <= latest, "{update:?} counts too late");
                assert!(
                    counted.insert((&update.participant, trained)),
                    "{update:?} counts again in {}",
                    summary.round
                );
            }
        }
    }

    /// Does what the machines ask for, until they ask for nothing.
    pub(crate) fn act(&mut self) {
        loop {
            let mut idle = true;
            while let Some(action) = self.coordinator.poll_action() {
                idle = false;
                let number = self.server.actions;
                self.server.actions += 1;
                if self.server.outcome.is_none()
                    && (self.crash_before == Some(number) || self.rng.chance(self.weather.crash))
                {
                    self.crash();
                    continue;
                }
                let is_record = matches!(action, coordinator::Action::Record(_));
                let full = self.weather.disk_full;
                if is_record && full > 0 && self.rng.chance(full) {
                    self.disk_full();
                    continue;
                }
                self.act_for_server(action);
            }
            for index in 0..self.sites.len() {
                while let Some(action) = self.sites[index].machine.poll_action() {
                    idle = false;
                    self.act_for_site(index, action);
                }
            }
            if idle {
                return;
            }
        }
    }

    fn act_for_server(&mut self, action: coordinator::Action) {
        assert!(
            self.server.outcome.is_none() || matches!(action, coordinator::Action::Close { .. })
        );
        match action {
            coordinator::Action::Send {
                connection,
                message,
            } => {
                let name = self.sites[self.lines[&connection].site].name.clone();
                if let ToClient::Train { global } = &message {
                    self.server.asked.insert((global.round, name.clone()));
                }
                if let ToClient::Accepted { round } = &message {
                    let folded = self.server.folded.get(round);
                    assert!(
                        folded.is_some_and(|folded| folded.contains(&name)),
                        "acknowledged and not folded"
                    );
                    let history = &self.server.history;
                    let open = history.open.as_ref().filter(|_| *round == history.round());
                    assert!(
                        round.0 <= history.rounds_done
                            || open.is_some_and(|open| open.accepted.contains_key(&name)),
                        "acknowledged and not written down"
                    );
                }
                self.server.sent.push((name, message.clone()));
                if self.rng.chance(self.weather.cut) {
                    self.break_line(connection);
                }
                self.send_to_site(connection, Event::SiteGets(connection, message));
            }
            coordinator::Action::SendTransfer { connection, header } => {
                let name = self.sites[self.lines[&connection].site].name.clone();
                self.server.transfers.push((name, header));
                self.server.note_final(&header);
                let when = self.now + self.bulk_time();
                let cut = self.rng.chance(self.weather.cut_bulk);
                let event = if cut {
                    let kept = header.offset + header.remaining() / 2;
                    Event::BulkCut(connection, Some((header, kept)))
                } else {
                    Event::SiteGetsTransfer(connection, header)
                };
                self.at(when, event);
            }
            coordinator::Action::Close {
                connection, code, ..
            } => {
                let line = self.lines.get_mut(&connection).unwrap();
                line.server_open = false;
                let name = self.sites[line.site].name.clone();
                self.server.closes.push((Some(name), code));
                self.send_to_site(connection, Event::SiteLost(connection, Some(code)));
            }
            coordinator::Action::Aggregate { summary } => self.aggregate(summary),
            coordinator::Action::BeginSum { .. } | coordinator::Action::OpenSum(_) => {
                unreachable!("no plan here has secure aggregation")
            }
            coordinator::Action::Record(entry) => self.server.history.note(entry),
            coordinator::Action::Report(report) => self.server.reports.push(report),
            coordinator::Action::End(outcome) => {
                assert!(
                    self.server.outcome.replace(outcome).is_none(),
                    "a run ends once"
                );
            }
        }
    }

    // A site's owner.

    fn act_for_site(&mut self, index: usize, action: participant::Action) {
        let now = self.now;
        let generation = self.sites[index].generation;
        match action {
            participant::Action::Connect => self.dial(index),
            participant::Action::Send(message) => {
                if let ToServer::Received { transfer } = message {
                    let is_final = self.server.finals.contains(&transfer);
                    let durable = self.sites[index].durable;
                    assert!(
                        !is_final || durable == Some(transfer),
                        "said before it was safe"
                    );
                }
                if let Some(connection) = self.sites[index].connection {
                    if self.rng.chance(self.weather.cut) {
                        self.break_line(connection);
                    }
                    self.send_to_server(connection, Event::ServerGets(connection, message));
                }
            }
            participant::Action::CheckPlan(signed) => {
                let when = now + self.rng.between(self.weather.latency_ms);
                self.at(when, Event::PlanChecked(index, generation, signed));
            }
            participant::Action::Train {
                round,
                global,
                steps,
                first_step,
            } => {
                assert_eq!(first_step, (round.0 - 1) * steps);
                assert!(
                    self.sites[index].kept.contains(&global.id),
                    "told to train from bytes that were not kept"
                );
                self.sites[index].trainings.push(round);
                self.sites[index].global = Some(global.sha256);
                if !self.sites[index].manual {
                    self.train(index, round, steps);
                }
            }
            participant::Action::StopTraining { .. } => self.sites[index].generation += 1,
            participant::Action::SendTransfer { header } => self.upload(index, header),
            participant::Action::Keep { adapter } => {
                assert!(self.sites[index].kept.contains(&adapter.id));
                self.sites[index].durable = Some(adapter.id);
            }
            participant::Action::Forget { transfer } => {
                self.sites[index].kept.remove(&transfer);
            }
            participant::Action::Close(_) => {
                if let Some(connection) = self.sites[index].connection.take() {
                    self.send_to_server(connection, Event::ServerLost(connection));
                    self.lines.get_mut(&connection).unwrap().site_open = false;
                }
            }
            participant::Action::Remember(evidence) => self.sites[index].evidence.push(evidence),
            participant::Action::Report(participant::Report::Accepted { round }) => {
                self.sites[index].acknowledged.insert(round);
                assert!(self.sites[index].heard.insert(round), "acknowledged twice");
            }
            participant::Action::Secure { .. } => {
                unreachable!("no plan here has secure aggregation")
            }
            participant::Action::Report(report) => self.sites[index].reports.push(report),
            participant::Action::End(outcome) => self.site_ends(index, outcome),
        }
    }

    fn site_ends(&mut self, index: usize, outcome: participant::Outcome) {
        if let participant::Outcome::Finished { adapter, .. } = &outcome {
            assert!(
                self.sites[index].kept.contains(&adapter.id),
                "the final adapter was not kept"
            );
        }
        self.sites[index].outcome = Some(outcome);
        if let Some(connection) = self.sites[index].connection.take() {
            self.send_to_server(connection, Event::ServerLost(connection));
        }
    }

    fn dial(&mut self, index: usize) {
        let latency = self.rng.between(self.weather.latency_ms);
        let generation = self.sites[index].generation;
        if self.rng.chance(self.weather.dial_fails) {
            self.at(self.now + latency, Event::DialFailed(index, generation));
            return;
        }
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.lines.insert(connection, Line::new(index, self.now));
        self.sites[index].connection = Some(connection);
        self.send_to_server(connection, Event::ServerConnected(connection, index));
        self.at(self.now + latency * 2, Event::SiteConnected(connection));
    }

    fn plan_checked(&mut self, index: usize, generation: u64, signed: &SignedPlan) {
        let now = self.now;
        let site = &mut self.sites[index];
        if site.generation != generation || site.machine.is_over() {
            return;
        }
        match signed.open(&Eye) {
            Ok(_) if site.declines => site
                .machine
                .decline(Text::new("against the site's policy"), now)
                .unwrap(),
            Ok(plan) => {
                let mut witness = Witness::new(plan.digest(), &site.name);
                for evidence in &site.evidence {
                    witness.recall(evidence).unwrap();
                }
                let agreed = site.machine.accept_plan(plan, AnchorCopy::Missing, witness);
                agreed.unwrap();
            }
            Err(error) => site.machine.refuse_plan(error).unwrap(),
        }
    }

    fn train(&mut self, index: usize, round: Round, steps: u32) {
        let whole = self.rng.between(self.weather.train_ms);
        let generation = self.sites[index].generation;
        if self.rng.chance(self.weather.hang) {
            return;
        }
        if self.rng.chance(self.weather.kill) {
            let when = self.now + whole / 2;
            self.cut(index);
            self.sites[index].generation += 1;
            self.at(when, Event::Restart(index));
            return;
        }
        for step in 1..=steps {
            let when = self.now + whole * step / steps;
            self.at(when, Event::Step(index, generation, round, step));
        }
        self.at(self.now + whole, Event::Trained(index, generation, round));
    }

    fn trained(&mut self, index: usize, generation: u64, round: Round) {
        let digest = self.plan.digest();
        let site = &mut self.sites[index];
        if site.generation != generation {
            return;
        }
        let update = content(&format!("{} in {round} by {generation}", site.name));
        let metrics = Metrics {
            train_loss: Some(1.5),
        };
        let header = site.machine.trained(round, update, 10, metrics).unwrap();
        if let (Some(header), Some(global)) = (header, site.global) {
            site.kept.insert(header.id);
            site.spool = Some(Spooled {
                plan: digest,
                round,
                global,
                update,
                weight: 10,
                metrics,
            });
        }
    }

    /// A site finished an update and its process died before anybody heard of it.
    pub(crate) fn trained_unheard(&mut self, index: usize, round: Round) {
        let plan = self.plan.digest();
        let site = &mut self.sites[index];
        let update = content(&format!("{} unheard in {round}", site.name));
        site.spool = site.global.map(|global| Spooled {
            plan,
            round,
            global,
            update,
            weight: 10,
            metrics: Metrics::default(),
        });
    }

    fn upload(&mut self, index: usize, header: TransferHeader) {
        self.sites[index].delivered.push(header);
        if self.sites[index].manual {
            return;
        }
        let Some(connection) = self.sites[index].connection else {
            return;
        };
        let when = self.now + self.bulk_time();
        if self.rng.chance(self.weather.cut_bulk) {
            let kept = header.offset + header.remaining() / 2;
            self.at(when, Event::BulkCut(connection, Some((header, kept))));
            return;
        }
        if self.weather.corrupt > 0 && self.rng.chance(self.weather.corrupt) {
            self.at(when, Event::ServerGetsOtherBytes(connection, header));
            return;
        }
        self.at(when, Event::ServerGetsTransfer(connection, header));
        if self.rng.chance(self.weather.duplicate) {
            let again = when + self.bulk_time();
            self.at(again, Event::ServerGetsTransfer(connection, header));
        }
    }

    // Asking what happened.

    pub(crate) fn site(&self, name: &str) -> usize {
        self.sites
            .iter()
            .position(|site| site.name.as_str() == name)
            .unwrap()
    }

    /// Names counted in this round.
    pub(crate) fn counted(&self, round: u32) -> Vec<&str> {
        self.server
            .folded
            .get(&Round(round))
            .into_iter()
            .flatten()
            .map(ParticipantName::as_str)
            .collect()
    }

    /// The codes with which the server closed this participant's connections.
    pub(crate) fn codes(&self, name: &str) -> Vec<CloseCode> {
        let of = |(closed, code): &(Option<ParticipantName>, CloseCode)| {
            closed
                .as_ref()
                .is_some_and(|closed| closed.as_str() == name)
                .then_some(*code)
        };
        self.server.closes.iter().filter_map(of).collect()
    }

    /// The reasons with which this participant was refused.
    pub(crate) fn refusals(&self, name: &str) -> Vec<RefusalReason> {
        let of = |(to, message): &(ParticipantName, ToClient)| match message {
            ToClient::Refused { reason, .. } if to.as_str() == name => Some(*reason),
            _ => None,
        };
        self.server.sent.iter().filter_map(of).collect()
    }
}

impl Line {
    fn new(site: usize, now: Instant) -> Self {
        Self {
            site,
            server_open: true,
            site_open: true,
            cut: false,
            to_server_until: now,
            to_site_until: now,
        }
    }

    fn reaches_server(&self) -> bool {
        self.server_open && !self.cut
    }

    fn reaches_site(&self) -> bool {
        self.site_open && !self.cut
    }
}
