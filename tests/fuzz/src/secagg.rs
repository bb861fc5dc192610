//! Sequences of operations on both sides of an attempt at secure aggregation: a member whose server says anything, and a server whose
//! members say anything. Cryptography is made up: the machines only move keys and shares, and ask whether a signature holds.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use protocol::plan::{CheckedPlan, RingBits, RingPlan, SecureAggregationPlan, ServerTrust};
use protocol::secagg::{
    Action, AttemptId, Confirmation, Earlier, ForMember, ForServer, Gathering, Keys, Member,
    MemberId, MemberSetup, Opening, Output, Piece, RosterEntry, Sealed, Secret, Share, SignedKeys,
    Step, Unfit, VerifiedMember,
};
use protocol::{Digest, ParticipantName, Round, Text};

use crate::coordinator::plan;

const MEMBERS: u32 = 5;
const LEAST: usize = 3;
const ATTEMPT: AttemptId = AttemptId {
    round: Round(1),
    number: 1,
};

/// Plays the bytes as what a server says and what the owner answers, and checks that nothing is revealed that must not be.
pub fn member(bytes: &[u8]) {
    Membership::played(bytes);
}

/// Plays the bytes as what members say and when they come and go, and checks that an opening has all that it needs.
pub fn gathering(bytes: &[u8]) {
    Assembly::played(bytes);
}

/// An attempt that comes to its end, for [`member`], to be damaged.
pub fn member_script() -> Vec<u8> {
    let steps = (0..=5).flat_map(|op| [op, 0xff, 4]);
    std::iter::once(0).chain(steps).collect()
}

/// The same for [`gathering`]: each step of all members.
pub fn gathering_script() -> Vec<u8> {
    let steps = [0, 2, 4, 6, 7].into_iter();
    let all = steps.flat_map(|op| (0..MEMBERS as u8).map(move |member| [op, member, 0x1f]));
    let signed = all.map(|[op, a, b]| [op, a, if op == 0 || op == 6 { 1 } else { b }]);
    signed.flatten().collect()
}

struct Membership {
    machine: Member,
    public_key: [u8; 32],
    own: MemberId,
    context: Digest,
    statement: Vec<u8>,
    recorded: Option<Earlier>,
    has_revealed: bool,
    /// The server was caught: the owner says nothing more.
    is_over: bool,
}

impl Membership {
    fn played(bytes: &[u8]) -> Self {
        let mut bytes = bytes.iter().copied();
        let mut game = Self::new(bytes.next().unwrap_or(0));
        while let (Some(op), Some(a), Some(b)) = (bytes.next(), bytes.next(), bytes.next()) {
            game.play(op, a, b);
        }
        game
    }

    fn new(seed: u8) -> Self {
        let own = MemberId(1 + u32::from(seed) % MEMBERS);
        let setup = MemberSetup {
            name: member_name(own),
            public_key: public_key(own),
            plan: secure_plan(),
            model: Digest::default(),
            earlier: None,
            verify,
        };
        Self {
            machine: Member::new(setup, ATTEMPT).expect("the plan has secure aggregation"),
            public_key: public_key(own),
            own,
            context: Digest::default(),
            statement: Vec::new(),
            recorded: None,
            has_revealed: false,
            is_over: false,
        }
    }

    fn play(&mut self, op: u8, a: u8, b: u8) {
        let members = chosen(a, b);
        let message = match op % 8 {
            0 => ForMember::Roster(piece(members.iter().map(|&one| entry(one)).collect(), b)),
            1 => ForMember::Keys(piece(
                members.iter().map(|&one| self.keys(one, b)).collect(),
                b,
            )),
            2 => {
                let others = members.iter().filter(|&&one| one != self.own || b == 9);
                ForMember::Shares(piece(others.map(|&one| sealed(one)).collect(), b))
            }
            3 => ForMember::Mask { members },
            4 => ForMember::Delivered { members },
            5 | 6 => ForMember::Confirmations(piece(
                members
                    .iter()
                    .map(|&one| self.confirmation(one, b))
                    .collect(),
                b,
            )),
            _ if b == 0 => ForMember::Abandoned {
                reason: Text::default(),
            },
            _ => return,
        };
        if !self.is_over && self.machine.handle_message(message).is_err() {
            self.is_over = true;
        }
        self.act(b);
    }

