//! Who shares secrets with whom, and how many must come back: a complete graph for few, a random regular one for many.
//!
//! Up to [`COMPLETE_MAX`] members everybody shares with everybody (Bonawitz et al. 2017). Above, each has `k` neighbours on a ring
//! of members that is shuffled by the digest of all keys (Bell et al. 2020, SecAgg+; Harary graph). `k` and the threshold `t` are
//! the smallest for which with probability `1 - e` no member's neighbours hold enough corrupt ones to open both of its secrets and the
//! graph hangs together, and with `1 - 2^-20` enough neighbours remain (algorithms.md 4.3).
//!
//! No honest member's keys can be foreseen, but a server can hold back those of members on its side until it has all others, and try keys
//! and left-out members until the shuffle suits it. So against a malicious server `e` is `2^-100`: whoever tries 2^60 shuffles, each
//! at the price of hashing the whole list, has a chance of `2^-40`. A server that follows the protocol tries nothing, and `e` is `2^-40`.

use sha2::{Digest as _, Sha256};

use super::roster::MemberId;
use crate::ids::Digest;
use crate::plan::ServerTrust;

/// Members up to which everybody shares with everybody.
pub const COMPLETE_MAX: u32 = 128;

/// Share of members that may drop out of a large attempt.
const DROPOUTS: f64 = 0.1;

/// The shape of an attempt: it follows from its number of members.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Arrangement {
    members: u32,
    neighbours: u32,
    threshold: u32,
}

impl Arrangement {
    /// The arrangement for so many members.
    pub fn new(members: u32, trust: ServerTrust) -> Self {
        if members <= COMPLETE_MAX {
            let threshold = match trust {
                ServerTrust::Malicious => 2 * members / 3 + 1,
                ServerTrust::HonestButCurious => members / 2 + 1,
            };
            let neighbours = members.saturating_sub(1);
            return Self {
                members,
                neighbours,
                threshold,
            };
        }
        match trust {
            ServerTrust::Malicious => Self::regular(members, (0.2, DROPOUTS), AFTER_TRIES),
            ServerTrust::HonestButCurious => Self::regular(members, (0.05, DROPOUTS), TINY),
        }
    }

    /// The smallest regular graph for shares of corrupt members and of dropouts in which the chance of harm is `tiny`.
    fn regular(members: u32, (corrupt, dropouts): (f64, f64), tiny: f64) -> Self {
        let draw = Hypergeometric::new(members);
        let marked = |share: f64| (share * f64::from(members)).round() as u32;
        let all = f64::from(members);
        // Places of shares are bytes.
        for neighbours in (2..members.min(255)).step_by(2) {
            if tiny < all * (corrupt + dropouts).powi((neighbours / 2) as i32) {
                continue;
            }
            let harmless =
                |&most: &u32| all * draw.above(marked(corrupt), neighbours, most) <= tiny;
            let Some(most) = (0..=neighbours).find(harmless) else {
                continue;
            };
            // A member holds a share of its own secrets too: both are open for `2t <= k + 1 + corrupt`.
            let threshold = u32::midpoint(neighbours + 1, most) + 1;
            let enough = neighbours
                .checked_sub(threshold)
                .is_some_and(|spare| all * draw.above(marked(dropouts), neighbours, spare) <= RARE);
            if enough {
                return Self {
                    members,
                    neighbours,
                    threshold,
                };
            }
        }
        // Not reached for any number of members that a plan allows; all of these are safe, if slow.
        let neighbours = (members - 1).min(254);
        Self {
            members,
            neighbours,
            threshold: 2 * neighbours / 3 + 1,
        }
    }

    /// Members of the attempt.
    pub fn members(&self) -> u32 {
        self.members
    }

    /// Neighbours of each member.
    pub fn neighbours(&self) -> u32 {
        self.neighbours
    }

    /// Shares that give a secret back.
    pub fn threshold(&self) -> u32 {
        self.threshold
    }

    /// Whether everybody shares with everybody.
    pub fn is_complete(&self) -> bool {
        self.members <= self.neighbours + 1
    }

    /// The neighbours of one among `present`, in order of their numbers. `keys` is the digest of all keys.
    pub fn neighbours_of(
        &self,
        own: MemberId,
        present: &[MemberId],
        keys: &Digest,
    ) -> Vec<MemberId> {
        if present.len() <= self.neighbours as usize + 1 {
            return present.iter().copied().filter(|&one| one != own).collect();
        }
        let mut ring: Vec<_> = present.iter().map(|&one| (lot(keys, one), one)).collect();
        ring.sort_unstable();
        let Some(place) = ring.iter().position(|&(_, one)| one == own) else {
            return Vec::new();
        };
        let length = ring.len();
        let half = self.neighbours as usize / 2;
        let at = |offset: usize| ring[(place + offset) % length].1;
        let mut found: Vec<_> = (1..=half)
            .flat_map(|step| [at(step), at(length - step)])
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// A member's place on the ring.
fn lot(keys: &Digest, one: MemberId) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"flsa/v1/graph");
    hash.update(keys.0);
    hash.update(one.0.to_le_bytes());
    hash.finalize().into()
}

/// 2^-40.
const TINY: f64 = 9.094_947_017_729_282e-13;
/// 2^-100: `TINY` is left of it after 2^60 tries.
const AFTER_TRIES: f64 = TINY / (1_u64 << 60) as f64;
/// 2^-20.
const RARE: f64 = 9.536_743_164_062_5e-7;

