//! Bytes that are hashed while they are made.

use sha2::{Digest, Sha256};

/// Bytes and what they are called.
#[derive(Clone, Debug, PartialEq)]
pub struct Hashed {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

/// Bytes of one stretch: a whole number of units of any ring, which stay in a core's second cache until they are hashed.
pub(super) const STRETCH: usize = 3 << 17;

/// Makes so many bytes, stretch by stretch from the place that `fill` is told; one is hashed while the next is made.
pub(super) fn hashed(length: usize, mut fill: impl FnMut(usize, &mut [u8]) + Send) -> Hashed {
    let mut bytes = vec![0; length];
    // One step into the pool for all stretches.
    let sha256 = rayon::scope(|_| {
        let (mut hash, mut made) = (Sha256::new(), [].as_slice());
        let mut from = 0;
        for stretch in bytes.chunks_mut(STRETCH) {
            rayon::join(|| fill(from, stretch), || hash.update(made));
            from += stretch.len();
            made = stretch;
        }
        hash.update(made);
        hash.finalize().into()
    });
    Hashed { bytes, sha256 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_their_own_digest_at_every_length() {
        for length in [0, 1, STRETCH - 1, STRETCH, STRETCH + 1, 3 * STRETCH + 17] {
            let byte = |place: usize| (place % 251) as u8;
            let made = hashed(length, |from, stretch| {
                for (place, value) in (from..).zip(stretch) {
                    *value = byte(place);
                }
            });
            let expected: Vec<u8> = (0..length).map(byte).collect();
            assert!(made.bytes == expected, "{length}");
            assert_eq!(
                made.sha256,
                <[u8; 32]>::from(Sha256::digest(&expected)),
                "{length}"
            );
        }
    }
}