    fn act(&mut self, b: u8) {
        while let Some(action) = self.machine.poll_action() {
            if self.is_over {
                continue;
            }
            match action {
                Action::CheckRoster(entries) => self.check(&entries, b),
                Action::Advertise { context, own } => {
                    // Another number than ours if the roster is of fewer.
                    assert!(own <= self.own);
                    (self.own, self.context) = (own, context);
                    let public = self.public_key;
                    self.machine
                        .advertised(keys_of(own), |message| sign(&public, message));
                }
                Action::Share { places, .. } => {
                    let distinct: BTreeSet<_> = places.iter().map(|place| place.0).collect();
                    assert!(distinct.len() == places.len() && distinct.contains(&self.own));
                    assert!(LEAST <= places.len());
                    let others = places.iter().filter(|place| place.0 != self.own);
                    let sealed: Vec<_> = others.map(|place| sealed(place.0)).collect();
                    self.machine.shared(&sealed);
                }
                Action::Mask { shares, peers } => {
                    let senders = shares.iter().map(|one| one.member);
                    assert!(senders.eq(peers.iter().map(|peer| peer.0)));
                    match b == 250 {
                        true => self.machine.object(peers[0].0),
                        false => self.machine.masked(),
                    }
                }
                Action::Confirm { statement } => {
                    let signature = sign(&self.public_key, &statement);
                    self.statement = statement;
                    self.machine.confirmed(signature);
                }
                Action::Record(earlier) => {
                    assert!(LEAST <= earlier.delivered.len());
                    assert!(self.recorded.replace(earlier).is_none(), "opened twice");
                }
                Action::Reveal { delivered, dropped } => self.reveal(&delivered, &dropped),
                Action::Send(message) => {
                    let reveals = matches!(message, ForServer::Reveal(_));
                    assert_eq!(reveals, self.has_revealed, "{}", message.name());
                }
            }
        }
    }

    fn check(&mut self, entries: &[RosterEntry], b: u8) {
        let found = match (b, entries.first()) {
            (251, Some(_)) => Err(Unfit::Disputed {
                member: MemberId(1),
            }),
            _ => Ok(entries.iter().map(verified).collect()),
        };
        self.is_over |= self.machine.roster_checked(found).is_err();
    }

    fn reveal(&mut self, delivered: &[MemberId], dropped: &[MemberId]) {
        assert!(!self.has_revealed, "an attempt is opened once");
        let written = self.recorded.as_ref().expect("written down before");
        assert!(delivered.contains(&self.own));
        assert!(delivered.iter().all(|one| !dropped.contains(one)));
        assert!(delivered.len() <= written.delivered.len());
        self.has_revealed = true;
        let share = |&of: &MemberId| Share {
            of,
            x: 1,
            y: [0; 32],
        };
        let shares = delivered.iter().chain(dropped).map(share);
        self.machine.revealed(shares.collect());
    }

    /// Under the signature of its owner, but for one in sixteen.
    fn keys(&self, member: MemberId, b: u8) -> SignedKeys {
        let keys = keys_of(member);
        let said = [
            b"flsa/v1/keys".as_slice(),
            &self.context.0,
            &member.0.to_le_bytes(),
            &keys.sealing,
            &keys.masking,
            &keys.commitment,
        ]
        .concat();
        let signer = MemberId(member.0 + u32::from(b % 16 == 15));
        SignedKeys {
            member,
            keys,
            signature: sign(&public_key(signer), &said),
        }
    }

    /// A statement ends with its signer's number.
    fn confirmation(&self, member: MemberId, b: u8) -> Confirmation {
        let mut said = self.statement.clone();
        said.truncate(said.len().saturating_sub(4));
        said.extend(member.0.to_le_bytes());
        let signer = MemberId(member.0 + u32::from(b % 16 == 15));
        Confirmation {
            member,
            signature: sign(&public_key(signer), &said),
        }
    }
}

struct Assembly {
    machine: Gathering,
    now: Instant,
    has_ended: bool,
    has_opened: bool,
}

impl Assembly {
    fn played(bytes: &[u8]) -> Self {
        let mut bytes = bytes.iter().copied();
        let mut game = Self::new();
        while let (Some(op), Some(a), Some(b)) = (bytes.next(), bytes.next(), bytes.next()) {
            game.play(op, a, b);
            game.settle();
        }
        game
    }

    fn new() -> Self {
        let (plan, now) = (secure_plan(), Instant::now());
        let entries: Vec<_> = (1..=MEMBERS).map(|id| entry(MemberId(id))).collect();
        let members = entries.iter().map(verified).collect();
        let about = (ATTEMPT, Digest::default());
        let believe = |_: &[u8; 32], _: &[u8], signature: &[u8]| signature != [15];
        let machine = Gathering::new(&plan, about, &entries, members, believe, now);
        Self {
            machine: machine.expect("names in order"),
            now,
            has_ended: false,
            has_opened: false,
        }
    }

