//! Records by known bytes, paths against roots for every size, and every flipped bit.

use std::time::Instant;

use proptest::prelude::*;

use super::tree::Tree;
use super::*;
use crate::close::RefusalReason;
use crate::codec;
use crate::coordinator::{AcceptedUpdate, RoundSummary};
use crate::ids::{Digest, ParticipantName, Round};
use crate::message::Metrics;
use crate::seal::{Examiner, Seal, SealFault};

#[derive(Debug)]
struct Eye;

fn seal(bytes: &[u8]) -> Seal {
    Seal {
        signature: Digest::of(bytes).0.to_vec(),
        certificates: vec![b"server".to_vec()],
    }
}

impl Examiner for Eye {
    fn examine(&self, bytes: &[u8], found: &Seal) -> Result<(), SealFault> {
        let right = *found == seal(bytes);
        right.then_some(()).ok_or(SealFault::Signature)
    }
}

fn name(number: usize) -> ParticipantName {
    format!("site-{number}").parse().unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "an instant that nothing depends on"
)]
fn summary(round: u32, participants: usize) -> RoundSummary {
    let now = Instant::now();
    let mut summary = RoundSummary {
        round: Round(round),
        opened_at: now,
        closed_at: now,
        accepted: Vec::new(),
        refused: Vec::new(),
        missing: Vec::new(),
    };
    for number in 0..participants {
        match number % 5 {
            3 => summary
                .refused
                .push((name(number), RefusalReason::OverNorm)),
            4 => summary.missing.push(name(number)),
            _ => summary.accepted.push(AcceptedUpdate {
                participant: name(number),
                weight: 10 + number as u64,
                bytes: 4,
                sha256: Digest::of(name(number).as_str().as_bytes()),
                rounds_late: 0,
                metrics: Metrics::default(),
            }),
        }
    }
    summary
}

const PLAN: Digest = Digest([9; 32]);

fn record(chain: &Chain, participants: usize) -> SealedRecord {
    let round = chain.round().0;
    let outline = Outline {
        plan: PLAN,
        previous: chain.last(),
        before: Digest([round as u8; 32]),
        after: Digest([round as u8 + 1; 32]),
        adapter: Digest([100 + round as u8; 32]),
        secret: Digest([7; 32]),
    };
    Record::draw_up(&outline, &summary(round + 1, participants)).seal(seal)
}

#[test]
fn a_heading_has_these_bytes_and_this_hash() {
    let heading = Heading {
        plan: Digest([1; 32]),
        round: Round(3),
        previous: Digest([2; 32]),
        before: Digest([3; 32]),
        after: Digest([4; 32]),
        adapter: Digest([5; 32]),
        lines: 300,
        root: Digest([6; 32]),
    };
    let bytes = [
        b"foedus/record/1".as_slice(),
        &[1; 32],
        &[3],
        &[2; 32],
        &[3; 32],
        &[4; 32],
        &[5; 32],
        &[251, 44, 1],
        &[6; 32],
    ]
    .concat();
    assert_eq!(heading.signed_bytes(), bytes);
    assert_eq!(heading.hash(), Digest::of(&bytes));
}

#[test]
fn a_line_has_these_bytes_and_a_participant_this_digest() {
    let line = |verdict| Line {
        participant: Digest([1; 32]),
        verdict,
        blind: Digest([2; 32]),
    };
    let update = Digest([3; 32]);
    let accepted = codec::encode(&line(Verdict::Accepted { update, weight: 12 })).unwrap();
    let bytes = [&[1; 32][..], &[0], &[3; 32], &[12], &[2; 32]].concat();
    assert_eq!(accepted, bytes);
    let reason = RefusalReason::OverNorm;
    let refused = codec::encode(&line(Verdict::Refused { reason })).unwrap();
    assert_eq!(refused[32..37], [1, 251, 0x0b, 1, 2]);
    assert_eq!(codec::encode(&line(Verdict::Missing)).unwrap()[32], 2);
    let named = [b"foedus/participant/1".as_slice(), &[9; 32], b"site-1"].concat();
    assert_eq!(participant_digest(PLAN, &name(1)), Digest::of(&named));
}

