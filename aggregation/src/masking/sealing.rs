//! A pair of shares under lock for one peer: ChaCha20-Poly1305 (RFC 8439) with a key that only the two agree on.
//!
//! Every key is for one sender, one receiver and one attempt, and seals one message, so the nonce is zero.

use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Tag};
use zeroize::Zeroizing;

use super::keys::{Context, PairSecret, PublicKey};
use super::shamir::{SHARE_BYTES, Share};

const PLAIN_BYTES: usize = 1 + 2 * SHARE_BYTES;
const TAG_BYTES: usize = 16;

/// Length of a sealed pair of shares.
pub const SEALED_BYTES: usize = PLAIN_BYTES + TAG_BYTES;

/// What one participant entrusts to one peer: a share of each of its two secrets, at the same place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SharePair {
    /// Of the seed of its own mask.
    pub of_self_mask: Share,
    /// Of the secret key behind its pair masks.
    pub of_pair_key: Share,
}

/// What was sealed cannot be read, or nothing can be sealed for this peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// The peer's public key contributes nothing to an agreement.
    #[error("the public key is one of those with which nothing can be agreed on")]
    WeakKey,
    /// Changed on the way, or sealed for somebody else, another attempt or another list of keys.
    #[error("the shares were changed on their way or were not sealed for us")]
    Forged,
}

/// Seals a pair of shares from participant `from` for participant `to`.
///
/// `own` is the sender's secret key for sealing, `peer` the receiver's public one, `keys` the digest of the list of keys.
///
/// # Errors
/// [`SealError::WeakKey`].
pub fn seal(
    (own, peer): (&PairSecret, &PublicKey),
    (context, keys): (&Context, &[u8; 32]),
    (from, to): (u32, u32),
    shares: &SharePair,
) -> Result<[u8; SEALED_BYTES], SealError> {
    let cipher = cipher((own, peer), context, (from, to))?;
    let mut sealed = [0; SEALED_BYTES];
    let (plain, tag) = sealed.split_at_mut(PLAIN_BYTES);
    plain[0] = shares.of_self_mask.x;
    plain[1..][..SHARE_BYTES].copy_from_slice(&shares.of_self_mask.y);
    plain[1 + SHARE_BYTES..].copy_from_slice(&shares.of_pair_key.y);
    let aad = associated(context, keys, (from, to));
    let found = cipher
        .encrypt_inout_detached(&[0; 12].into(), &aad, plain.into())
        .expect("65 bytes are fewer than the cipher can seal");
    tag.copy_from_slice(&found);
    Ok(sealed)
}

/// Opens what participant `from` sealed for participant `to`: `own` is the receiver's secret key, `peer` the sender's public one.
///
/// # Errors
/// [`SealError`].
pub fn open(
    (own, peer): (&PairSecret, &PublicKey),
    (context, keys): (&Context, &[u8; 32]),
    (from, to): (u32, u32),
    sealed: &[u8; SEALED_BYTES],
) -> Result<SharePair, SealError> {
    let cipher = cipher((own, peer), context, (from, to))?;
    let mut plain = Zeroizing::new([0; PLAIN_BYTES]);
    plain.copy_from_slice(&sealed[..PLAIN_BYTES]);
    let tag = Tag::try_from(&sealed[PLAIN_BYTES..]).map_err(|_| SealError::Forged)?;
    let aad = associated(context, keys, (from, to));
    cipher
        .decrypt_inout_detached(&[0; 12].into(), &aad, plain.as_mut_slice().into(), &tag)
        .map_err(|_| SealError::Forged)?;
    let share = |at: usize| {
        let mut y = [0; SHARE_BYTES];
        y.copy_from_slice(&plain[at..][..SHARE_BYTES]);
        Share { x: plain[0], y }
    };
    Ok(SharePair {
        of_self_mask: share(1),
        of_pair_key: share(1 + SHARE_BYTES),
    })
}

fn cipher(
    (own, peer): (&PairSecret, &PublicKey),
    context: &Context,
    (from, to): (u32, u32),
) -> Result<ChaCha20Poly1305, SealError> {
    let info = [
        b"flsa/v1/share".as_slice(),
        &from.to_le_bytes(),
        &to.to_le_bytes(),
    ];
    let key = own.derive(context, peer, &info).ok_or(SealError::WeakKey)?;
    let key: &[u8; 32] = &key;
    Ok(ChaCha20Poly1305::new(key.into()))
}

fn associated(context: &Context, keys: &[u8; 32], (from, to): (u32, u32)) -> Vec<u8> {
    [
        context.0.as_slice(),
        keys,
        &from.to_le_bytes(),
        &to.to_le_bytes(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: Context = Context([9; 32]);
    const KEYS: [u8; 32] = [8; 32];

    fn pair() -> SharePair {
        SharePair {
            of_self_mask: Share { x: 3, y: [1; 32] },
            of_pair_key: Share { x: 3, y: [2; 32] },
        }
    }

    #[test]
    fn only_the_receiver_opens_it_and_only_unchanged_in_its_context() {
        let (a, b) = (
            PairSecret::from_bytes(&[1; 32]),
            PairSecret::from_bytes(&[2; 32]),
        );
        let sealed = seal((&a, &b.public()), (&CONTEXT, &KEYS), (1, 2), &pair()).unwrap();
        let opened = open((&b, &a.public()), (&CONTEXT, &KEYS), (1, 2), &sealed);
        assert_eq!(opened, Ok(pair()));
        let stranger = PairSecret::from_bytes(&[3; 32]);
        let forged = Err(SealError::Forged);
        assert_eq!(
            open((&stranger, &a.public()), (&CONTEXT, &KEYS), (1, 2), &sealed),
            forged
        );
        assert_eq!(
            open((&b, &a.public()), (&CONTEXT, &KEYS), (2, 1), &sealed),
            forged
        );
        assert_eq!(
            open((&b, &a.public()), (&CONTEXT, &[7; 32]), (1, 2), &sealed),
            forged
        );
        assert_eq!(
            open(
                (&b, &a.public()),
                (&Context([7; 32]), &KEYS),
                (1, 2),
                &sealed
            ),
            forged
        );
        for place in 0..SEALED_BYTES {
            let mut changed = sealed;
            changed[place] ^= 1;
            assert_eq!(
                open((&b, &a.public()), (&CONTEXT, &KEYS), (1, 2), &changed),
                forged
            );
        }
    }

    #[test]
    fn a_key_that_contributes_nothing_is_refused() {
        let own = PairSecret::from_bytes(&[1; 32]);
        let weak = PublicKey([0; 32]);
        let error = seal((&own, &weak), (&CONTEXT, &KEYS), (1, 2), &pair()).unwrap_err();
        assert_eq!(error, SealError::WeakKey);
        assert!(own.mask_key(&CONTEXT, 1, (2, &weak)).is_none());
    }
}