/// Draws without putting back from `members - 1` others.
struct Hypergeometric {
    others: u32,
    /// Logarithms of factorials.
    factorials: Vec<f64>,
}

impl Hypergeometric {
    fn new(members: u32) -> Self {
        let mut factorials = vec![0.0];
        let mut sum = 0.0;
        for number in 1..=members {
            sum += f64::from(number).ln();
            factorials.push(sum);
        }
        Self {
            others: members - 1,
            factorials,
        }
    }

    /// The chance that of `drawn` more than `most` are among the `marked`.
    fn above(&self, marked: u32, drawn: u32, most: u32) -> f64 {
        let all = self.choose(self.others, drawn);
        let exactly = |hits: u32| {
            let misses = drawn - hits;
            if self.others - marked < misses {
                return 0.0;
            }
            (self.choose(marked, hits) + self.choose(self.others - marked, misses) - all).exp()
        };
        (most + 1..=marked.min(drawn)).map(exactly).sum()
    }

    fn choose(&self, of: u32, some: u32) -> f64 {
        let log = |number: u32| self.factorials[number as usize];
        log(of) - log(some) - log(of - some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_of_complete_graphs_are_the_published_ones() {
        for (members, threshold) in [
            (3, 3),
            (4, 3),
            (5, 4),
            (7, 5),
            (10, 7),
            (20, 14),
            (32, 22),
            (50, 34),
            (100, 67),
            (128, 86),
        ] {
            let found = Arrangement::new(members, ServerTrust::Malicious);
            assert_eq!(
                (found.threshold(), found.neighbours()),
                (threshold, members - 1)
            );
            // Two openings of one secret would need more members than there are honest ones twice over.
            assert!(members + members.div_ceil(3) - 1 < 2 * threshold);
        }
        assert_eq!(
            Arrangement::new(10, ServerTrust::HonestButCurious).threshold(),
            6
        );
    }

    #[test]
    fn regular_graphs_have_the_published_neighbours_and_thresholds_with_room_for_the_own_share() {
        // Published for 500 are 44 and 31, 82 and 57, 116 and 86, for 1000 the same, 96 and 67, 138 and 102: where neighbours and corrupt
        // ones are an odd number together, these leave both secrets open to them and the victim's own share.
        let table = [
            (200, [(30, 21), (56, 39), (76, 57)]),
            (500, [(46, 33), (84, 59), (118, 88)]),
            (1000, [(52, 37), (100, 70), (140, 104)]),
        ];
        for (members, expected) in table {
            for ((corrupt, dropouts), expected) in [(0.05, 0.05), (0.1, 0.1), (0.2, 0.1)]
                .into_iter()
                .zip(expected)
            {
                let found = Arrangement::regular(members, (corrupt, dropouts), TINY);
                assert_eq!(
                    (found.neighbours, found.threshold),
                    expected,
                    "{members} {corrupt}"
                );
            }
        }
        assert_eq!(
            Arrangement::new(1000, ServerTrust::HonestButCurious).neighbours(),
            78
        );
    }

    #[test]
    fn a_server_that_tries_2_to_the_60_shuffles_has_a_chance_of_2_to_the_minus_40() {
        for (members, expected) in [(129, (124, 76)), (200, (124, 83)), (1000, (194, 150))] {
            let found = Arrangement::new(members, ServerTrust::Malicious);
            assert_eq!(
                (found.neighbours(), found.threshold()),
                expected,
                "{members}"
            );
        }
        for members in 129..=1000 {
            let Arrangement {
                neighbours,
                threshold,
                ..
            } = Arrangement::new(members, ServerTrust::Malicious);
            let corrupt = (0.2 * f64::from(members)).round() as u32;
            // More corrupt neighbours, two halves of the others and the victim itself would open both of its secrets.
            let most = 2 * threshold - neighbours - 2;
            let chance = Hypergeometric::new(members).above(corrupt, neighbours, most);
            let tries = (1_u64 << 60) as f64;
            assert!(
                f64::from(members) * chance * tries <= TINY,
                "{members}: {chance:e}"
            );
        }
    }

    #[test]
    fn neighbours_are_mutual_as_many_as_said_and_depend_on_the_keys() {
        let present: Vec<_> = (1..=200).map(MemberId).collect();
        let arrangement = Arrangement::new(200, ServerTrust::HonestButCurious);
        let keys = Digest::of(b"keys");
        for &own in &present {
            let found = arrangement.neighbours_of(own, &present, &keys);
            assert_eq!(found.len(), arrangement.neighbours() as usize);
            for peer in found {
                assert!(
                    arrangement
                        .neighbours_of(peer, &present, &keys)
                        .contains(&own)
                );
            }
        }
        let other = arrangement.neighbours_of(MemberId(1), &present, &Digest::of(b"other keys"));
        assert_ne!(
            other,
            arrangement.neighbours_of(MemberId(1), &present, &keys)
        );
        let few = Arrangement::new(5, ServerTrust::Malicious);
        let found = few.neighbours_of(MemberId(2), &present[..5], &keys);
        assert_eq!(found, [1, 3, 4, 5].map(MemberId));
    }

    #[test]
    fn every_number_of_members_that_a_plan_allows_has_an_arrangement_whose_shares_have_places() {
        for members in 3..=1000 {
            for trust in [ServerTrust::Malicious, ServerTrust::HonestButCurious] {
                let found = Arrangement::new(members, trust);
                assert!(found.neighbours() < 255 && found.threshold() <= found.neighbours() + 1);
            }
        }
    }
}
