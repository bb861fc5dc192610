//! Secure aggregation in memory: members with real cryptography, a server that follows the protocol, and one that does not.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aggregation::masking::{
    Commitment, Context, FixedRing, MaskSet, PublicKey, Ring, RingMean, RingSum, Share as RawShare,
    Sign, Vault, recover_pair_key, recover_self_mask,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use protocol::plan::CheckedPlan;
use protocol::secagg::{
    Action, AttemptId, Deceit, Earlier, Failure, ForMember, ForServer, Gathering, Keys, Member,
    MemberId, MemberSetup, Opening, Output, RosterEntry, Sealed, Secret, Share, Step, Unfit,
    VerifiedMember, Verify,
};
use protocol::{Digest, ParticipantName, Round};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::pair::{an_instant, masked, name, plan};

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
    /// Whose certificate is over by this site's clock.
    finds_over: Option<MemberId>,
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
                finds_over: None,
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

impl Site {
    fn leave(&mut self, deceit: Deceit) {
        self.deceit.get_or_insert(deceit);
    }

    /// Does what the machine asks for; gives the masked vector when it is made.
    fn perform(&mut self, action: Action) -> Option<Vec<u32>> {
        match action {
            Action::CheckRoster(entries) => {
                let found = entries.into_iter().map(check).collect();
                let found = match self.finds_over {
                    Some(member) => Err(Unfit::OutOfTime { member }),
                    None => found,
                };
                if let Err(deceit) = self.machine.roster_checked(found) {
                    self.leave(deceit);
                }
            }
            Action::Advertise { context, own } => {
                let vault = Vault::draw(Context(context.0), own.0, &mut self.rng);
                let advertised = vault.advertised();
                let keys = Keys {
                    sealing: advertised.sealing.0,
                    masking: advertised.masking.0,
                    commitment: advertised.commitment.0,
                };
                self.vault = Some(vault);
                let public = public_key(&self.name);
                self.machine
                    .advertised(keys, |message| sign(&public, message));
            }
            Action::Share {
                keys,
                threshold,
                places,
            } => self.share(&keys, threshold as usize, &places),
            Action::Mask { shares, peers } => return self.mask(&shares, &peers),
            Action::Confirm { statement } => {
                self.machine
                    .confirmed(sign(&public_key(&self.name), &statement));
            }
            Action::Record(earlier) => self.records.push(earlier),
            Action::Reveal { delivered, dropped } => self.reveal(&delivered, &dropped),
            Action::Send(_) => unreachable!("sent by the world"),
        }
        None
    }

    fn share(&mut self, keys: &Digest, threshold: usize, places: &[(MemberId, [u8; 32])]) {
        let places: Vec<_> = places
            .iter()
            .map(|(id, key)| (id.0, PublicKey(*key)))
            .collect();
        let vault = self.vault.as_mut().unwrap();
        let sealed = vault
            .share(keys.0, threshold, &places, &mut self.rng)
            .unwrap();
        let sealed: Vec<_> = sealed
            .into_iter()
            .map(|(id, bytes)| Sealed {
                member: MemberId(id),
                bytes: bytes.to_vec(),
            })
            .collect();
        self.machine.shared(&sealed);
    }

    fn mask(&mut self, shares: &[Sealed], peers: &[(MemberId, [u8; 32])]) -> Option<Vec<u32>> {
        let vault = self.vault.as_mut().unwrap();
        for sealed in shares {
            if vault.keep(sealed.member.0, &sealed.bytes).is_err() {
                self.machine.object(sealed.member);
                return None;
            }
        }
        let peers: Vec<_> = peers
            .iter()
            .map(|(id, key)| (id.0, PublicKey(*key)))
            .collect();
        let mut vector = self.plain.clone();
        vault
            .masks(&peers)
            .unwrap()
            .add_to(Ring::Bits32, &mut vector);
        self.machine.masked();
        Some(vector)
    }

    fn reveal(&mut self, delivered: &[MemberId], dropped: &[MemberId]) {
        assert_eq!(self.records.len(), 1, "written down before it is said");
        let both: BTreeSet<_> = delivered.iter().chain(dropped).collect();
        assert_eq!(
            both.len(),
            delivered.len() + dropped.len(),
            "one kind for each"
        );
        let ids = |list: &[MemberId]| -> Vec<u32> { list.iter().map(|id| id.0).collect() };
        let vault = self.vault.take().unwrap();
        let shares = vault.reveal(&ids(delivered), &ids(dropped)).unwrap();
        self.revealed += 1;
        let share = |(of, share): (u32, RawShare)| Share {
            of: MemberId(of),
            x: share.x,
            y: share.y,
        };
        self.machine
            .revealed(shares.into_iter().map(share).collect());
    }
}

