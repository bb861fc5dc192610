//! Masks: ChaCha20 key streams added to, or taken from, a vector of ring elements.
//!
//! A stream is the key stream of RFC 8439 with a nonce of zeros from block 0 on, read as little-endian words of the ring's width.
//! Every key is used for one stream only, so that the fixed nonce is sound. Streams can be entered anywhere: the vector is cut into
//! blocks, each is worked on by one core while it is in its cache, and all masks are put on it there.

use std::fmt;

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use rayon::prelude::*;
use zeroize::Zeroizing;

use super::ring::Ring;

/// Elements of one block: what it takes together with its key stream stays in a core's first cache.
const BLOCK: usize = 2048;

/// The key of one mask. Wiped when dropped.
#[derive(Clone)]
pub struct MaskKey(Zeroizing<[u8; 32]>);

impl MaskKey {
    pub(super) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for MaskKey {
    /// Never shows the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskKey")
    }
}

/// Whether a mask is added or subtracted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sign {
    /// Added.
    Plus,
    /// Subtracted.
    Minus,
}

impl Sign {
    /// The sign with which participant `own` puts on the mask that it shares with `peer`: the lower number adds.
    pub fn of_pair(own: u32, peer: u32) -> Self {
        if own < peer { Self::Plus } else { Self::Minus }
    }

    fn opposite(self) -> Self {
        match self {
            Self::Plus => Self::Minus,
            Self::Minus => Self::Plus,
        }
    }
}

/// Masks that belong on one vector.
#[derive(Clone, Debug, Default)]
pub struct MaskSet(Vec<(MaskKey, Sign)>);

impl MaskSet {
    /// No mask.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts one more mask into the set.
    pub fn push(&mut self, key: MaskKey, sign: Sign) {
        self.0.push((key, sign));
    }

    /// How many masks there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts every mask on the vector.
    pub fn add_to(&self, ring: Ring, vector: &mut [u32]) {
        self.apply(ring, vector, |sign| sign);
    }

    /// Takes every mask off the vector.
    pub fn take_from(&self, ring: Ring, vector: &mut [u32]) {
        self.apply(ring, vector, Sign::opposite);
    }

    fn apply(&self, ring: Ring, vector: &mut [u32], turn: impl Fn(Sign) -> Sign + Sync) {
        if self.is_empty() {
            return;
        }
        // Each core has ciphers of its own: their place in the stream is their state.
        let ciphers = || -> Vec<_> {
            let cipher = |(key, sign): &(MaskKey, Sign)| {
                let key: &[u8; 32] = &key.0;
                (ChaCha20::new(key.into(), &[0; 12].into()), turn(*sign))
            };
            self.0.iter().map(cipher).collect()
        };
        let blocks = vector.par_chunks_mut(BLOCK).enumerate();
        blocks.for_each_init(
            || (ciphers(), Zeroizing::new([0_u8; 4 * BLOCK])),
            |(ciphers, stream), (block, elements)| {
                let stream = &mut stream[..elements.len() * ring.width()];
                let place = (block * BLOCK * ring.width()) as u64;
                for (cipher, sign) in ciphers {
                    cipher.seek(place);
                    cipher.write_keystream(stream);
                    combine(ring, elements, stream, *sign);
                }
            },
        );
    }
}

/// Adds or subtracts the words of a key stream.
fn combine(ring: Ring, elements: &mut [u32], stream: &[u8], sign: Sign) {
    match (ring, sign) {
        (Ring::Bits32, Sign::Plus) => {
            for (element, word) in elements.iter_mut().zip(stream.as_chunks().0) {
                *element = element.wrapping_add(u32::from_le_bytes(*word));
            }
        }
        (Ring::Bits32, Sign::Minus) => {
            for (element, word) in elements.iter_mut().zip(stream.as_chunks().0) {
                *element = element.wrapping_sub(u32::from_le_bytes(*word));
            }
        }
        (Ring::Bits16 | Ring::Bits24, _) => {
            let words = stream
                .chunks_exact(ring.width())
                .map(|word| ring.read(word));
            for (element, word) in elements.iter_mut().zip(words) {
                let combined = match sign {
                    Sign::Plus => element.wrapping_add(word),
                    Sign::Minus => element.wrapping_sub(word),
                };
                *element = combined & ring.mask();
            }
        }
    }
}
