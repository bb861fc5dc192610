//! Sums of those that delivered: members that drop out, err, or seal what cannot be used.

use std::cell::RefCell;
use std::rc::Rc;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

/// S1, S6: everybody is there.
#[test]
fn the_opened_sum_is_that_of_the_delivered_updates_and_nothing_else_is_revealed() {
    let mut world = World::new(7, 1);
    world.drive();
    assert_eq!(world.opened(), Some(world.plain_mean()));
    assert_eq!(world.gathering.delivered().count(), 7);
    assert!(world.sites.iter().all(|site| site.revealed == 1));
}

/// Otherwise memory would grow with the square of members.
#[test]
fn lists_that_go_to_all_members_are_in_memory_once() {
    let mut world = World::new(5, 1);
    let lists = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&lists);
    world.tamper = Box::new(move |_, message| match message {
        ForMember::Roster(part) => seen
            .borrow_mut()
            .push(("roster", part.items.as_ptr().addr())),
        ForMember::Keys(part) => seen.borrow_mut().push(("keys", part.items.as_ptr().addr())),
        _ => {}
    });
    world.drive();
    assert_eq!(world.opened(), Some(world.plain_mean()));
    let mut lists = lists.borrow().clone();
    assert_eq!(lists.len(), 10);
    lists.sort_unstable();
    lists.dedup();
    assert_eq!(lists.len(), 2, "{lists:?}");
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

/// S9: so many of 200 drop out that some have too few neighbours left, though enough are there for the quorum. Nobody accuses the
/// server, no sum is fixed, and the attempt names who was silent.
#[test]
fn too_few_neighbours_end_the_attempt_and_no_member_holds_it_against_the_server() {
    for step in [Step::Shares, Step::Vectors, Step::Confirmations] {
        let mut world = World::new(200, 1);
        world.lost_at = (0..70).map(|site| (site * 2, step)).collect();
        world.drive();
        let Some(Failure::Scattered { silent, .. }) = &world.failure else {
            panic!("{step:?}: {:?}", world.failure);
        };
        assert_eq!(silent.len(), 70, "{step:?}");
        // Those that were lost.
        assert_eq!(world.deceits().len(), 70, "{step:?}");
        assert_eq!(world.opens, None, "{step:?}");
        assert!(world.nobody_revealed_anything());
    }
}

/// S9: all of 200 that deliver have enough neighbours among them, and one that does not has one too few to open its key. The vectors
/// are there, so that its key would be needed; members that are asked to open such a sum could not, and the round would have no other.
#[test]
fn too_few_neighbours_of_one_that_dropped_out_end_the_attempt_before_its_sum_is_fixed() {
    let mut world = World::new(200, 1);
    world.drive();
    // The same keys come again from the same seed.
    let keys = world.sites[0].keys.unwrap();
    let all: Vec<_> = (1..=200).map(MemberId).collect();
    let arrangement = Arrangement::new(200, ServerTrust::Malicious);
    let near = |one: MemberId| arrangement.neighbours_of(one, &all, &keys);
    let victim = MemberId(100);
    let its = near(victim);
    let mut by_distance = its.clone();
    by_distance.sort_by_key(|&one| near(one).iter().filter(|other| its.contains(other)).count());
    let too_many = (arrangement.neighbours() - arrangement.threshold() + 1) as usize;
    let dropped: BTreeSet<_> = by_distance
        .into_iter()
        .take(too_many)
        .chain([victim])
        .collect();
    let delivers = |one: &&MemberId| !dropped.contains(one);
    let left = |one: MemberId| near(one).iter().filter(delivers).count();
    let least = arrangement.threshold() as usize;
    assert_eq!(left(victim), least - 1);
    assert!(
        all.iter()
            .filter(delivers)
            .all(|&one| least <= left(one) + 1)
    );

    let mut world = World::new(200, 1);
    let lost = dropped
        .iter()
        .map(|one| (one.0 as usize - 1, Step::Vectors));
    world.lost_at = lost.collect();
    world.drive();
    let is_scattered =
        matches!(&world.failure, Some(Failure::Scattered { found, .. }) if found + 1 == least);
    assert!(is_scattered, "{:?}", world.failure);
    assert_eq!(world.opens, None);
    assert_eq!(world.deceits().len(), dropped.len(), "those that were lost");
    assert!(world.nobody_revealed_anything());
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