fn check(entry: RosterEntry) -> Result<VerifiedMember, Unfit> {
    let RosterEntry { name, certificates } = entry;
    if certificates != [public_key(&name).to_vec()] {
        let what = "another authority".to_owned();
        return Err(Unfit::Deceit(Deceit::Certificate { name, what }));
    }
    let public_key = public_key(&name);
    Ok(VerifiedMember { name, public_key })
}

/// The masks that are still on the sum.
fn masks(opening: &Opening) -> MaskSet {
    let (mut masks, context) = (MaskSet::new(), Context(opening.context.0));
    for revealed in &opening.secrets {
        let keys = &opening.keys[&revealed.of];
        let shares: Vec<_> = revealed
            .shares
            .iter()
            .map(|share| RawShare {
                x: share.x,
                y: share.y,
            })
            .collect();
        let threshold = opening.threshold as usize;
        match &revealed.secret {
            Secret::SelfMask => {
                let commitment = Commitment(keys.commitment);
                let found =
                    recover_self_mask(&context, revealed.of.0, &commitment, &shares, threshold)
                        .unwrap();
                masks.push(found.secret.mask_key(&context, revealed.of.0), Sign::Plus);
            }
            Secret::PairKey { neighbours } => {
                let public = PublicKey(keys.masking);
                let found = recover_pair_key(&public, &shares, threshold).unwrap();
                for peer in neighbours {
                    let theirs = PublicKey(opening.keys[peer].masking);
                    let key = found
                        .secret
                        .mask_key(&context, revealed.of.0, (peer.0, &theirs))
                        .unwrap();
                    masks.push(key, Sign::of_pair(peer.0, revealed.of.0));
                }
            }
        }
    }
    masks
}

/// S1, S6: everybody is there.
#[test]
fn the_opened_sum_is_that_of_the_delivered_updates_and_nothing_else_is_revealed() {
    let mut world = World::new(7, 1);
    world.drive();
    assert_eq!(world.opened(), Some(world.plain_mean()));
    assert_eq!(world.gathering.delivered().count(), 7);
    assert!(world.sites.iter().all(|site| site.revealed == 1));
}

/// S9: two of 140 drop out.
#[test]
fn more_than_128_members_share_with_their_neighbours_only_and_come_to_the_same_sum() {
    let mut world = World::new(140, 1);
    world.lost_at = [(3, Step::Vectors), (90, Step::Shares)].into();
    world.drive();
    assert_eq!(world.gathering.delivered().count(), 138);
    assert_eq!(world.opened(), Some(world.plain_mean()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, rng_seed: RngSeed::Fixed(20_261_125), ..Default::default() })]

    /// S1: any members, any that drop out, at any step.
    #[test]
    fn any_that_drop_out_leave_the_sum_of_the_others_or_no_sum(
        members in 3..20_usize,
        seed in any::<u8>(),
        drops in prop::collection::vec((0..20_usize, 0..5_usize), 0..9),
    ) {
        let steps = [Step::Keys, Step::Shares, Step::Vectors, Step::Confirmations, Step::Opening];
        let mut world = World::new(members, seed);
        for (site, step) in drops {
            world.lost_at.entry(site % members).or_insert(steps[step]);
        }
        let least = (2 * members / 3 + 1).max(3);
        let left = members - world.lost_at.len();
        world.drive();
        if least <= left {
            prop_assert_eq!(world.opened(), Some(world.plain_mean()));
        } else {
            prop_assert!(world.opening.is_none());
            let too_few = matches!(world.failure, Some(Failure::TooFew { .. }));
            prop_assert!(too_few, "{:?}", world.failure);
        }
    }
}

/// S8: one member changes all its shares.
#[test]
fn a_wrong_share_is_found_out_and_the_sum_opened_by_the_others() {
    let mut world = World::new(5, 3);
    world.spoil = Box::new(|site, message| {
        if let (2, ForServer::Reveal(part)) = (site, message) {
            part.items.iter_mut().for_each(|share| share.y[0] ^= 1);
        }
    });
    world.drive();
    assert_eq!(world.opened(), Some(world.plain_mean()));
}

/// S8: the server changes a sealed share.
#[test]
fn shares_that_were_changed_on_their_way_end_the_attempt_and_name_their_sender() {
    let mut world = World::new(5, 3);
    world.tamper = Box::new(|site, message| {
        if let (1, ForMember::Shares(part)) = (site, message) {
            part.items[2].bytes[5] ^= 1;
        }
    });
    world.drive();
    let expected = Failure::Objection {
        by: name("site-001"),
        against: name("site-003"),
    };
    assert_eq!(world.failure, Some(expected));
    assert!(world.nobody_revealed_anything());
}