    fn play(&mut self, op: u8, a: u8, b: u8) {
        // One more than there are.
        let member = MemberId(1 + u32::from(a) % (MEMBERS + 1));
        let name = member_name(member);
        let others = || chosen(a | b, 1).into_iter().filter(|&one| one != member);
        let message = match op % 12 {
            0 | 1 => ForServer::Keys {
                keys: keys_of(member),
                signature: vec![b % 16],
            },
            2 | 3 => ForServer::Shares(piece(others().map(sealed).collect(), b)),
            4 | 5 => {
                if self.machine.awaits_vector(&name) {
                    self.machine.handle_delivered(&name);
                }
                return;
            }
            6 => ForServer::Confirmation {
                signature: vec![b % 16],
            },
            7 => {
                let share = |of| Share {
                    of,
                    x: b,
                    y: [b; 32],
                };
                ForServer::Reveal(piece(chosen(a | b, 1).into_iter().map(share).collect(), b))
            }
            8 if b < 8 => ForServer::Objection {
                against: MemberId(u32::from(b)),
            },
            9 => return self.machine.handle_lost(&name, b.is_multiple_of(2)),
            10 => return self.machine.handle_returned(&name),
            _ => {
                self.now += Duration::from_millis(u64::from(a) * u64::from(b));
                return;
            }
        };
        // A member that breaks a rule is closed.
        if self.machine.handle_message(&name, message).is_err() {
            self.machine.handle_lost(&name, false);
        }
    }

    fn settle(&mut self) {
        let before = self.machine.step();
        self.machine.settle(Duration::from_secs(20), self.now);
        assert!(before <= self.machine.step(), "steps only go on");
        if let Some(deadline) = self.machine.deadline(Duration::from_secs(20)) {
            assert!(
                self.now < deadline,
                "a deadline has passed and nothing was done"
            );
        }
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Tell { member, .. } => assert!((1..=MEMBERS).contains(&member.0)),
                Output::Fixed { delivered } => assert!(LEAST <= delivered.len()),
                Output::Opened(opening) => self.opened(&opening),
                Output::Failed(_) => self.ends(),
            }
        }
    }

    fn opened(&mut self, opening: &Opening) {
        self.ends();
        self.has_opened = true;
        let delivered = self.machine.delivered().count();
        assert!(LEAST <= delivered);
        let own_masks = opening
            .secrets
            .iter()
            .filter(|one| one.secret == Secret::SelfMask);
        assert_eq!(own_masks.count(), delivered);
        for one in &opening.secrets {
            assert!(opening.threshold as usize <= one.shares.len());
            assert!(one.shares.iter().all(|share| share.of == one.of));
            assert!(opening.keys.contains_key(&one.of));
        }
    }

    fn ends(&mut self) {
        assert!(!self.has_ended, "an attempt ends once");
        assert_eq!(self.machine.step(), Step::Over);
        self.has_ended = true;
    }
}

fn secure_plan() -> CheckedPlan {
    let mut plan = plan(0);
    plan.cohort.participants = protocol::plan::Participants::Any;
    plan.cohort.quorum = LEAST as u32;
    plan.limits.participants_max = MEMBERS;
    plan.ring = Some(RingPlan {
        bits: RingBits::Bits32,
        value_max: 0.5,
    });
    plan.secure_aggregation = Some(SecureAggregationPlan {
        cohort_min: LEAST as u32,
        trust: ServerTrust::HonestButCurious,
    });
    plan.check().expect("a plan of our own")
}

/// A list of members by the bits of a byte: nearly always all that matter, in order.
fn chosen(a: u8, b: u8) -> Vec<MemberId> {
    let bits = if b.is_multiple_of(4) { 0xff } else { a };
    let mut list: Vec<_> = (1..=MEMBERS)
        .filter(|id| bits & (1 << (id - 1)) != 0)
        .map(MemberId)
        .collect();
    if b == 200 {
        list.reverse();
    }
    list
}

/// A whole list as its only part, but for what a byte spoils.
fn piece<T>(items: Vec<T>, b: u8) -> Piece<T> {
    Piece {
        first: u32::from(b == 201),
        total: items.len() as u32 + u32::from(b == 202),
        items: items.into(),
    }
}

fn member_name(member: MemberId) -> ParticipantName {
    format!("site-{}", member.0).parse().expect("a label")
}

fn public_key(member: MemberId) -> [u8; 32] {
    [member.0 as u8; 32]
}

fn entry(member: MemberId) -> RosterEntry {
    RosterEntry {
        name: member_name(member),
        certificates: vec![public_key(member).to_vec()],
    }
}

fn verified(entry: &RosterEntry) -> VerifiedMember {
    VerifiedMember {
        name: entry.name.clone(),
        public_key: entry.certificates[0]
            .as_slice()
            .try_into()
            .expect("32 bytes"),
    }
}

fn keys_of(member: MemberId) -> Keys {
    let key = |which: u8| [which * 16 + member.0 as u8; 32];
    Keys {
        sealing: key(1),
        masking: key(2),
        commitment: key(3),
    }
}

fn sealed(member: MemberId) -> Sealed {
    Sealed {
        member,
        bytes: vec![7; 4],
    }
}

fn sign(public: &[u8; 32], message: &[u8]) -> Vec<u8> {
    Digest::of(&[public.as_slice(), message].concat())
        .0
        .to_vec()
}

fn verify(public: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    sign(public, message) == signature
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_come_to_the_opening_so_that_what_is_near_them_is_worth_trying() {
        assert!(Membership::played(&member_script()).has_revealed);
        assert!(Assembly::played(&gathering_script()).has_opened);
    }
}
