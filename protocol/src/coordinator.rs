//! The server's side of a run as a value: who takes part, which round is open, what counts.
//!
//! The methods of [`Coordinator`] come in four kinds. Getters. `handle_*`: the world did something. Plain verbs:
//! the owner wants something. `poll_*`: what to do now, and when to come back. After each `handle_*` or verb, poll
//! actions until there are none, then sleep until [`Coordinator::poll_timeout`] at the latest.
//!
//! It does not see an update's bytes. The owner receives them, asks [`Coordinator::handle_update_received`]
//! whether they count, folds them, and answers. That question and its answer are what makes an update count once.
//! What must outlive a crash of the owner it asks to have written down; see [`Entry`].
//!
//! One phase follows the other: joining, then for each round open and aggregating, then finishing, then over. A
//! failure leads from any of them to over. The rules are in `docs/protocol.md`.

mod action;
mod allowance;
mod asking;
mod attempt;
mod closing;
mod connection;
mod deadline;
mod delivery;
mod ending;
mod fetched;
mod fixed_sum;
mod history;
mod joining;
mod lateness;
mod message;
mod offer;
mod phase;
mod quorum;
mod release;
mod resuming;
mod roster;
mod round;
mod secure;
mod selection;
mod sending;
mod setup;
mod suspicion;
mod telling;

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

pub use action::{AcceptedUpdate, Action, Admission, Outcome, Report, RoundSummary};
pub use allowance::Allowance;
pub use history::{Entry, History, Late, OpenHistory};
pub use release::{Delta, Release};
pub use setup::{Setup, SetupError};

use crate::ids::{ConnectionId, ParticipantName, Round};
use crate::message::{ToClient, ToServer, TransferHeader};
use crate::plan::{CheckedPlan, Participants, SignedPlan};
use crate::secagg::Verify;
use crate::text::Text;
use crate::transcript::{Archive, SealedRecord};
use crate::violation::Misuse;
use allowance::Accounts;
use phase::Phase;
use resuming::Returning;
use roster::Roster;

/// One run, from the server's side.
#[derive(Debug)]
pub struct Coordinator {
    software: Text,
    plan: CheckedPlan,
    signed: SignedPlan,
    anchor: Option<TransferHeader>,
    /// The adapter that the open or the next round starts from, as it travels; after the last round the final one.
    release: Release,
    /// The records of the rounds that are done.
    transcript: Archive,
    roster: Roster,
    accounts: Accounts,
    /// Those of whom was written down that they joined and still need something.
    joined: BTreeSet<ParticipantName>,
    returning: Returning,
    /// Checks members' signatures in secure aggregation.
    verify: Verify,
    phase: Phase,
    actions: VecDeque<Action>,
}

impl Coordinator {
    /// A run that waits for its participants.
    ///
    /// # Errors
    /// [`SetupError`] if the parts do not belong together.
    pub fn new(setup: Setup, now: Instant) -> Result<Self, SetupError> {
        let anchor = setup.check()?;
        let Setup {
            plan,
            signed,
            release,
            anchor: _,
            transcript,
            software,
            allowance,
        } = setup;
        Ok(Self {
            software,
            plan,
            signed,
            anchor,
            release,
            transcript: transcript.into(),
            roster: Roster::default(),
            accounts: Accounts::new(allowance),
            joined: BTreeSet::new(),
            returning: Returning::nobody(now),
            verify: |_, _, _| false,
            phase: Phase::Joining { since: now },
            actions: VecDeque::new(),
        })
    }

    // Getters.

    /// The run's plan.
    pub fn plan(&self) -> &CheckedPlan {
        &self.plan
    }

    /// The open round.
    pub fn open_round(&self) -> Option<Round> {
        match &self.phase {
            Phase::Open(open) => Some(open.round),
            _ => None,
        }
    }

    /// The participants that agreed to the plan and are connected, by name.
    pub fn ready(&self) -> impl Iterator<Item = &ParticipantName> {
        self.roster.all_ready().map(|(name, _)| name)
    }

    /// Whether the run has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over { .. })
    }

    // What happened.

    /// A message arrived. One of a connection that is already forgotten is ignored.
    pub fn handle_message(&mut self, connection: ConnectionId, message: ToServer, now: Instant) {
        if let Some(name) = self.roster.name(connection).cloned() {
            let charged = self.accounts.message(&name, now);
            let taken = charged.and_then(|()| self.take(connection, &name, message, now));
            if let Err(breach) = taken {
                self.punish(connection, breach);
            }
            self.settle(now);
        }
    }

    /// The instant of [`Coordinator::poll_timeout`] has come, or any other.
    pub fn handle_timeout(&mut self, now: Instant) {
        for connection in self.roster_overdue(now) {
            self.close_overdue(connection);
        }
        self.settle(now);
    }

    // What the owner wants.

    /// Goes on from the next global adapter, formed from the round that [`Action::Aggregate`] closed. Its record is in the
    /// owner's keeping for good.
    ///
    /// # Errors
    /// [`Misuse`] if no round waits for it. After the end of the run it is ignored.
    pub fn round_aggregated(
        &mut self,
        release: Release,
        record: SealedRecord,
        now: Instant,
    ) -> Result<(), Misuse> {
        self.acknowledge_summed();
        let Some((_, next)) = self.phase.take_aggregating() else {
            let (verb, state) = ("round_aggregated", self.phase.label());
            return if self.is_over() {
                Ok(())
            } else {
                Err(Misuse { verb, state })
            };
        };
        self.release = release;
        self.transcript.push(record);
        if next.round.0 <= self.plan.rounds {
            self.open(next, now);
        } else {
            self.finish(now);
        }
        self.settle(now);
        Ok(())
    }

    // What to do now.

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Coordinator::handle_timeout`], if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_deadline()
    }

    // Inside.

    /// Draws every conclusion from the present state: the one place where phases end.
    fn settle(&mut self, now: Instant) {
        self.returning.note_time(now);
        match &mut self.phase {
            Phase::Joining { since } => {
                let since = *since;
                self.settle_joining(since, now);
            }
            Phase::Open(open) => {
                let soft_passed = open.note_time(&self.plan.cohort, now);
                self.fill(now);
                self.settle_round(soft_passed, now);
            }
            Phase::Finishing { .. } => self.settle_finishing(),
            Phase::Aggregating { .. } | Phase::Over { .. } => {}
        }
    }

    /// The participants that the plan names; none if anyone may take part.
    fn named(&self) -> &[ParticipantName] {
        match &self.plan.cohort.participants {
            Participants::Named(names) => names,
            Participants::Any => &[],
        }
    }

    fn send(&mut self, connection: ConnectionId, message: ToClient) {
        self.actions.push_back(Action::Send {
            connection,
            message,
        });
    }

    fn record(&mut self, entry: Entry) {
        self.actions.push_back(Action::Record(entry));
    }

    /// One needs nothing more from this run, as far as it is known now.
    fn part(&mut self, name: &ParticipantName) {
        self.returning.remove(name);
        if self.joined.remove(name) {
            self.record(Entry::Parted {
                participant: name.clone(),
            });
        }
    }

    fn report(&mut self, report: Report) {
        self.actions.push_back(Action::Report(report));
    }
}