/// RFC 9162, section 2.1.5, names the shape of the tree over seven leaves; these are its hashes over the bytes 0 to 6.
#[test]
fn the_tree_over_seven_leaves_is_that_of_the_rfc() {
    let hash = |parts: &[&[u8]]| Digest::of(&parts.concat());
    let leaves: Vec<_> = (0..7_u8).map(|number| tree::leaf(&[number])).collect();
    assert_eq!(leaves[3], hash(&[&[0], &[3]]));
    let node = |left: Digest, right: Digest| hash(&[&[1], &left.0, &right.0]);
    let (g, h) = (node(leaves[0], leaves[1]), node(leaves[2], leaves[3]));
    let (i, j) = (node(leaves[4], leaves[5]), leaves[6]);
    let (k, l) = (node(g, h), node(i, j));
    let tree = Tree::over(leaves.clone());
    assert_eq!(tree.root(), node(k, l));
    assert_eq!(tree.path(0), [leaves[1], h, l]);
    assert_eq!(tree.path(3), [leaves[2], g, l]);
    assert_eq!(tree.path(4), [leaves[5], j, k]);
    assert_eq!(tree.path(6), [i, k]);
}

#[test]
fn every_leaf_of_every_tree_up_to_seventy_climbs_to_the_root_and_to_no_other_place() {
    for size in 1..70_u32 {
        let leaves: Vec<_> = (0..size)
            .map(|number| tree::leaf(&number.to_le_bytes()))
            .collect();
        let tree = Tree::over(leaves.clone());
        let root = tree.root();
        for index in 0..size {
            let path = tree.path(index as usize);
            let leaf = leaves[index as usize];
            assert_eq!(tree::climb(leaf, index, size, &path), Some(root));
            for other in (0..size + 2).filter(|other| *other != index) {
                assert_ne!(tree::climb(leaf, other, size, &path), Some(root));
            }
            let longer = [path.as_slice(), &[root]].concat();
            assert_eq!(tree::climb(leaf, index, size, &longer), None);
        }
    }
}

#[test]
fn a_thousand_participants_fit_a_frame_each() {
    let record = record(&Chain::new(PLAN), 1000);
    record.check(&Eye).unwrap();
    let excerpt = record.excerpt(&name(500));
    excerpt
        .check(participant_digest(PLAN, &name(500)), &Eye)
        .unwrap();
    assert_eq!(excerpt.own[0].path.len(), 10);
    assert!(codec::encode(&excerpt).unwrap().len() < 1000);
}

#[test]
fn an_excerpt_shows_a_site_its_own_line_and_nobody_elses() {
    let record = record(&Chain::new(PLAN), 9);
    for number in 0..9 {
        let excerpt = record.excerpt(&name(number));
        let own = participant_digest(PLAN, &name(number));
        excerpt.check(own, &Eye).unwrap();
        let of_others = |inclusion: &Inclusion| inclusion.line.participant != own;
        assert!(excerpt.own.len() == 1 && !excerpt.own.iter().any(of_others));
    }
    assert!(record.excerpt(&name(9)).own.is_empty());
    let excerpt = record.excerpt(&name(1));
    let error = excerpt
        .check(participant_digest(PLAN, &name(2)), &Eye)
        .unwrap_err();
    assert!(
        error.to_string().contains("another participant's"),
        "{error}"
    );
}

