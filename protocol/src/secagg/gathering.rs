//! The server's side of one attempt: relays keys, shares and confirmations, and collects what opens the sum.
//!
//! It sees no vector; whether one arrived it is told. A step goes on when everybody who is there has answered, or when its time is
//! over; who has not answered by then has dropped out. Each step has a file of its own.

mod away;
mod confirmations;
mod keys;
mod opening;
mod output;
mod shares;
mod vectors;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

pub use output::{Failure, Opening, Output, Revealed, Secret, Step};

use self::away::Away;
use super::context::Terms;
use super::graph::Arrangement;
use super::message::{AttemptId, Confirmation, ForMember, ForServer, Sealed, Share, SignedKeys};
use super::parts::{Assembly, split};
use super::roster::{MemberId, Roster, RosterEntry, VerifiedMember};
use super::statement::Verify;
use crate::ids::{Digest, ParticipantName};
use crate::plan::CheckedPlan;
use crate::text::Text;

/// An attempt, from the server's side.
#[derive(Debug)]
pub struct Gathering {
    attempt: AttemptId,
    context: Digest,
    roster: Roster,
    arrangement: Arrangement,
    /// A sum of fewer is of no use: the plan's quorum and minimum, and the threshold.
    least: usize,
    verify: Verify,
    step: Step,
    entered_at: Instant,
    /// How long masked vectors may be on their way, however steadily: as long as a round.
    longest: Duration,
    away: Away,
    present: BTreeSet<MemberId>,
    keys: BTreeMap<MemberId, SignedKeys>,
    keys_digest: Digest,
    coming_shares: BTreeMap<MemberId, Assembly<Sealed>>,
    /// By sender.
    shares: BTreeMap<MemberId, Vec<Sealed>>,
    delivered: BTreeSet<MemberId>,
    confirmations: BTreeMap<MemberId, Confirmation>,
    coming_reveals: BTreeMap<MemberId, Assembly<Share>>,
    reveals: BTreeMap<MemberId, Vec<Share>>,
    outputs: VecDeque<Output>,
}

impl Gathering {
    /// Begins an attempt among these members, which are all there; entries and members are in the order of names.
    ///
    /// `None` if they are not, or the plan has no secure aggregation.
    pub fn new(
        plan: &CheckedPlan,
        (attempt, model): (AttemptId, Digest),
        entries: &[RosterEntry],
        members: Vec<VerifiedMember>,
        verify: Verify,
        now: Instant,
    ) -> Option<Self> {
        let rules = plan.secure_aggregation?;
        let roster = Roster::new(members)?;
        let arrangement = Arrangement::new(roster.len(), rules.trust);
        let terms = Terms {
            plan,
            attempt,
            model,
            roster: &roster,
            arrangement,
        };
        let context = terms.context();
        let threshold = if arrangement.is_complete() {
            arrangement.threshold()
        } else {
            0
        };
        let least = threshold.max(rules.cohort_min).max(plan.cohort.quorum) as usize;
        let mut gathering = Self {
            attempt,
            context,
            arrangement,
            least,
            verify,
            step: Step::Keys,
            entered_at: now,
            longest: plan.cohort.hard_deadline,
            away: Away::default(),
            present: roster.ids().collect(),
            roster,
            keys: BTreeMap::new(),
            keys_digest: Digest::default(),
            coming_shares: BTreeMap::new(),
            shares: BTreeMap::new(),
            delivered: BTreeSet::new(),
            confirmations: BTreeMap::new(),
            coming_reveals: BTreeMap::new(),
            reveals: BTreeMap::new(),
            outputs: VecDeque::new(),
        };
        let parts = split(entries);
        for member in gathering.roster.ids().collect::<Vec<_>>() {
            for part in &parts {
                gathering.tell(member, ForMember::Roster(part.clone()));
            }
        }
        Some(gathering)
    }

    /// Has it come to nothing unless every member delivers: a sum of the same members was to be opened before.
    #[must_use]
    pub fn of_all(mut self) -> Self {
        self.least = self.roster.len() as usize;
        self
    }

    // Getters.

