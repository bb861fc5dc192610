//! A participant's side of one attempt.
//!
//! The machine believes nothing that the server says and cannot be talked out of its rules: lists only shrink and hold us as
//! ourselves, certificates and signatures hold in our own context, a sum of few is not opened, of a peer either its mask's seed or its key is
//! revealed and never both, one attempt is opened once, and a second one of the same round only for the same participants. What is
//! about to be revealed is written down first.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::Deceit;
use super::context::{Terms, keys_digest};
use super::graph::Arrangement;
use super::message::{
    AttemptId, Confirmation, ForMember, ForServer, Keys, Piece, Sealed, Share, SignedKeys,
};
use super::parts::{Assembly, split};
use super::roster::{MemberId, Roster, RosterEntry, VerifiedMember};
use super::statement::{self, Verify};
use crate::ids::{Digest, ParticipantName};
use crate::plan::{CheckedPlan, SECURE_PARTICIPANTS_MAX, SecureAggregationPlan};

/// What a participant brings into an attempt.
#[derive(Clone, Debug)]
pub struct MemberSetup {
    /// Its name.
    pub name: ParticipantName,
    /// The Ed25519 key of its certificate.
    pub public_key: [u8; 32],
    /// The run's plan.
    pub plan: CheckedPlan,
    /// SHA-256 of the global adapter that it trained from, as it was received.
    pub model: Digest,
    /// What it opened before in this round, from its disk.
    pub earlier: Option<Earlier>,
    /// Checks signatures.
    pub verify: Verify,
}

/// A sum that a participant helped to open. It outlives the process.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Earlier {
    /// Of which run.
    pub plan: Digest,
    /// In which attempt.
    pub attempt: AttemptId,
    /// Whose updates are in it.
    pub delivered: Vec<ParticipantName>,
}

/// A roster that we do not go on with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unfit {
    /// A certificate is over, or its time has not come.
    OutOfTime {
        /// Whose: the place in the roster, from 1.
        member: MemberId,
    },
    /// The server lies.
    Deceit(Deceit),
}

/// One thing to do, in the order in which they are polled.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Check these certificates against the federation's authority and answer with [`Member::roster_checked`].
    CheckRoster(Vec<RosterEntry>),
    /// Draw fresh keys and answer with [`Member::advertised`].
    Advertise {
        /// What the attempt is about.
        context: Digest,
        /// Our number.
        own: MemberId,
    },
    /// Split both secrets, seal the shares of others, keep our own, and answer with [`Member::shared`].
    Share {
        /// The digest of all keys.
        keys: Digest,
        /// Shares that give a secret back.
        threshold: u32,
        /// Who gets the shares at places 1, 2, ... and for which sealing key; we are among them.
        places: Vec<(MemberId, [u8; 32])>,
    },
    /// Open and keep the shares, mask the update against these masking keys, and answer with [`Member::masked`] or
    /// [`Member::object`].
    Mask {
        /// From our neighbours.
        shares: Vec<Sealed>,
        /// The masking keys of the same.
        peers: Vec<(MemberId, [u8; 32])>,
    },
    /// Sign this and answer with [`Member::confirmed`].
    Confirm {
        /// The bytes to sign.
        statement: Vec<u8>,
    },
    /// Write this down so that it outlives a crash, before the action that follows.
    Record(Earlier),
    /// Answer with [`Member::revealed`]: shares of the mask seeds of those that delivered, and of the masking keys of those that
    /// dropped out. No member is in both lists.
    Reveal {
        /// Whose seed shares to reveal; we are among them.
        delivered: Vec<MemberId>,
        /// Whose key shares to reveal.
        dropped: Vec<MemberId>,
    },
    /// Say this to the server.
    Send(ForServer),
}

/// One attempt.
#[derive(Debug)]
pub struct Member {
    setup: MemberSetup,
    rules: SecureAggregationPlan,
    attempt: AttemptId,
    stage: Stage,
    roster: Assembly<RosterEntry>,
    key_list: Assembly<SignedKeys>,
    share_list: Assembly<Sealed>,
    confirmation_list: Assembly<Confirmation>,
    group: Option<Group>,
    /// What we said.
    own_keys: Option<Keys>,
    keys: Vec<SignedKeys>,
    keys_digest: Digest,
    neighbours: Vec<MemberId>,
    shares: Option<Vec<Sealed>>,
    sharers: Vec<MemberId>,
    delivered: Vec<MemberId>,
    actions: VecDeque<Action>,
}