#[test]
fn an_update_counts_once_it_is_acknowledged_or_on_record_and_not_in_a_round_before_its_own() {
    let update = Digest::of(name(1).as_str().as_bytes());
    let excerpt = record(&Chain::new(PLAN), 5).excerpt(&name(1));
    let mut witness = Witness::new(PLAN, &name(1));
    assert!(!witness.counts(Round(1), update));
    let recorded = Evidence::Recorded(Box::new(excerpt));
    witness.recall(&recorded).unwrap();
    assert!(witness.counts(Round(1), update));
    assert!(!witness.counts(Round(2), update), "of a later round");
    assert!(!witness.counts(Round(1), Digest([3; 32])), "another update");
    let refused = record(&Chain::new(PLAN), 5).excerpt(&name(3));
    let mut other = Witness::new(PLAN, &name(3));
    other
        .recall(&Evidence::Recorded(Box::new(refused)))
        .unwrap();
    let its = Digest::of(name(3).as_str().as_bytes());
    assert!(!other.counts(Round(1), its), "refused");
    let claim = Claim {
        plan: PLAN,
        round: Round(2),
        update: its,
        weight: 1,
    };
    other.recall(&Evidence::Accepted(claim)).unwrap();
    assert!(other.counts(Round(1), its), "a round late");
}

#[test]
fn a_second_update_of_one_participant_in_a_record_is_found_be_it_the_same_once_more_or_another() {
    for is_another in [false, true] {
        let mut record = record(&Chain::new(PLAN), 3).record;
        let participant = participant_digest(PLAN, &name(1));
        let of_it = record
            .lines
            .iter()
            .find(|one| one.participant == participant);
        let mut second = of_it.unwrap().clone();
        if is_another {
            let update = Digest([3; 32]);
            second.verdict = Verdict::Accepted { update, weight: 1 };
        }
        record.lines.push(second);
        record.lines.sort();
        let leaves: Vec<_> = record
            .lines
            .iter()
            .map(|line| tree::leaf(&codec::encode(line).unwrap()))
            .collect();
        record.heading.lines += 1;
        record.heading.root = Tree::over(leaves).root();
        let error = record.check_lines().unwrap_err();
        assert!(
            error.to_string().contains("more than one update"),
            "{error}"
        );
    }
}

#[test]
fn a_chain_goes_on_only_with_the_record_that_continues_it() {
    let mut chain = Chain::new(PLAN);
    let first = record(&chain, 2);
    chain.extend(&first.record.heading).unwrap();
    let second = record(&chain, 2).record.heading;
    let tell = |change: &dyn Fn(&mut Heading)| {
        let mut changed = second;
        change(&mut changed);
        let before = chain.clone();
        let mut chain = chain.clone();
        let error = chain.extend(&changed).unwrap_err();
        assert_eq!(chain, before);
        error
    };
    let round = Round(2);
    let one = Digest([0xee; 32]);
    assert_eq!(
        tell(&|heading| heading.plan = one),
        TranscriptFault::OtherPlan { round }
    );
    assert_eq!(
        tell(&|heading| heading.round = Round(3)),
        TranscriptFault::Order {
            expected: round,
            found: Round(3)
        }
    );
    assert_eq!(
        tell(&|heading| heading.previous = one),
        TranscriptFault::Fork { round }
    );
    assert_eq!(
        tell(&|heading| heading.before = one),
        TranscriptFault::Start { round }
    );
    chain.extend(&second).unwrap();
    assert_eq!(chain.round(), round);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Whatever bit of a record changes, checking it fails or it no longer decodes.
    #[test]
    fn any_flipped_bit_of_a_record_is_found(participants in 1_usize..12, place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let record = record(&Chain::new(PLAN), participants);
        let mut bytes = codec::encode(&record).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        if let Ok(changed) = codec::decode::<SealedRecord>(&bytes) {
            let is_found = changed.check(&Eye).is_err() || changed == record;
            prop_assert!(is_found, "byte {place}, bit {bit}");
        }
    }

    /// The same for what a participant gets.
    #[test]
    fn any_flipped_bit_of_an_excerpt_is_found(participants in 1_usize..40, place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let excerpt = record(&Chain::new(PLAN), participants).excerpt(&name(0));
        let own = participant_digest(PLAN, &name(0));
        let mut bytes = codec::encode(&excerpt).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        if let Ok(changed) = codec::decode::<Excerpt>(&bytes) {
            let hides = changed.own.len() < excerpt.own.len();
            prop_assert!(hides || changed.check(own, &Eye).is_err() || changed == excerpt, "byte {place}, bit {bit}");
        }
    }
}
