//! A participant's side of one attempt.
//!
//! The machine believes nothing that the server says and cannot be talked out of its rules: lists only shrink and hold us as
//! ourselves, certificates and signatures hold in our own context, a sum of few is not opened, of a peer either its mask's seed or its
//! key is revealed and never both, one attempt is opened once, and a second one of the same round only for the same participants. What
//! is about to be revealed is written down first. Each step has a file of its own.

mod action;
mod keys;
mod lists;
mod opening;
mod roster;
mod shares;

use std::collections::VecDeque;

pub use action::{Action, Earlier, MemberSetup, Unfit};

use super::Deceit;
use super::graph::Arrangement;
use super::message::{AttemptId, Confirmation, ForMember, ForServer, Keys, Sealed, SignedKeys};
use super::parts::Assembly;
use super::roster::{MemberId, Roster, RosterEntry};
use crate::ids::Digest;
use crate::plan::SecureAggregationPlan;

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

    // Inside.

    fn say(&mut self, next: Stage, message: ForServer) {
        self.stage = next;
        self.actions.push_back(Action::Send(message));
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
