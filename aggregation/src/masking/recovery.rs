//! Secrets put together from the shares of several participants, some of which may be wrong.
//!
//! Whether a secret is the right one is known from what its owner told everybody before: the commitment to its seed, or the public
//! half of its key. So wrong shares are found out, and which ones, as long as enough right ones are there.

use std::collections::BTreeSet;

use super::keys::{Commitment, Context, PairSecret, PublicKey, SelfSecret};
use super::shamir::{SHARE_BYTES, Share, ShareError, combine};

/// A secret, and the shares that were not of it.
#[derive(Clone, Debug)]
pub struct Recovered<T> {
    /// The secret.
    pub secret: T,
    /// Which of the shares given are wrong, by index, as far as they were looked at.
    pub wrong: BTreeSet<usize>,
}

/// Shares that do not give the secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecoveryError {
    /// Too few, or places that cannot be.
    #[error(transparent)]
    Shares(#[from] ShareError),
    /// No choice of them that was tried gives what its owner committed to.
    #[error("too many of the {found} shares are wrong")]
    Wrong {
        /// Shares given.
        found: usize,
    },
}

/// Puts together the seed of a participant's own mask.
///
/// # Errors
/// [`RecoveryError`].
pub fn recover_self_mask(
    context: &Context,
    of: u32,
    commitment: &Commitment,
    shares: &[Share],
    threshold: usize,
) -> Result<Recovered<SelfSecret>, RecoveryError> {
    recover(shares, threshold, |bytes| {
        let secret = SelfSecret::from_bytes(bytes);
        (secret.commitment(context, of) == *commitment).then_some(secret)
    })
}

/// Puts together a participant's masking key.
///
/// # Errors
/// [`RecoveryError`].
pub fn recover_pair_key(
    public: &PublicKey,
    shares: &[Share],
    threshold: usize,
) -> Result<Recovered<PairSecret>, RecoveryError> {
    recover(shares, threshold, |bytes| {
        let secret = PairSecret::from_bytes(bytes);
        (secret.public() == *public).then_some(secret)
    })
}

/// Tries all shares in turn, then without one, then without two of them.
fn recover<T>(
    shares: &[Share],
    threshold: usize,
    accept: impl Fn(&[u8; SHARE_BYTES]) -> Option<T>,
) -> Result<Recovered<T>, RecoveryError> {
    let without = |left_out: &[usize]| -> Result<Option<T>, ShareError> {
        let kept = shares
            .iter()
            .enumerate()
            .filter(|(place, _)| !left_out.contains(place));
        let chosen: Vec<&Share> = kept.map(|(_, share)| share).collect();
        match combine(&chosen, threshold) {
            Ok(secret) => Ok(accept(&secret)),
            // A share at a place that cannot be is a wrong one like others.
            Err(ShareError::Place { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let found = |secret: T, left_out: &[usize]| Recovered {
        secret,
        wrong: left_out.iter().copied().collect(),
    };
    if let Some(secret) = without(&[])? {
        return Ok(found(secret, &[]));
    }
    let spare = shares.len() - threshold;
    if 1 <= spare {
        for first in 0..threshold {
            if let Some(secret) = without(&[first])? {
                return Ok(found(secret, &[first]));
            }
        }
    }
    if 2 <= spare {
        for second in 1..=threshold {
            for first in 0..second {
                if let Some(secret) = without(&[first, second])? {
                    return Ok(found(secret, &[first, second]));
                }
            }
        }
    }
    Err(RecoveryError::Wrong {
        found: shares.len(),
    })
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::super::split;
    use super::*;

    fn shares() -> (PublicKey, Vec<Share>) {
        let mut rng = ChaCha20Rng::from_seed([4; 32]);
        let secret = PairSecret::draw(&mut rng);
        let shares = split(&secret.to_bytes(), 3, 5, &mut rng).unwrap();
        (secret.public(), shares)
    }

    #[test]
    fn one_or_two_wrong_shares_are_found_out_and_named() {
        for wrong in [
            vec![],
            vec![0],
            vec![2],
            vec![0, 1],
            vec![1, 2],
            vec![0, 2],
            vec![1, 3],
        ] {
            let (public, mut shares) = shares();
            for &place in &wrong {
                shares[place].y[31] ^= 1;
            }
            let found = recover_pair_key(&public, &shares, 3).unwrap();
            assert_eq!(found.secret.public(), public);
            let looked_at: BTreeSet<usize> = wrong.iter().copied().collect();
            assert!(
                found.wrong.is_subset(&looked_at),
                "{:?} {looked_at:?}",
                found.wrong
            );
        }
    }

    #[test]
    fn shares_at_places_that_cannot_be_are_wrong_ones_like_others() {
        for place in [0, 2] {
            let (public, mut shares) = shares();
            shares[0].x = place;
            let found = recover_pair_key(&public, &shares, 3).unwrap();
            assert_eq!(found.secret.public(), public);
        }
    }

    #[test]
    fn too_many_wrong_or_too_few_shares_give_nothing() {
        let (public, mut shares) = shares();
        let too_few = recover_pair_key(&public, &shares[..2], 3).unwrap_err();
        let expected = ShareError::TooFew {
            found: 2,
            threshold: 3,
        };
        assert_eq!(too_few, RecoveryError::Shares(expected));
        for share in &mut shares[..3] {
            share.y[7] ^= 1;
        }
        let error = recover_pair_key(&public, &shares, 3).unwrap_err();
        assert_eq!(error, RecoveryError::Wrong { found: 5 });
    }
}