/// S2: a certificate of another authority.
#[test]
fn a_server_that_puts_a_stranger_into_the_roster_is_caught() {
    let mut world = World::deceitful(4, 1);
    world.tamper = Box::new(|_, message| {
        if let ForMember::Roster(part) = message {
            part.items[3].certificates = vec![b"of another authority".to_vec()];
        }
    });
    world.drive();
    assert!(
        matches!(world.deceits()[..], [Deceit::Certificate { name, .. }, ..] if name.as_str() == "site-003")
    );
    assert!(world.nobody_revealed_anything());
}

/// S2: one site's clock is ahead.
#[test]
fn a_certificate_that_is_over_is_its_members_fault_and_not_the_servers() {
    let mut world = World::new(4, 1);
    world.sites[1].finds_over = Some(MemberId(3));
    world.drive();
    let expected = Failure::Objection {
        by: name("site-001"),
        against: name("site-002"),
    };
    assert_eq!(world.failure, Some(expected));
    assert!(world.deceits().is_empty(), "{:?}", world.deceits());
    assert!(world.nobody_revealed_anything());
}

/// S1: three of 32 drop out, at three different steps.
#[test]
fn three_of_32_drop_out_and_the_sum_is_that_of_those_that_delivered_for_some_kilobytes_each() {
    let bytes = [Cell::new(0), Cell::new(0)];
    let mut world = World::new(32, 1);
    world.lost_at = [
        (4, Step::Shares),
        (17, Step::Vectors),
        (30, Step::Confirmations),
    ]
    .into();
    world.tamper = Box::new(|site, message| {
        if site == 0 {
            bytes[0].update(|sum| sum + protocol::codec::encode(message).unwrap().len());
        }
    });
    world.spoil = Box::new(|site, message| {
        if site == 0 {
            bytes[1].update(|sum| sum + protocol::codec::encode(message).unwrap().len());
        }
    });
    world.drive();
    assert_eq!(world.gathering.delivered().count(), 30);
    assert_eq!(world.opened(), Some(world.plain_mean()));
    drop(world);
    let [down, up] = bytes.map(Cell::into_inner);
    println!("{down} bytes down, {up} up");
    // Certificates are 32 bytes here; real ones add theirs to what comes down.
    assert!(down < 20_000 && up < 8_000, "{down} {up}");
}

/// S2: the roster is of the others.
#[test]
fn a_server_that_leaves_us_out_of_a_list_is_caught() {
    let mut world = World::deceitful(5, 1);
    world.tamper = Box::new(|site, message| {
        if let (0, ForMember::Roster(part)) = (site, message) {
            part.items.remove(0);
            part.total -= 1;
        }
    });
    world.drive();
    assert_eq!(
        world.sites[0].deceit,
        Some(Deceit::NotOurselves { what: "members" })
    );
}

/// S3: two are left, at each of the four lists.
#[test]
fn a_server_that_shrinks_the_cohort_is_caught_at_every_list() {
    for what in ["members", "keys", "shares", "delivered vectors"] {
        let mut world = World::deceitful(5, 1);
        world.tamper = Box::new(move |_, message| match message {
            ForMember::Roster(part) if what == "members" => {
                part.items.truncate(2);
                part.total = 2;
            }
            ForMember::Keys(part) if what == "keys" => {
                part.items.truncate(2);
                part.total = 2;
            }
            ForMember::Mask { members } if what == "shares" => members.truncate(2),
            ForMember::Delivered { members } if what == "delivered vectors" => members.truncate(2),
            _ => {}
        });
        world.drive();
        let few = |deceit: &Deceit| matches!(deceit, Deceit::TooFew { what: found, found: 2, .. } if *found == what);
        let first = world.sites[0].deceit.as_ref().unwrap();
        assert!(few(first), "{what}: {first:?}");
        assert!(world.nobody_revealed_anything());
    }
}

/// S4: the server puts in a key of its own.
#[test]
fn a_server_that_swaps_a_key_is_caught() {
    let mut world = World::deceitful(4, 1);
    world.tamper = Box::new(|site, message| {
        if let (0, ForMember::Keys(part)) = (site, message) {
            part.items[2].keys.masking = [7; 32];
        }
    });
    world.drive();
    let (name, what) = (name("site-002"), "keys");
    assert_eq!(
        world.sites[0].deceit,
        Some(Deceit::Signature { name, what })
    );
}

/// S4: one member takes part twice.
#[test]
fn two_members_with_one_key_are_caught() {
    let mut world = World::deceitful(4, 1);
    // The second draws what the first drew, and signs it as its own.
    world.sites[1].rng = ChaCha20Rng::from_seed([1; 32]);
    world.drive();
    let (first, second) = (name("site-000"), name("site-001"));
    assert_eq!(world.deceits()[0], &Deceit::SameKey { first, second });
    assert!(world.nobody_revealed_anything());
}