    /// Which attempt it is.
    pub fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// How far it has come.
    pub fn step(&self) -> Step {
        self.step
    }

    /// The members.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Whether a member's masked vector is awaited.
    pub fn awaits_vector(&self, name: &ParticipantName) -> bool {
        let id = self.roster.id(name);
        self.step == Step::Vectors
            && id.is_some_and(|id| self.shares.contains_key(&id) && !self.delivered.contains(&id))
    }

    /// Those whose vectors are in the sum.
    pub fn delivered(&self) -> impl Iterator<Item = ParticipantName> + '_ {
        self.delivered.iter().map(|&id| self.roster.name(id))
    }

    /// Whether the time for masked vectors is over also for those that are still sending theirs.
    pub fn is_closing(&self, now: Instant) -> bool {
        self.step == Step::Vectors && self.entered_at + self.longest <= now
    }

    /// The next thing that comes of it.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the step's time is over.
    pub fn deadline(&self, limit: Duration) -> Option<Instant> {
        match self.step {
            Step::Over => None,
            // Those who are there are held to moving bytes by their connections' limit, too.
            Step::Vectors => {
                let until = self.entered_at + self.longest;
                let away = self.away.until(limit);
                Some(away.map_or(until, |away| until.min(away)))
            }
            _ => Some(self.entered_at + limit),
        }
    }

    // What happened.

    /// A member said something.
    ///
    /// # Errors
    /// In words, what about it cannot be: the member broke the protocol.
    pub fn handle_message(
        &mut self,
        name: &ParticipantName,
        message: ForServer,
    ) -> Result<(), &'static str> {
        let Some(member) = self.roster.id(name) else {
            return Err("it is no member of the attempt");
        };
        match (self.step, message) {
            (Step::Keys, ForServer::Keys { keys, signature }) => {
                self.take_keys(member, keys, signature)
            }
            (Step::Shares, ForServer::Shares(part)) => self.take_shares(member, part),
            (Step::Confirmations, ForServer::Confirmation { signature }) => {
                self.take_confirmation(member, signature)
            }
            (Step::Opening, ForServer::Reveal(part)) => self.take_reveal(member, part),
            (Step::Keys | Step::Shares | Step::Vectors, ForServer::Objection { against }) => {
                let against = self
                    .roster
                    .get(against)
                    .ok_or("it objects against nobody")?;
                let failure = Failure::Objection {
                    by: name.clone(),
                    against: against.name.clone(),
                };
                self.fail(failure);
                Ok(())
            }
            // Late: the step went on without it.
            (_, _) => Ok(()),
        }
    }

    /// A member's masked vector is in the sum.
    pub fn handle_delivered(&mut self, name: &ParticipantName) {
        if let Some(member) = self.roster.id(name) {
            self.delivered.insert(member);
            self.away.remove(member);
        }
    }

    /// A member's connection is gone; one that may return is waited for while its vector is awaited.
    pub fn handle_lost(&mut self, name: &ParticipantName, may_return: bool) {
        if let Some(member) = self.roster.id(name) {
            self.present.remove(&member);
            let owes = self.shares.contains_key(&member) && !self.delivered.contains(&member);
            if owes && may_return {
                self.away.insert(member);
            } else {
                self.away.remove(member);
            }
        }
    }

    /// A member is back. It goes on only if its vector is what it owes.
    pub fn handle_returned(&mut self, name: &ParticipantName) {
        if let Some(member) = self.roster.id(name)
            && self.step == Step::Vectors
        {
            self.present.insert(member);
            self.away.remove(member);
        }
    }

    /// Goes on to the next step if this one is done or its time is over.
    pub fn settle(&mut self, limit: Duration, now: Instant) {
        self.away.note(now);
        while self.goes_on(limit, now) {
            match self.step {
                Step::Keys => self.close_keys(),
                Step::Shares => self.close_shares(),
                Step::Vectors => self.close_vectors(),
                Step::Confirmations => self.close_confirmations(),
                Step::Opening => self.close_opening(),
                Step::Over => return,
            }
            self.entered_at = now;
        }
    }

    // Inside.

    fn tell(&mut self, member: MemberId, message: ForMember) {
        self.outputs.push_back(Output::Tell { member, message });
    }

    fn is_signed(&self, member: MemberId, said: &[u8], signature: &[u8]) -> bool {
        let signer = self.roster.get(member);
        signer.is_some_and(|signer| (self.verify)(&signer.public_key, said, signature))
    }

    /// Whether a member owes an answer in this step.
    fn owes(&self, member: &MemberId) -> bool {
        match self.step {
            Step::Keys => !self.keys.contains_key(member),
            Step::Shares => self.keys.contains_key(member) && !self.shares.contains_key(member),
            Step::Vectors => self.shares.contains_key(member) && !self.delivered.contains(member),
            Step::Confirmations => {
                self.delivered.contains(member) && !self.confirmations.contains_key(member)
            }
            Step::Opening => {
                self.confirmations.contains_key(member) && !self.reveals.contains_key(member)
            }
            Step::Over => false,
        }
    }

    /// Whether the step is done: all that are there have answered, or its time is over.
    fn goes_on(&mut self, limit: Duration, now: Instant) -> bool {
        if self.step == Step::Over {
            return false;
        }
        let waits = self.present.iter().any(|member| self.owes(member));
        let is_late = self.deadline(limit).is_some_and(|deadline| deadline <= now);
        if self.step != Step::Vectors {
            return is_late || !waits;
        }
        if is_late {
            // Nobody who is away is waited for any more.
            self.away.clear();
        }
        !waits && self.away.is_empty()
    }

    /// A member and its neighbours among these, in order.
    fn near(&self, member: MemberId, among: &[MemberId]) -> Vec<MemberId> {
        let present: Vec<_> = self.keys.keys().copied().collect();
        let neighbours = self
            .arrangement
            .neighbours_of(member, &present, &self.keys_digest);
        let is_near = |one: &MemberId| *one == member || neighbours.binary_search(one).is_ok();
        among.iter().copied().filter(is_near).collect()
    }

    /// Those of whom a secret is to be opened: who delivered, and who left its pair masks on the vector of a neighbour.
    fn to_open(&self) -> Vec<MemberId> {
        let delivered = self.delivered_ids();
        let is_needed = |one: &MemberId| {
            self.delivered.contains(one) || !self.near(*one, &delivered).is_empty()
        };
        self.sharers().into_iter().filter(is_needed).collect()
    }

    /// Whether one of these has fewer neighbours in a list than open its secrets; then the attempt has come to nothing. Members find
    /// the same, and would hold it against the server.
    fn is_scattered(&mut self, of: &[MemberId], list: &[MemberId]) -> bool {
        // Where everybody shares with everybody, their number says it.
        if self.arrangement.is_complete() {
            return false;
        }
        let fewest = of.iter().map(|&one| self.near(one, list).len()).min();
        let (found, least) = (fewest.unwrap_or(0), self.arrangement.threshold() as usize);
        let is_scattered = found < least;
        if is_scattered {
            let (what, silent) = (Text::new(self.step.label()), self.silent());
            self.fail(Failure::Scattered {
                what,
                found,
                least,
                silent,
            });
        }
        is_scattered
    }

    fn is_too_few(&mut self, found: usize) -> bool {
        self.fails_below(found, self.least)
    }

    fn is_too_few_to_open(&mut self, found: usize) -> bool {
        self.fails_below(found, self.arrangement.threshold() as usize)
    }

    fn fails_below(&mut self, found: usize, least: usize) -> bool {
        if least <= found {
            return false;
        }
        let silent = self.silent();
        self.fail(Failure::TooFew {
            what: Text::new(self.step.label()),
            found,
            members: self.roster.len() as usize,
            least,
            silent,
        });
        true
    }

    /// Those that owe an answer in this step.
    fn silent(&self) -> Vec<ParticipantName> {
        let silent = self.roster.ids().filter(|member| self.owes(member));
        silent.map(|member| self.roster.name(member)).collect()
    }

    fn fail(&mut self, failure: Failure) {
        self.step = Step::Over;
        self.outputs.push_back(Output::Failed(failure));
    }
}
