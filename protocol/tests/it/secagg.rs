//! Secure aggregation in memory: members with real cryptography, a server that follows the protocol, and one that does not.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aggregation::masking::{
    Commitment, Context, FixedRing, MaskSet, PublicKey, Ring, RingMean, RingSum, Share as RawShare,
    Sign, Vault, recover_pair_key, recover_self_mask,
};
use protocol::plan::{CheckedPlan, ServerTrust};
use protocol::secagg::{
    Action, Arrangement, AttemptId, Deceit, Earlier, Failure, ForMember, ForServer, Gathering,
    Keys, Member, MemberId, MemberSetup, Opening, Output, RosterEntry, Sealed, Secret, Share, Step,
    Unfit, VerifiedMember, Verify,
};
use protocol::{Digest, ParticipantName, Round};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::pair::{an_instant, masked, name, plan};

mod lies;
mod member;
mod sums;

use member::masks;

const LIMIT: Duration = Duration::from_secs(20);
const VALUES: usize = 5;

/// Stands for Ed25519 here: the machines only ask whether a signature holds.
fn sign(public_key: &[u8; 32], message: &[u8]) -> Vec<u8> {
    Digest::of(&[public_key.as_slice(), message].concat())
        .0
        .to_vec()
}

fn verify(public_key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    sign(public_key, message) == signature
}

/// A server that lies does not check what it relays.
fn believe(_: &[u8; 32], _: &[u8], _: &[u8]) -> bool {
    true
}

fn public_key(name: &ParticipantName) -> [u8; 32] {
    Digest::of(name.as_str().as_bytes()).0
}

fn entry(name: &ParticipantName) -> RosterEntry {
    RosterEntry {
        name: name.clone(),
        certificates: vec![public_key(name).to_vec()],
    }
}

fn secure_plan(members: usize) -> CheckedPlan {
    let names: Vec<_> = (0..members)
        .map(|index| format!("site-{index:03}"))
        .collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut plan = plan(&names, 3, 3);
    plan.limits.participants_max = members as u32;
    masked(plan)
}

/// One institution: the machine and what its owner keeps.
struct Site {
    name: ParticipantName,
    machine: Member,
    vault: Option<Vault>,
    rng: ChaCha20Rng,
    plain: Vec<u32>,
    records: Vec<Earlier>,
    deceit: Option<Deceit>,
    revealed: usize,
    /// The digest of all keys, once they are there.
    keys: Option<Digest>,
    /// Whose certificate is over by this site's clock.
    finds_over: Option<MemberId>,
    /// It gives one key for two.
    repeats_its_key: bool,
}

type Tamper<'a> = Box<dyn FnMut(usize, &mut ForMember) + 'a>;
type Spoil<'a> = Box<dyn FnMut(usize, &mut ForServer) + 'a>;

/// One attempt.
struct World<'a> {
    now: Instant,
    gathering: Gathering,
    sites: Vec<Site>,
    fixed: FixedRing,
    sum: RingSum,
    /// At which step each site is lost.
    lost_at: BTreeMap<usize, Step>,
    /// Changes what the server says.
    tamper: Tamper<'a>,
    /// Changes what sites answer.
    spoil: Spoil<'a>,
    opening: Option<Opening>,
    failure: Option<Failure>,
    /// Whose sum members were asked to open.
    opens: Option<Vec<ParticipantName>>,
}

impl<'a> World<'a> {
    fn new(members: usize, seed: u8) -> Self {
        Self::with(
            secure_plan(members),
            seed,
            (1, verify),
            |_| Digest::of(b"model"),
            &[],
        )
    }

    /// With a server that checks nothing.
    fn deceitful(members: usize, seed: u8) -> Self {
        Self::with(
            secure_plan(members),
            seed,
            (1, believe),
            |_| Digest::of(b"model"),
            &[],
        )
    }

