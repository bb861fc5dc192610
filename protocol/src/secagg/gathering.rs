//! The server's side of one attempt: relays keys, shares and confirmations, and collects what opens the sum.
//!
//! It sees no vector; whether one arrived it is told. A step goes on when everybody who is there has answered, or when its time is
//! over; who has not answered by then has dropped out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::context::{Terms, keys_digest};
use super::graph::Arrangement;
use super::message::{
    AttemptId, Confirmation, ForMember, ForServer, Keys, Piece, Sealed, Share, SignedKeys,
};
use super::parts::{Assembly, split};
use super::roster::{MemberId, Roster, RosterEntry, VerifiedMember};
use super::statement::{self, Verify};
use crate::ids::{Digest, ParticipantName};
use crate::plan::CheckedPlan;

/// How far an attempt has come.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Step {
    /// Keys are coming in.
    Keys,
    /// Sealed shares are coming in.
    Shares,
    /// Masked vectors are coming in.
    Vectors,
    /// Confirmations are coming in.
    Confirmations,
    /// Shares that open the sum are coming in.
    Opening,
    /// Nothing more is expected.
    Over,
}

impl Step {
    /// What is coming in.
    pub fn label(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Shares => "shares",
            Self::Vectors => "masked vectors",
            Self::Confirmations => "confirmations",
            Self::Opening => "opened shares",
            Self::Over => "nothing",
        }
    }
}

/// What comes of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Say this to a member.
    Tell {
        /// To whom.
        member: MemberId,
        /// What.
        message: ForMember,
    },
    /// Members are asked to open the sum of these next, whatever comes of it.
    Fixed {
        /// Whose vectors are in it.
        delivered: Vec<ParticipantName>,
    },
    /// The sum can be opened.
    Opened(Opening),
    /// It cannot: the attempt is over.
    Failed(Failure),
}

/// All it takes to open the sum of the delivered vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    /// Which attempt.
    pub attempt: AttemptId,
    /// What it was about.
    pub context: Digest,
    /// Shares that give a secret back.
    pub threshold: u32,
    /// The public keys of all that shared.
    pub keys: BTreeMap<MemberId, Keys>,
    /// The members' names.
    pub names: BTreeMap<MemberId, ParticipantName>,
    /// One secret for each member that shared.
    pub secrets: Vec<Revealed>,
}

/// A secret in shares.
#[derive(Clone, Debug, PartialEq)]
pub struct Revealed {
    /// Whose.
    pub of: MemberId,
    /// Which of its two.
    pub secret: Secret,
    /// At least the threshold of them; some may be wrong.
    pub shares: Vec<Share>,
    /// Who revealed each of them.
    pub by: Vec<MemberId>,
}

/// Which secret is revealed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Secret {
    /// The seed of the own mask of one that delivered.
    SelfMask,
    /// The masking key of one that dropped out, whose pair masks are still on the vectors of these neighbours.
    PairKey {
        /// Neighbours that delivered.
        neighbours: Vec<MemberId>,
    },
}