/// Who is in, and what follows from it.
#[derive(Clone, Debug)]
struct Group {
    roster: Roster,
    arrangement: Arrangement,
    context: Digest,
    own: MemberId,
}

/// How far the attempt has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The roster is coming.
    Gathering,
    /// The owner checks certificates.
    Checking,
    /// The owner draws keys.
    Advertising,
    /// Our keys are out; those of all are coming.
    AwaitingKeys,
    /// The owner seals shares.
    Sharing,
    /// Our shares are out; those for us are coming.
    AwaitingShares,
    /// The owner masks.
    Masking,
    /// The masked vector is on its way or there.
    Masked,
    /// The owner signs.
    Confirming,
    /// Our confirmation is out; those of others are coming.
    AwaitingConfirmations,
    /// The owner reveals.
    Revealing,
    /// Nothing more is said.
    Over,
}

impl Member {
    /// An attempt of which the roster is awaited; `None` if the plan has no secure aggregation.
    pub fn new(setup: MemberSetup, attempt: AttemptId) -> Option<Self> {
        let rules = setup.plan.secure_aggregation?;
        Some(Self {
            setup,
            rules,
            attempt,
            stage: Stage::Gathering,
            roster: Assembly::default(),
            key_list: Assembly::default(),
            share_list: Assembly::default(),
            confirmation_list: Assembly::default(),
            group: None,
            own_keys: None,
            keys: Vec::new(),
            keys_digest: Digest::default(),
            neighbours: Vec::new(),
            shares: None,
            sharers: Vec::new(),
            delivered: Vec::new(),
            actions: VecDeque::new(),
        })
    }

    // Getters.

