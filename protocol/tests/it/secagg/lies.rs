//! Servers that lie to members about who is in an attempt, with which keys, and who delivered.

use super::*;

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

/// S2: a site of the federation that the plan does not name, in league with the server perhaps.
#[test]
fn a_server_that_puts_a_participant_into_the_roster_that_the_plan_does_not_name_is_caught() {
    let mut world = World::deceitful(4, 1);
    world.tamper = Box::new(|_, message| {
        if let ForMember::Roster(part) = message {
            part.items[3] = entry(&name("site-999"));
        }
    });
    world.drive();
    let name = name("site-999");
    assert_eq!(world.deceits()[0], &Deceit::Stranger { name });
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

/// S4: one member takes part twice, and the server passes its keys on all the same.
#[test]
fn two_members_with_one_key_are_caught() {
    let drawn = Cell::new(None);
    let mut world = World::deceitful(4, 1);
    // The second draws what the first drew, and signs it as its own.
    world.sites[1].rng = ChaCha20Rng::from_seed([1; 32]);
    world.spoil = Box::new(|site, message| {
        if let (1, ForServer::Keys { keys, .. }) = (site, message) {
            drawn.set(Some(*keys));
            (keys.sealing, keys.masking) = ([7; 32], [8; 32]);
        }
    });
    world.tamper = Box::new(|_, message| {
        if let ForMember::Keys(part) = message {
            part.items[1].keys = drawn.get().unwrap();
        }
    });
    world.drive();
    let (first, second) = (name("site-000"), name("site-001"));
    assert_eq!(world.deceits()[0], &Deceit::SameKey { first, second });
    assert!(world.nobody_revealed_anything());
}

/// S4: the server does not pass on what members would hold against it.
#[test]
fn a_member_with_one_key_for_two_is_turned_away_and_the_others_go_on() {
    let mut world = World::new(5, 1);
    world.sites[4].repeats_its_key = true;
    world.drive();
    assert_eq!(world.gathering.delivered().count(), 4);
    assert_eq!(world.opened(), Some(world.plain_mean()));
    // It was let go, and nobody else finds anything wrong.
    assert_eq!(world.deceits().len(), 1, "{:?}", world.deceits());
}

/// S4: two that are in league, of which the second has a key of the first.
#[test]
fn a_member_with_another_ones_key_is_turned_away_and_the_others_go_on() {
    let mut world = World::new(5, 1);
    world.sites[4].rng = ChaCha20Rng::from_seed([1; 32]);
    world.drive();
    assert_eq!(world.gathering.delivered().count(), 4);
    assert_eq!(world.opened(), Some(world.plain_mean()));
    assert_eq!(world.deceits().len(), 1, "{:?}", world.deceits());
}

/// S8: what one sends to all may not fill their lists.
#[test]
fn a_member_whose_sealed_shares_are_too_long_is_turned_away_and_the_others_go_on() {
    for length in [257, 15_000] {
        let mut world = World::new(5, 1);
        world.spoil = Box::new(move |site, message| {
            if let (0, ForServer::Shares(part)) = (site, message) {
                part.items[2].bytes = vec![0; length];
            }
        });
        world.drive();
        assert_eq!(world.gathering.delivered().count(), 4, "{length}");
        assert_eq!(world.opened(), Some(world.plain_mean()));
        assert_eq!(world.deceits().len(), 1, "{:?}", world.deceits());
    }
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
            old = part.items.to_vec();
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

/// S7: a server shows a run once more from its beginning, after it was over or over a restart of its own.
#[test]
fn a_sum_of_a_round_before_one_that_was_opened_is_opened_for_nobody() {
    let mut world = World::new(5, 1);
    world.drive();
    let later = |record: &Earlier| {
        let mut later = record.clone();
        later.attempt.round = later.attempt.round.next();
        later
    };
    let earlier: Vec<_> = world
        .sites
        .iter()
        .map(|site| site.records.first().map(later))
        .collect();
    let model = |_: usize| Digest::of(b"model");
    let mut again = World::with(secure_plan(5), 40, (2, verify), model, &earlier);
    again.drive();
    assert_eq!(again.sites[0].deceit, Some(Deceit::OtherSet));
    assert!(again.nobody_revealed_anything());
}