/// Why an attempt came to nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Too many dropped out.
    #[error("{found} of {members} members were left when {what} were due, {least} are needed")]
    TooFew {
        /// What was coming in.
        what: &'static str,
        /// How many were left.
        found: usize,
        /// Members at the beginning.
        members: usize,
        /// How many are needed.
        least: usize,
        /// Those that owed something then.
        silent: Vec<ParticipantName>,
    },
    /// A member cannot use what another sent.
    #[error("{by} cannot use what {against} sent")]
    Objection {
        /// Who objected.
        by: ParticipantName,
        /// Against whom.
        against: ParticipantName,
    },
}

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
    /// When a member was last lost, while it may still come back with its vector.
    lost_at: Option<Instant>,
    /// Somebody was lost since the last look at the clock.
    is_newly_lost: bool,
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
            lost_at: None,
            is_newly_lost: false,
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

    /// The next thing that comes of it.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the step's time is over.
    pub fn deadline(&self, limit: Duration) -> Option<Instant> {
        match self.step {
            Step::Over => None,
            // Those who are there are held to moving bytes by their connections' limit.
            Step::Vectors => self.lost_at.map(|lost_at| lost_at + limit),
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
        }
    }

    /// A member's connection is gone; one that may return is waited for while its vector is awaited.
    pub fn handle_lost(&mut self, name: &ParticipantName, may_return: bool) {
        if let Some(member) = self.roster.id(name) {
            self.present.remove(&member);
            let owes = self.shares.contains_key(&member) && !self.delivered.contains(&member);
            self.is_newly_lost |= owes && may_return;
        }
    }

    /// A member is back. It goes on only if its vector is what it owes.
    pub fn handle_returned(&mut self, name: &ParticipantName) {
        if let Some(member) = self.roster.id(name)
            && self.step == Step::Vectors
        {
            self.present.insert(member);
            let is_away =
                |one: MemberId| !self.present.contains(&one) && self.shares.contains_key(&one);
            if !self
                .roster
                .ids()
                .any(|one| is_away(one) && !self.delivered.contains(&one))
            {
                self.lost_at = None;
            }
        }
    }

    /// Goes on to the next step if this one is done or its time is over.
    pub fn settle(&mut self, limit: Duration, now: Instant) {
        if std::mem::take(&mut self.is_newly_lost) {
            self.lost_at = Some(now);
        }
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

    fn take_keys(
        &mut self,
        member: MemberId,
        keys: Keys,
        signature: Vec<u8>,
    ) -> Result<(), &'static str> {
        let said = statement::of_keys(&self.context, member, &keys);
        if !self.is_signed(member, &said, &signature) {
            return Err("its keys are not under its signature in this attempt");
        }
        let signed = SignedKeys {
            member,
            keys,
            signature,
        };
        match self.keys.insert(member, signed) {
            None => Ok(()),
            Some(_) => Err("it sent its keys twice"),
        }
    }

    fn take_shares(&mut self, member: MemberId, part: Piece<Sealed>) -> Result<(), &'static str> {
        let present: Vec<_> = self.keys.keys().copied().collect();
        let expected = self
            .arrangement
            .neighbours_of(member, &present, &self.keys_digest);
        let limit = u32::try_from(expected.len()).unwrap_or(u32::MAX);
        let coming = self.coming_shares.entry(member).or_default();
        let whole = coming
            .add(part, limit)
            .map_err(|_| "the parts of its shares do not follow each other")?;
        let Some(shares) = whole else {
            return Ok(());
        };
        if !self.keys.contains_key(&member) || !shares.iter().map(|one| one.member).eq(expected) {
            return Err("its shares are not for its neighbours");
        }
        match self.shares.insert(member, shares) {
            None => Ok(()),
            Some(_) => Err("it sent its shares twice"),
        }
    }

    fn take_confirmation(
        &mut self,
        member: MemberId,
        signature: Vec<u8>,
    ) -> Result<(), &'static str> {
        let (sharers, delivered) = (self.sharers(), self.delivered_ids());
        let lists = (sharers.as_slice(), delivered.as_slice());
        let said = statement::of_delivery(&self.context, &self.keys_digest, member, lists);
        if !self.delivered.contains(&member) || !self.is_signed(member, &said, &signature) {
            return Err("its confirmation is not of the list that it was given");
        }
        self.confirmations
            .insert(member, Confirmation { member, signature });
        Ok(())
    }

    fn take_reveal(&mut self, member: MemberId, part: Piece<Share>) -> Result<(), &'static str> {
        if !self.confirmations.contains_key(&member) {
            return Err("it reveals shares and has confirmed nothing");
        }
        let expected = self.near(member, &self.sharers());
        let limit = u32::try_from(expected.len()).unwrap_or(u32::MAX);
        let coming = self.coming_reveals.entry(member).or_default();
        let whole = coming
            .add(part, limit)
            .map_err(|_| "the parts of its shares do not follow each other")?;
        let Some(shares) = whole else {
            return Ok(());
        };
        if !shares.iter().map(|one| one.of).eq(expected) {
            return Err("its shares are not those of its neighbours and its own");
        }
        self.reveals.insert(member, shares);
        Ok(())
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
            self.lost_at = None;
        }
        !waits && self.lost_at.is_none()
    }

    fn close_keys(&mut self) {
        if self.is_too_few(self.keys.len()) {
            return;
        }
        let keys: Vec<_> = self.keys.values().cloned().collect();
        self.keys_digest = keys_digest(&keys);
        let parts = split(&keys);
        for one in &keys {
            for part in &parts {
                self.tell(one.member, ForMember::Keys(part.clone()));
            }
        }
        self.step = Step::Shares;
    }

    fn close_shares(&mut self) {
        if self.is_too_few(self.shares.len()) {
            return;
        }
        let sharers = self.sharers();
        let mut for_each: BTreeMap<MemberId, Vec<Sealed>> = BTreeMap::new();
        for (&member, shares) in &mut self.shares {
            for Sealed { member: to, bytes } in shares.drain(..) {
                let sealed = Sealed { member, bytes };
                for_each.entry(to).or_default().push(sealed);
            }
        }
        for &member in &sharers {
            for part in split(&for_each.remove(&member).unwrap_or_default()) {
                self.tell(member, ForMember::Shares(part));
            }
            let members = sharers.clone();
            self.tell(member, ForMember::Mask { members });
        }
        self.lost_at = None;
        self.step = Step::Vectors;
    }

    fn close_vectors(&mut self) {
        if self.is_too_few(self.delivered.len()) {
            return;
        }
        let members = self.delivered_ids();
        for &member in &members {
            let members = members.clone();
            self.tell(member, ForMember::Delivered { members });
        }
        self.step = Step::Confirmations;
    }

    fn close_confirmations(&mut self) {
        let found = self.confirmations.len();
        if self.is_too_few_to_open(found) {
            return;
        }
        let all: Vec<_> = self.confirmations.keys().copied().collect();
        let delivered = self.delivered().collect();
        self.outputs.push_back(Output::Fixed { delivered });
        for &member in &all {
            let near = self.near(member, &all);
            let list: Vec<_> = near
                .iter()
                .filter_map(|one| self.confirmations.get(one))
                .cloned()
                .collect();
            for part in split(&list) {
                self.tell(member, ForMember::Confirmations(part));
            }
        }
        self.step = Step::Opening;
    }

    fn close_opening(&mut self) {
        let sharers = self.sharers();
        let mut secrets: Vec<_> = sharers.iter().map(|&of| self.secret(of)).collect();
        for (by, shares) in std::mem::take(&mut self.reveals) {
            for share in shares {
                if let Ok(place) = secrets.binary_search_by_key(&share.of, |secret| secret.of) {
                    secrets[place].shares.push(share);
                    secrets[place].by.push(by);
                }
            }
        }
        let is_needed = |secret: &&Revealed| match &secret.secret {
            Secret::SelfMask => true,
            Secret::PairKey { neighbours } => !neighbours.is_empty(),
        };
        let fewest = secrets
            .iter()
            .filter(is_needed)
            .map(|secret| secret.shares.len())
            .min();
        if self.is_too_few_to_open(fewest.unwrap_or(0)) {
            return;
        }
        let keys = sharers
            .iter()
            .filter_map(|one| Some((*one, self.keys.get(one)?.keys)))
            .collect();
        let names = sharers
            .iter()
            .map(|&one| (one, self.roster.name(one)))
            .collect();
        self.outputs.push_back(Output::Opened(Opening {
            attempt: self.attempt,
            context: self.context,
            threshold: self.arrangement.threshold(),
            keys,
            names,
            secrets,
        }));
        self.step = Step::Over;
    }

    /// The secret of a member that has to be put together, still without shares.
    fn secret(&self, of: MemberId) -> Revealed {
        let secret = if self.delivered.contains(&of) {
            Secret::SelfMask
        } else {
            let mut neighbours = self.near(of, &self.delivered_ids());
            neighbours.retain(|&one| one != of);
            Secret::PairKey { neighbours }
        };
        Revealed {
            of,
            secret,
            shares: Vec::new(),
            by: Vec::new(),
        }
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

    fn sharers(&self) -> Vec<MemberId> {
        self.shares.keys().copied().collect()
    }

    fn delivered_ids(&self) -> Vec<MemberId> {
        self.delivered.iter().copied().collect()
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
        let silent = self.roster.ids().filter(|member| self.owes(member));
        let silent = silent.map(|member| self.roster.name(member)).collect();
        self.fail(Failure::TooFew {
            what: self.step.label(),
            found,
            members: self.roster.len() as usize,
            least,
            silent,
        });
        true
    }

    fn fail(&mut self, failure: Failure) {
        self.step = Step::Over;
        self.outputs.push_back(Output::Failed(failure));
    }
}