    fn with(
        plan: CheckedPlan,
        seed: u8,
        (attempt, server_verifies): (u32, Verify),
        model: impl Fn(usize) -> Digest,
        earlier: &[Option<Earlier>],
    ) -> Self {
        let now = an_instant();
        let id = AttemptId {
            round: Round(2),
            number: attempt,
        };
        let members = plan.limits.participants_max as usize;
        let names: Vec<_> = (0..members)
            .map(|index| name(&format!("site-{index:03}")))
            .collect();
        let entries: Vec<_> = names.iter().map(entry).collect();
        let verified = names.iter().map(|name| VerifiedMember {
            name: name.clone(),
            public_key: public_key(name),
        });
        let about = (id, Digest::of(b"model"));
        let gathering = Gathering::new(
            &plan,
            about,
            &entries,
            verified.collect(),
            server_verifies,
            now,
        )
        .unwrap();
        let fixed = FixedRing::for_bounds(Ring::Bits32, members as u32, 0.5).unwrap();
        let site = |(index, name): (usize, &ParticipantName)| {
            let setup = MemberSetup {
                name: name.clone(),
                public_key: public_key(name),
                plan: plan.clone(),
                model: model(index),
                earlier: earlier.get(index).cloned().flatten(),
                verify,
            };
            let values: Vec<f32> = (0..VALUES)
                .map(|value| (index * 7 + value) as f32 / 1000.0)
                .collect();
            let weight = (index as u64 + 1, members as u64);
            Site {
                name: name.clone(),
                machine: Member::new(setup, id).unwrap(),
                vault: None,
                rng: ChaCha20Rng::from_seed([seed.wrapping_add(index as u8); 32]),
                plain: fixed.encode(&values, weight, 1e9).unwrap().elements,
                records: Vec::new(),
                deceit: None,
                revealed: 0,
                keys: None,
                finds_over: None,
                repeats_its_key: false,
            }
        };
        let sites = names.iter().enumerate().map(site).collect();
        Self {
            now,
            gathering,
            sites,
            fixed,
            sum: RingSum::new(fixed, VALUES),
            lost_at: BTreeMap::new(),
            tamper: Box::new(|_, _| {}),
            spoil: Box::new(|_, _| {}),
            opening: None,
            failure: None,
            opens: None,
        }
    }

    /// Runs until nothing happens any more.
    fn drive(&mut self) -> &mut Self {
        for _ in 0..10_000 {
            let step = self.gathering.step();
            let lost: Vec<_> = self
                .lost_at
                .iter()
                .filter(|&(_, &at)| at <= step)
                .map(|(&site, _)| site)
                .collect();
            for site in lost {
                self.lost_at.remove(&site);
                let name = self.sites[site].name.clone();
                self.gathering.handle_lost(&name, true);
                self.sites[site].deceit.get_or_insert(Deceit::Shares);
            }
            if let Some(output) = self.gathering.poll_output() {
                match output {
                    Output::Tell { member, message } => self.tell(member.0 as usize - 1, message),
                    Output::Fixed { delivered } => self.opens = Some(delivered),
                    Output::Opened(opening) => self.opening = Some(opening),
                    Output::Failed(failure) => self.failure = Some(failure),
                }
            } else {
                self.gathering.settle(LIMIT, self.now);
                if self.gathering.step() == step {
                    match self.gathering.deadline(LIMIT) {
                        Some(deadline) if self.now < deadline => self.now = deadline,
                        _ if self.gathering.step() == Step::Over => return self,
                        // Nobody will ever answer: the members have left.
                        _ => return self,
                    }
                }
            }
        }
        panic!("the attempt does not end");
    }

    fn tell(&mut self, index: usize, mut message: ForMember) {
        if self.sites[index].deceit.is_some() {
            return;
        }
        (self.tamper)(index, &mut message);
        let site = &mut self.sites[index];
        if let Err(deceit) = site.machine.handle_message(message) {
            site.leave(deceit);
        }
        self.act(index);
    }

    fn act(&mut self, index: usize) {
        while self.sites[index].deceit.is_none()
            && let Some(action) = self.sites[index].machine.poll_action()
        {
            if let Action::Send(mut message) = action {
                (self.spoil)(index, &mut message);
                let name = self.sites[index].name.clone();
                if self.gathering.handle_message(&name, message).is_err() {
                    self.gathering.handle_lost(&name, true);
                    self.sites[index].deceit = Some(Deceit::Shares);
                }
            } else if let Some(vector) = self.sites[index].perform(action) {
                let name = self.sites[index].name.clone();
                if self.gathering.awaits_vector(&name)
                    && self.lost_at.get(&index) != Some(&Step::Vectors)
                {
                    self.sum
                        .add(self.fixed.to_bytes(&vector).as_slice())
                        .unwrap();
                    self.gathering.handle_delivered(&name);
                }
            }
        }
        if self.sites[index].deceit.is_some() {
            let name = self.sites[index].name.clone();
            self.gathering.handle_lost(&name, true);
        }
    }

    /// What the server reads, as it would read it.
    fn opened(&self) -> Option<RingMean> {
        let opening = self.opening.as_ref()?;
        let delivered: Vec<_> = self.gathering.delivered().collect();
        assert_eq!(self.opens.as_ref(), Some(&delivered), "written down before");
        let mut sum = self.sum.clone();
        sum.unmask(&masks(opening));
        sum.mean().ok()
    }

    fn plain_mean(&self) -> RingMean {
        let mut sum = RingSum::new(self.fixed, VALUES);
        for name in self.gathering.delivered() {
            let site = self.sites.iter().find(|site| site.name == name).unwrap();
            sum.add(self.fixed.to_bytes(&site.plain).as_slice())
                .unwrap();
        }
        sum.mean().unwrap()
    }

    fn deceits(&self) -> Vec<&Deceit> {
        self.sites
            .iter()
            .filter_map(|site| site.deceit.as_ref())
            .collect()
    }

    fn nobody_revealed_anything(&self) -> bool {
        self.opening.is_none() && self.sites.iter().all(|site| site.revealed == 0)
    }
}
