//! Takes the masks off a round's sum with what its members revealed, and nothing that is a single update's.

use std::collections::BTreeSet;

use aggregation::masking::{
    Commitment, Context, MaskSet, PublicKey, RingSum, Share, Sign, recover_pair_key,
    recover_self_mask,
};
use protocol::ParticipantName;
use protocol::secagg::{MemberId, Opening, Revealed, Secret};

/// Takes the masks off; returns who revealed shares that are wrong.
///
/// # Errors
/// In words, whose secret could not be put together, or what is wrong with the sum.
pub(crate) fn open(
    sum: &mut RingSum,
    opening: &Opening,
) -> Result<BTreeSet<ParticipantName>, String> {
    let (mut masks, mut liars) = (MaskSet::new(), BTreeSet::new());
    for revealed in &opening.secrets {
        let wrong = add_masks(&mut masks, opening, revealed)?;
        let senders = wrong.iter().filter_map(|&index| revealed.by.get(index));
        liars.extend(senders.filter_map(|by| opening.names.get(by)).cloned());
    }
    sum.unmask(&masks);
    Ok(liars)
}

/// Adds what one revealed secret says of masks; returns which of its shares are wrong.
fn add_masks(
    masks: &mut MaskSet,
    opening: &Opening,
    revealed: &Revealed,
) -> Result<BTreeSet<usize>, String> {
    let context = Context(opening.context.0);
    let threshold = opening.threshold as usize;
    let of = revealed.of;
    let keys = keys(opening, of)?;
    let shares = revealed.shares.iter().map(|share| Share {
        x: share.x,
        y: share.y,
    });
    let shares: Vec<_> = shares.collect();
    let failed = |what: &str, error: String| {
        format!(
            "the {what} of {} cannot be put together: {error}",
            name(opening, of)
        )
    };
    match &revealed.secret {
        Secret::SelfMask => {
            let commitment = Commitment(keys.commitment);
            let found = recover_self_mask(&context, of.0, &commitment, &shares, threshold)
                .map_err(|error| failed("mask", error.to_string()))?;
            masks.push(found.secret.mask_key(&context, of.0), Sign::Plus);
            Ok(found.wrong)
        }
        Secret::PairKey { neighbours } if neighbours.is_empty() => Ok(BTreeSet::new()),
        Secret::PairKey { neighbours } => {
            let public = PublicKey(keys.masking);
            let found = recover_pair_key(&public, &shares, threshold)
                .map_err(|error| failed("masking key", error.to_string()))?;
            for &peer in neighbours {
                let theirs = PublicKey(self::keys(opening, peer)?.masking);
                let key = found.secret.mask_key(&context, of.0, (peer.0, &theirs));
                let key = key.ok_or_else(|| failed("masks", "a key is worthless".to_owned()))?;
                masks.push(key, Sign::of_pair(peer.0, of.0));
            }
            Ok(found.wrong)
        }
    }
}

fn keys(opening: &Opening, of: MemberId) -> Result<&protocol::secagg::Keys, String> {
    let keys = opening.keys.get(&of);
    keys.ok_or_else(|| format!("the keys of {} are missing", name(opening, of)))
}

fn name(opening: &Opening, of: MemberId) -> String {
    opening
        .names
        .get(&of)
        .map_or_else(|| format!("member {}", of.0), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aggregation::masking::{FixedRing, Ring, SelfSecret, split};
    use protocol::secagg::{AttemptId, Keys, Share as Revelation};
    use protocol::{Digest, Round};
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;

    /// The opening of a sum of one, whose mask four members have shares of, three of them enough.
    fn opening(sum: &mut RingSum, fixed: &FixedRing) -> Opening {
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let (context, seed) = (Context([1; 32]), SelfSecret::draw(&mut rng));
        let mut masks = MaskSet::new();
        masks.push(seed.mask_key(&context, 1), Sign::Plus);
        let plain = fixed.encode(&[0.25], (1, 1), 1.0).unwrap().elements;
        let masked = masks.masked(fixed.ring(), &fixed.to_bytes(&plain));
        sum.add(masked.bytes.as_slice()).unwrap();
        let shares = split(&seed.to_bytes(), 3, 4, &mut rng).unwrap();
        let keys = Keys {
            sealing: [0; 32],
            masking: [0; 32],
            commitment: seed.commitment(&context, 1).0,
        };
        let ids = || (1..=4).map(MemberId);
        let names = ids().map(|id| (id, format!("site-{}", id.0).parse().unwrap()));
        Opening {
            attempt: AttemptId {
                round: Round(1),
                number: 1,
            },
            context: Digest(context.0),
            threshold: 3,
            keys: BTreeMap::from([(MemberId(1), keys)]),
            names: names.collect(),
            secrets: vec![Revealed {
                of: MemberId(1),
                secret: Secret::SelfMask,
                shares: shares
                    .iter()
                    .map(|share| Revelation {
                        of: MemberId(1),
                        x: share.x,
                        y: share.y,
                    })
                    .collect(),
                by: ids().collect(),
            }],
        }
    }

    #[test]
    fn who_reveals_a_wrong_share_is_named_and_the_sum_opened_without_it() {
        let fixed = FixedRing::for_bounds(Ring::Bits32, 4, 0.5).unwrap();
        for wrong in [None, Some(0), Some(2)] {
            let mut sum = RingSum::new(fixed, 1);
            let mut opening = opening(&mut sum, &fixed);
            if let Some(index) = wrong {
                // At the place of an honest one, which must not be accused for it.
                opening.secrets[0].shares[index].x = 4;
                opening.secrets[0].shares[index].y[0] ^= 1;
            }
            let liars = open(&mut sum, &opening).unwrap();
            let named: Vec<_> = liars.iter().map(ToString::to_string).collect();
            let expected = wrong.map(|index| format!("site-{}", index + 1));
            assert_eq!(named, Vec::from_iter(expected));
            assert_eq!(sum.mean().unwrap().values, [0.25]);
        }
    }

    #[test]
    fn a_sum_without_shares_to_spare_stays_closed_and_names_whose_secret_it_lacks() {
        let fixed = FixedRing::for_bounds(Ring::Bits32, 4, 0.5).unwrap();
        let mut sum = RingSum::new(fixed, 1);
        let mut opening = opening(&mut sum, &fixed);
        opening.secrets[0].shares.truncate(3);
        opening.secrets[0].shares[1].y[0] ^= 1;
        let said = open(&mut sum, &opening).unwrap_err();
        assert!(
            said.contains("the mask of site-1 cannot be put together"),
            "{said}"
        );
    }
}
