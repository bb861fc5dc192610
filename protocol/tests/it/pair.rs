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

mod faults;
mod network;
mod plans;
mod server;
mod site;
mod weather;

pub(crate) use plans::{
    ADAPTER_BYTES, Eye, KEY, an_instant, content, coordinator, global, masked, name, plan, record,
    release, seal, setup, sign,
};
pub(crate) use weather::{Rng, Weather};

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
    /// What the server sends on it that has not arrived: the transfer, and how many of its bytes left.
    sending: Vec<(TransferHeader, u64)>,
}

/// One institution: the machine and what its owner would keep.
pub(crate) struct Site {
    pub(crate) name: ParticipantName,
    pub(crate) machine: Participant,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) kept: BTreeSet<TransferId>,
    pub(crate) spool: Option<Spooled>,
    /// What takes its place, and when.
    pub(crate) writing: Option<(Instant, Spooled)>,
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
    /// The updates that came of them.
    made: BTreeSet<(Round, Digest)>,
    pub(crate) outcome: Option<participant::Outcome>,
    pub(crate) declines: bool,
    /// Bulk streams sent, by header: tells resumed ones by their offset.
    pub(crate) delivered: Vec<TransferHeader>,
    /// Does not report or deliver by itself: tests speak for it.
    pub(crate) manual: bool,
    /// Its machine hears nothing any more: the test is the participant.
    pub(crate) puppet: bool,
    /// Whether a test spoke for it at some time.
    was_spoken_for: bool,
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

/// What an update adds to a sum: its bytes, by their digest, and its weight.
pub(crate) type Folded = (Digest, u64);

/// What a server would do, with the promises it relies on checked on the way: a fold is asked for once per
/// participant and round, never after the round was closed, and no round closes without its quorum.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) folded: BTreeMap<Round, BTreeMap<ParticipantName, Folded>>,
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
    with_owner: BTreeMap<ParticipantName, Folded>,
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
            writing: None,
            begun: BTreeMap::new(),
            listed: BTreeMap::new(),
            evidence: Vec::new(),
            acknowledged: BTreeSet::new(),
            heard: BTreeSet::new(),
            reports: Vec::new(),
            trainings: Vec::new(),
            made: BTreeSet::new(),
            outcome: None,
            declines,
            delivered: Vec::new(),
            manual: false,
            puppet: false,
            was_spoken_for: false,
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

    /// Runs until the run is over on every side but those that a test speaks for.
    pub(crate) fn drive(&mut self) {
        assert!(self.drive_bounded(200_000), "the run does not end");
        for site in &self.sites {
            let is_spoken_for = site.manual || site.puppet;
            assert!(
                is_spoken_for || site.outcome.is_some(),
                "{} does not end, {}",
                site.name,
                site.machine.state()
            );
        }
    }

    /// Runs at most this many steps, or until the run is over on every side; true if it ended for the server.
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
            .flat_map(|folded| folded.keys())
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
            sending: Vec::new(),
        }
    }

    fn reaches_server(&self) -> bool {
        self.server_open && !self.cut
    }

    fn reaches_site(&self) -> bool {
        self.site_open && !self.cut
    }
}
