//! Shamir's secret sharing of 32 bytes over GF(2^8), byte by byte (Shamir 1979).
//!
//! Coefficients are uniform over all 256 values, zero included and the leading one too: any other choice would tell something
//! about the secret.

use std::fmt;

use rand_chacha::rand_core::CryptoRng;
use zeroize::{Zeroize as _, Zeroizing};

use super::field::{invert, multiply};

/// Bytes of a shared secret, and of each share's value.
pub const SHARE_BYTES: usize = 32;

/// One point of the 32 polynomials. Wiped when dropped.
#[derive(Clone, Eq, PartialEq)]
pub struct Share {
    /// Where the polynomials were evaluated; never 0.
    pub x: u8,
    /// Their values there.
    pub y: [u8; SHARE_BYTES],
}

impl Drop for Share {
    fn drop(&mut self) {
        self.y.zeroize();
    }
}

impl fmt::Debug for Share {
    /// Never shows the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share(at {})", self.x)
    }
}

/// Shares that give no secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ShareError {
    /// A threshold that cannot be met, or none.
    #[error(
        "a threshold of {threshold} with {shares} shares: it must be 1 to the number of shares, and they at most 255"
    )]
    Threshold {
        /// Shares needed.
        threshold: usize,
        /// Shares made.
        shares: usize,
    },
    /// Fewer shares than the threshold.
    #[error("{found} shares were given, {threshold} are needed")]
    TooFew {
        /// Shares given.
        found: usize,
        /// Shares needed.
        threshold: usize,
    },
    /// Two shares of one place, or a share at 0.
    #[error("the shares are not of different places from 1 to 255: {x} is one of them")]
    Place {
        /// The place.
        x: u8,
    },
}

/// Splits a secret into shares at 1, 2, ... of which any `threshold` give it back and fewer tell nothing.
///
/// # Errors
/// [`ShareError::Threshold`].
pub fn split(
    secret: &[u8; SHARE_BYTES],
    threshold: usize,
    shares: usize,
    rng: &mut impl CryptoRng,
) -> Result<Vec<Share>, ShareError> {
    let Ok(places) = u8::try_from(shares) else {
        return Err(ShareError::Threshold { threshold, shares });
    };
    if threshold == 0 || shares < threshold {
        return Err(ShareError::Threshold { threshold, shares });
    }
    // From the constant term, the secret, upwards.
    let mut coefficients = Zeroizing::new(vec![*secret; threshold]);
    for coefficient in &mut coefficients[1..] {
        rng.fill_bytes(coefficient);
    }
    Ok((1..=places).map(|x| evaluate(&coefficients, x)).collect())
}

fn evaluate(coefficients: &[[u8; SHARE_BYTES]], x: u8) -> Share {
    let mut y = [0; SHARE_BYTES];
    for coefficient in coefficients.iter().rev() {
        for (y, coefficient) in y.iter_mut().zip(coefficient) {
            *y = multiply(*y, x) ^ coefficient;
        }
    }
    Share { x, y }
}

/// Gives back the secret from the first `threshold` of these shares.
///
/// Shares that were tampered with give another secret: whoever combines must know how to tell, by a commitment or a public key.
///
/// # Errors
/// [`ShareError`] if there are too few, or places that cannot be.
pub fn combine(
    shares: &[&Share],
    threshold: usize,
) -> Result<Zeroizing<[u8; SHARE_BYTES]>, ShareError> {
    if threshold == 0 || shares.len() < threshold {
        let found = shares.len();
        return Err(ShareError::TooFew { found, threshold });
    }
    let used = &shares[..threshold];
    let mut secret = Zeroizing::new([0; SHARE_BYTES]);
    for (place, share) in used.iter().enumerate() {
        let factor = lagrange(used, place)?;
        for (secret, &y) in secret.iter_mut().zip(&share.y) {
            *secret ^= multiply(y, factor);
        }
    }
    Ok(secret)
}