    /// Which attempt it is.
    pub fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// Whether the masked update is to be delivered.
    pub fn is_masked(&self) -> bool {
        self.stage == Stage::Masked
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    // What happened.

    /// The server said something about this attempt.
    ///
    /// # Errors
    /// The [`Deceit`]: nothing more may be said to this server.
    pub fn handle_message(&mut self, message: ForMember) -> Result<(), Deceit> {
        match (self.stage, message) {
            // What is still on its way when an attempt ends.
            (Stage::Over, _) => Ok(()),
            (_, ForMember::Abandoned { .. }) => {
                self.stage = Stage::Over;
                Ok(())
            }
            (Stage::Gathering, ForMember::Roster(part)) => self.take_roster(part),
            (Stage::AwaitingKeys, ForMember::Keys(part)) => self.take_keys(part),
            (Stage::AwaitingShares, ForMember::Shares(part)) => self.take_shares(part),
            (Stage::AwaitingShares, ForMember::Mask { members }) => self.take_sharers(members),
            (Stage::Masked, ForMember::Delivered { members }) => self.take_delivered(members),
            (Stage::AwaitingConfirmations, ForMember::Confirmations(part)) => {
                self.take_confirmations(part)
            }
            (_, message) => Err(Deceit::OutOfTurn {
                message: message.name(),
            }),
        }
    }

    // What the owner wants.

    /// The certificates of [`Action::CheckRoster`] are those of these members, or one of them does not hold.
    ///
    /// A certificate that is out of its time by our clock is no lie of the server's, whose clock may be another: we object to the member
    /// and take no part in this attempt.
    ///
    /// # Errors
    /// The [`Deceit`].
    pub fn roster_checked(
        &mut self,
        found: Result<Vec<VerifiedMember>, Unfit>,
    ) -> Result<(), Deceit> {
        if self.stage != Stage::Checking {
            return Ok(());
        }
        let what = "members";
        let members = match found {
            Ok(members) => members,
            Err(Unfit::OutOfTime { member }) => {
                self.object(member);
                return Ok(());
            }
            Err(Unfit::Deceit(deceit)) => return Err(deceit),
        };
        let roster = Roster::new(members).ok_or(Deceit::List { what })?;
        let own = roster
            .id(&self.setup.name)
            .ok_or(Deceit::NotOurselves { what })?;
        let is_us = |member: &VerifiedMember| member.public_key == self.setup.public_key;
        if !roster.get(own).is_some_and(is_us) {
            return Err(Deceit::NotOurselves { what });
        }
        let arrangement = Arrangement::new(roster.len(), self.rules.trust);
        enough(what, roster.len() as usize, self.least(&arrangement))?;
        let context = Terms {
            plan: &self.setup.plan,
            attempt: self.attempt,
            model: self.setup.model,
            roster: &roster,
            arrangement,
        }
        .context();
        self.group = Some(Group {
            roster,
            arrangement,
            context,
            own,
        });
        self.stage = Stage::Advertising;
        self.actions.push_back(Action::Advertise { context, own });
        Ok(())
    }

    /// The fresh public keys; `sign` signs with the key of our certificate.
    pub fn advertised(&mut self, keys: Keys, sign: impl FnOnce(&[u8]) -> Vec<u8>) {
        if let (Stage::Advertising, Some(group)) = (self.stage, &self.group) {
            let signature = sign(&statement::of_keys(&group.context, group.own, &keys));
            self.own_keys = Some(keys);
            self.say(Stage::AwaitingKeys, ForServer::Keys { keys, signature });
        }
    }

    /// The shares are split and sealed, those for others in the order of their numbers.
    pub fn shared(&mut self, sealed: &[Sealed]) {
        if self.stage == Stage::Sharing {
            for part in split(sealed) {
                self.say(Stage::AwaitingShares, ForServer::Shares(part));
            }
        }
    }

    /// The update is masked and can be delivered.
    pub fn masked(&mut self) {
        if self.stage == Stage::Masking {
            self.stage = Stage::Masked;
        }
    }

    /// Keys or shares of a member cannot be used: we take no further part in this attempt.
    pub fn object(&mut self, against: MemberId) {
        if self.stage != Stage::Over {
            self.say(Stage::Over, ForServer::Objection { against });
        }
    }

    /// The signature of [`Action::Confirm`].
    pub fn confirmed(&mut self, signature: Vec<u8>) {
        if self.stage == Stage::Confirming {
            self.say(
                Stage::AwaitingConfirmations,
                ForServer::Confirmation { signature },
            );
        }
    }

    /// The shares of [`Action::Reveal`]. Nothing more is said in this attempt.
    pub fn revealed(&mut self, mut shares: Vec<Share>) {
        if self.stage == Stage::Revealing {
            shares.sort_by_key(|share| share.of);
            for part in split(&shares) {
                self.say(Stage::Over, ForServer::Reveal(part));
            }
        }
    }

    // Inside.

    fn say(&mut self, next: Stage, message: ForServer) {
        self.stage = next;
        self.actions.push_back(Action::Send(message));
    }

    fn take_roster(&mut self, part: Piece<RosterEntry>) -> Result<(), Deceit> {
        let what = "members";
        let limit = self
            .setup
            .plan
            .limits
            .participants_max
            .min(SECURE_PARTICIPANTS_MAX);
        let added = self.roster.add(part, limit);
        if let Some(entries) = added.map_err(|_| Deceit::List { what })? {
            self.stage = Stage::Checking;
            self.actions.push_back(Action::CheckRoster(entries));
        }
        Ok(())
    }

    fn take_keys(&mut self, part: Piece<SignedKeys>) -> Result<(), Deceit> {
        let what = "keys";
        let Some(group) = self.group.clone() else {
            return Ok(());
        };
        let added = self.key_list.add(part, group.roster.len());
        let Some(keys) = added.map_err(|_| Deceit::List { what })? else {
            return Ok(());
        };
        let present: Vec<_> = keys.iter().map(|one| one.member).collect();
        let all: Vec<_> = group.roster.ids().collect();
        shrinks(what, &present, &all)?;
        enough(what, present.len(), self.least(&group.arrangement))?;
        let ours = keys.iter().find(|one| one.member == group.own);
        if ours.map(|ours| ours.keys) != self.own_keys {
            return Err(Deceit::NotOurselves { what });
        }
        self.check_signatures(&group, &keys)?;
        distinct(&group.roster, &keys)?;
        self.keys_digest = keys_digest(&keys);
        let arrangement = &group.arrangement;
        self.neighbours = arrangement.neighbours_of(group.own, &present, &self.keys_digest);
        enough(
            what,
            self.neighbours.len() + 1,
            arrangement.threshold() as usize,
        )?;
        let is_near =
            |one: &&SignedKeys| one.member == group.own || self.neighbours.contains(&one.member);
        let near = keys.iter().filter(is_near);
        let places = near.map(|one| (one.member, one.keys.sealing)).collect();
        self.keys = keys;
        self.stage = Stage::Sharing;
        self.actions.push_back(Action::Share {
            keys: self.keys_digest,
            threshold: arrangement.threshold(),
            places,
        });
        Ok(())
    }

    fn check_signatures(&self, group: &Group, keys: &[SignedKeys]) -> Result<(), Deceit> {
        for one in keys {
            let said = statement::of_keys(&group.context, one.member, &one.keys);
            let signer = group.roster.get(one.member);
            let holds = signer.is_some_and(|member| {
                (self.setup.verify)(&member.public_key, &said, &one.signature)
            });
            if !holds {
                let (name, what) = (group.roster.name(one.member), "keys");
                return Err(Deceit::Signature { name, what });
            }
        }
        Ok(())
    }

    fn take_shares(&mut self, part: Piece<Sealed>) -> Result<(), Deceit> {
        let limit = u32::try_from(self.neighbours.len()).unwrap_or(u32::MAX);
        let added = self.share_list.add(part, limit);
        if let Some(shares) = added.map_err(|_| Deceit::Shares)?
            && self.shares.replace(shares).is_some()
        {
            return Err(Deceit::Shares);
        }
        Ok(())
    }

    fn take_sharers(&mut self, members: Vec<MemberId>) -> Result<(), Deceit> {
        let what = "shares";
        let Some(group) = &self.group else {
            return Ok(());
        };
        let before: Vec<_> = self.keys.iter().map(|one| one.member).collect();
        shrinks(what, &members, &before)?;
        if !members.contains(&group.own) {
            return Err(Deceit::NotOurselves { what });
        }
        enough(what, members.len(), self.least(&group.arrangement))?;
        let near: Vec<_> = self.near(&members).collect();
        enough(what, near.len() + 1, group.arrangement.threshold() as usize)?;
        let shares = self.shares.take().ok_or(Deceit::Shares)?;
        if !shares.iter().map(|one| one.member).eq(near.iter().copied()) {
            return Err(Deceit::Shares);
        }
        let masking = |one: &SignedKeys| (one.member, one.keys.masking);
        let peers = self
            .keys
            .iter()
            .filter(|one| near.contains(&one.member))
            .map(masking)
            .collect();
        self.sharers = members;
        self.stage = Stage::Masking;
        self.actions.push_back(Action::Mask { shares, peers });
        Ok(())
    }

    fn take_delivered(&mut self, members: Vec<MemberId>) -> Result<(), Deceit> {
        let what = "delivered vectors";
        let Some(group) = &self.group else {
            return Ok(());
        };
        shrinks(what, &members, &self.sharers)?;
        if !members.contains(&group.own) {
            return Err(Deceit::NotOurselves { what });
        }
        enough(what, members.len(), self.least(&group.arrangement))?;
        let near = self.near(&members).count() + 1;
        enough(what, near, group.arrangement.threshold() as usize)?;
        let names: Vec<_> = members.iter().map(|&one| group.roster.name(one)).collect();
        let same_round = |earlier: &&Earlier| {
            earlier.plan == self.setup.plan.digest() && earlier.attempt.round == self.attempt.round
        };
        if let Some(earlier) = self.setup.earlier.as_ref().filter(same_round)
            && earlier.delivered != names
        {
            return Err(Deceit::OtherSet);
        }
        let lists = (self.sharers.as_slice(), members.as_slice());
        let statement = statement::of_delivery(&group.context, &self.keys_digest, group.own, lists);
        self.delivered = members;
        self.stage = Stage::Confirming;
        self.actions.push_back(Action::Confirm { statement });
        Ok(())
    }

    fn take_confirmations(&mut self, part: Piece<Confirmation>) -> Result<(), Deceit> {
        let what = "confirmations";
        let limit = u32::try_from(self.delivered.len()).unwrap_or(u32::MAX);
        let added = self.confirmation_list.add(part, limit);
        let (Some(list), Some(group)) = (added.map_err(|_| Deceit::List { what })?, &self.group)
        else {
            return Ok(());
        };
        let members: Vec<_> = list.iter().map(|one| one.member).collect();
        shrinks(what, &members, &self.delivered)?;
        let counts =
            |one: &&Confirmation| one.member == group.own || self.neighbours.contains(&one.member);
        let found = list
            .iter()
            .filter(counts)
            .filter(|one| self.holds(group, one))
            .count();
        let least = group.arrangement.threshold() as usize;
        if found < least {
            return Err(Deceit::SplitView { found, least });
        }
        let names = self
            .delivered
            .iter()
            .map(|&one| group.roster.name(one))
            .collect();
        let earlier = Earlier {
            plan: self.setup.plan.digest(),
            attempt: self.attempt,
            delivered: names,
        };
        let mut delivered: Vec<_> = self.near(&self.delivered).chain([group.own]).collect();
        delivered.sort_unstable();
        let is_gone = |one: &MemberId| !self.delivered.contains(one);
        let dropped = self.near(&self.sharers).filter(is_gone).collect();
        self.stage = Stage::Revealing;
        self.actions.push_back(Action::Record(earlier));
        self.actions
            .push_back(Action::Reveal { delivered, dropped });
        Ok(())
    }

    /// Whether a member confirmed the very lists that we were given.
    fn holds(&self, group: &Group, one: &Confirmation) -> bool {
        let lists = (self.sharers.as_slice(), self.delivered.as_slice());
        let said = statement::of_delivery(&group.context, &self.keys_digest, one.member, lists);
        let signer = group.roster.get(one.member);
        signer.is_some_and(|member| (self.setup.verify)(&member.public_key, &said, &one.signature))
    }

    /// Our neighbours among these.
    fn near<'a>(&'a self, members: &'a [MemberId]) -> impl Iterator<Item = MemberId> + 'a {
        let is_near = |one: &MemberId| self.neighbours.contains(one);
        members.iter().copied().filter(is_near)
    }

    /// Fewer than this are not enough, whatever the server says.
    fn least(&self, arrangement: &Arrangement) -> usize {
        let threshold = if arrangement.is_complete() {
            arrangement.threshold()
        } else {
            0
        };
        let quorum = self.setup.plan.cohort.quorum;
        threshold.max(self.rules.cohort_min).max(quorum) as usize
    }
}

/// A list is in order and within the one before it.
fn shrinks(what: &'static str, list: &[MemberId], before: &[MemberId]) -> Result<(), Deceit> {
    let ordered = list.windows(2).all(|pair| pair[0] < pair[1]);
    if ordered && list.iter().all(|one| before.binary_search(one).is_ok()) {
        Ok(())
    } else {
        Err(Deceit::List { what })
    }
}

fn enough(what: &'static str, found: usize, least: usize) -> Result<(), Deceit> {
    if least <= found {
        Ok(())
    } else {
        Err(Deceit::TooFew { what, found, least })
    }
}

/// No key is there twice: two members with one key would be one.
fn distinct(roster: &Roster, keys: &[SignedKeys]) -> Result<(), Deceit> {
    let mut seen = BTreeSet::new();
    for one in keys {
        for key in [one.keys.sealing, one.keys.masking] {
            if !seen.insert(key) {
                let has =
                    |other: &&SignedKeys| [other.keys.sealing, other.keys.masking].contains(&key);
                let first = keys
                    .iter()
                    .find(has)
                    .map_or(one.member, |other| other.member);
                let (first, second) = (roster.name(first), roster.name(one.member));
                return Err(Deceit::SameKey { first, second });
            }
        }
    }
    Ok(())
}