/// S4: one member trained from another model.
#[test]
fn a_server_that_sends_different_models_is_caught() {
    let model = |site: usize| {
        Digest::of(if site == 2 {
            b"another model"
        } else {
            b"the one model"
        })
    };
    let mut world = World::with(secure_plan(4), 1, (1, believe), model, &[]);
    world.drive();
    assert!(matches!(
        world.deceits()[0],
        Deceit::Signature { what: "keys", .. }
    ));
    assert!(world.nobody_revealed_anything());
}

/// S4: signed keys of attempt 1 in attempt 2.
#[test]
fn a_server_that_replays_the_keys_of_an_earlier_attempt_is_caught() {
    let mut old = Vec::new();
    let mut first = World::new(4, 1);
    first.tamper = Box::new(|_, message| {
        if let ForMember::Keys(part) = message {
            old = part.items.clone();
        }
    });
    first.drive();
    drop(first);
    let mut world = World::with(
        secure_plan(4),
        9,
        (2, believe),
        |_| Digest::of(b"model"),
        &[],
    );
    world.tamper = Box::new(|site, message| {
        if let (0, ForMember::Keys(part)) = (site, message) {
            part.items[1] = old[1].clone();
        }
    });
    world.drive();
    let (name, what) = (name("site-001"), "keys");
    assert_eq!(
        world.sites[0].deceit,
        Some(Deceit::Signature { name, what })
    );
}

/// S5: two members are told that a third dropped out.
#[test]
fn a_server_that_splits_views_of_who_delivered_is_caught_before_anything_is_revealed() {
    let mut world = World::deceitful(6, 1);
    world.tamper = Box::new(|site, message| {
        // Half of them are told that the last one dropped out: together they would reveal both of its secrets.
        if let (0..=1, ForMember::Delivered { members }) = (site, message) {
            members.pop();
        }
    });
    world.drive();
    assert!(
        world
            .deceits()
            .iter()
            .any(|deceit| matches!(deceit, Deceit::SplitView { .. }))
    );
    assert!(world.nobody_revealed_anything());
}

/// S6: other lists after the opening, and instead of confirmations.
#[test]
fn a_server_that_asks_for_the_other_secrets_too_is_caught() {
    let mut world = World::new(4, 1);
    world.drive();
    let site = &mut world.sites[0];
    // The attempt is over for the participant: whatever is said now changes nothing, and its secrets are gone.
    let members = vec![MemberId(1), MemberId(2), MemberId(3)];
    assert_eq!(
        site.machine
            .handle_message(ForMember::Delivered { members }),
        Ok(())
    );
    assert_eq!(site.machine.poll_action(), None);
    assert!(site.vault.is_none());

    let mut world = World::deceitful(4, 1);
    let mut asked = false;
    world.tamper = Box::new(move |site, message| {
        // A second list instead of the confirmations of the first.
        if let (0, ForMember::Confirmations(_), false) = (site, &message, asked) {
            let members = vec![MemberId(1), MemberId(2), MemberId(3)];
            *message = ForMember::Delivered { members };
            asked = true;
        }
    });
    world.drive();
    assert_eq!(
        world.sites[0].deceit,
        Some(Deceit::OutOfTurn {
            message: "Delivered"
        })
    );
    assert_eq!(world.sites[0].revealed, 0);
}

/// S7: a second attempt with one member less.
#[test]
fn a_second_sum_of_a_round_is_opened_for_the_same_participants_only() {
    let mut first = World::new(5, 1);
    first.drive();
    let earlier: Vec<_> = first
        .sites
        .iter()
        .map(|site| site.records.first().cloned())
        .collect();
    assert!(earlier.iter().all(Option::is_some));
    let model = |_: usize| Digest::of(b"model");

    let mut same = World::with(secure_plan(5), 40, (2, verify), model, &earlier);
    same.drive();
    assert_eq!(same.opened(), first.opened());

    let mut fewer = World::with(secure_plan(5), 80, (2, verify), model, &earlier);
    fewer.lost_at = [(4, Step::Vectors)].into();
    fewer.drive();
    assert_eq!(fewer.sites[0].deceit, Some(Deceit::OtherSet));
    assert!(fewer.nobody_revealed_anything());
}

#[test]
fn setup_of_eight_members_takes_a_few_kilobytes_each() {
    let mut world = World::new(8, 1);
    let mut bytes = 0;
    world.tamper = Box::new(|site, message| {
        if site == 0 {
            bytes += protocol::codec::encode(message).unwrap().len();
        }
    });
    world.drive();
    drop(world);
    assert!(bytes < 6000, "{bytes}");
}