/// The weight of the share at this index in the value at 0. Places are public.
fn lagrange(shares: &[&Share], index: usize) -> Result<u8, ShareError> {
    let x = shares[index].x;
    if x == 0 {
        return Err(ShareError::Place { x });
    }
    let (mut over, mut under) = (1, 1);
    for (other, share) in shares.iter().enumerate() {
        if other != index {
            if share.x == x {
                return Err(ShareError::Place { x });
            }
            over = multiply(over, share.x);
            under = multiply(under, share.x ^ x);
        }
    }
    Ok(multiply(over, invert(under)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn the_known_polynomial_has_its_known_values_and_any_three_give_its_secret() {
        let coefficients = [
            [0x42; SHARE_BYTES],
            [0x07; SHARE_BYTES],
            [0x1f; SHARE_BYTES],
        ];
        let shares: Vec<_> = (1..=5).map(|x| evaluate(&coefficients, x)).collect();
        let values: Vec<_> = shares.iter().map(|share| share.y[0]).collect();
        assert_eq!(values, [0x5a, 0x30, 0x28, 0xb5, 0xad]);
        for a in 0..5 {
            for b in 0..5 {
                for c in 0..5 {
                    if a != b && b != c && a != c {
                        let chosen = [&shares[a], &shares[b], &shares[c]];
                        assert_eq!(*combine(&chosen, 3).unwrap(), [0x42; SHARE_BYTES]);
                    }
                }
            }
        }
    }

    #[test]
    fn coefficients_take_every_value_zero_included() {
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        // With threshold 2 the coefficient is the value at 1 plus the secret.
        let mut seen = [false; 256];
        for _ in 0..200 {
            let shares = split(&[0; SHARE_BYTES], 2, 2, &mut rng).unwrap();
            shares[0]
                .y
                .iter()
                .for_each(|&y| seen[usize::from(y)] = true);
        }
        assert!(seen.iter().all(|&seen| seen));
    }

    #[test]
    fn thresholds_and_places_that_cannot_be_are_refused() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        for (threshold, shares) in [(0, 3), (4, 3), (1, 0), (2, 256)] {
            let error = split(&[1; SHARE_BYTES], threshold, shares, &mut rng).unwrap_err();
            assert_eq!(error, ShareError::Threshold { threshold, shares });
        }
        let shares = split(&[1; SHARE_BYTES], 2, 3, &mut rng).unwrap();
        assert_eq!(
            combine(&[&shares[0]], 2).unwrap_err(),
            ShareError::TooFew {
                found: 1,
                threshold: 2
            }
        );
        assert_eq!(
            combine(&[&shares[0], &shares[0]], 2).unwrap_err(),
            ShareError::Place { x: 1 }
        );
        let nowhere = Share {
            x: 0,
            y: [0; SHARE_BYTES],
        };
        assert_eq!(
            combine(&[&nowhere, &shares[0]], 2).unwrap_err(),
            ShareError::Place { x: 0 }
        );
        assert_eq!(format!("{:?}", shares[1]), "Share(at 2)");
    }

    proptest! {
        #![proptest_config(crate::properties::fixed_seed())]

        #[test]
        fn any_threshold_of_the_shares_gives_the_secret_and_one_less_another(
            secret in any::<[u8; 32]>(),
            seed in any::<[u8; 32]>(),
            (threshold, count) in (1..12_usize).prop_flat_map(|t| (Just(t), t..20)),
            rotation in 0..20_usize,
        ) {
            let mut rng = ChaCha20Rng::from_seed(seed);
            let shares = split(&secret, threshold, count, &mut rng).unwrap();
            let mut chosen: Vec<_> = shares.iter().collect();
            chosen.rotate_left(rotation % count);
            prop_assert_eq!(*combine(&chosen, threshold).unwrap(), secret);
            if 1 < threshold {
                prop_assert_ne!(*combine(&chosen, threshold - 1).unwrap(), secret);
            }
        }
    }
}
