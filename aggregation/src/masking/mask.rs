//! Masks: ChaCha20 key streams added to, or taken from, a vector of ring elements.
//!
//! A stream is the key stream of RFC 8439 with a nonce of zeros from block 0 on, read as little-endian words of the ring's width.
//! Every key is used for one stream only, so that the fixed nonce is sound. Streams can be entered anywhere: the vector is cut into
//! units, each is worked on by one core while it is in its cache, and all masks are put on it there.

use std::fmt;

use pulp::Arch;
use rayon::prelude::*;
use zeroize::Zeroizing;

use super::hashed::{Hashed, hashed};
use super::ring::Ring;
use super::stream::{BLOCKS, PIECE, StreamKey, StreamSum};

/// Elements of one unit: whole pieces of a stream in every ring, and in a core's first cache.
const UNIT: usize = 4 * PIECE;
/// Bytes of a block of a stream.
const BLOCK_BYTES: usize = 64;

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
        self.apply(ring, vector, u32::wrapping_add);
    }

    /// Takes every mask off the vector.
    pub fn take_from(&self, ring: Ring, vector: &mut [u32]) {
        self.apply(ring, vector, u32::wrapping_sub);
    }

    /// A vector in its bytes with every mask on it, and the SHA-256 of that.
    ///
    /// The same as [`Self::add_to`] between the vector's elements and its bytes, without a pass over memory for each.
    pub fn masked(&self, ring: Ring, vector: &[u8]) -> Hashed {
        let (streams, unit) = (self.streams(), UNIT * ring.width());
        hashed(vector.len(), |from, bytes| {
            let plain = &vector[from..from + bytes.len()];
            let pairs = bytes.par_chunks_mut(unit).zip(plain.par_chunks(unit));
            pairs.enumerate().for_each_init(
                || UnitMask::new(&streams, ring),
                |mask, (index, (masked, plain))| {
                    let words = mask.at(from / unit + index, masked.len().div_ceil(ring.width()));
                    put_on(ring, (masked, plain), words);
                },
            );
        })
    }

    fn apply(&self, ring: Ring, vector: &mut [u32], combine: fn(u32, u32) -> u32) {
        if self.is_empty() {
            return;
        }
        let streams = self.streams();
        vector.par_chunks_mut(UNIT).enumerate().for_each_init(
            || UnitMask::new(&streams, ring),
            |mask, (unit, elements)| {
                let words = mask.at(unit, elements.len());
                for (element, word) in elements.iter_mut().zip(words) {
                    *element = combine(*element, *word) & ring.mask();
                }
            },
        );
    }

    fn streams(&self) -> Vec<(StreamKey, Sign)> {
        let stream = |(key, sign): &(MaskKey, Sign)| (StreamKey::new(&key.0), *sign);
        self.0.iter().map(stream).collect()
    }
}

/// The sum of all masks over one unit of a vector.
struct UnitMask<'a> {
    arch: Arch,
    streams: &'a [(StreamKey, Sign)],
    ring: Ring,
    sum: StreamSum,
    words: Zeroizing<[u32; UNIT]>,
}

impl<'a> UnitMask<'a> {
    fn new(streams: &'a [(StreamKey, Sign)], ring: Ring) -> Self {
        Self {
            arch: Arch::new(),
            streams,
            ring,
            sum: StreamSum::new(),
            words: Zeroizing::new([0; UNIT]),
        }
    }

    /// What belongs on the first elements of this unit.
    fn at(&mut self, unit: usize, elements: usize) -> &[u32] {
        let width = self.ring.width();
        // At most 2^38 bytes are in a stream, and no update comes near.
        let first = (unit * UNIT * width / BLOCK_BYTES) as u32;
        let pieces = (elements * width).div_ceil(4 * PIECE);
        match self.ring {
            Ring::Bits32 => self.add_up(first, pieces),
            Ring::Bits16 | Ring::Bits24 => self.add_up_narrow(first, pieces),
        }
        &self.words[..elements]
    }

    /// Words of the streams are elements: streams are added up as they are made.
    fn add_up(&mut self, first: u32, pieces: usize) {
        let Self {
            arch,
            streams,
            sum,
            words,
            ..
        } = self;
        let words = words.as_chunks_mut::<PIECE>().0.iter_mut().take(pieces);
        for (words, block) in words.zip((first..).step_by(BLOCKS)) {
            sum.clear();
            for (key, sign) in *streams {
                match sign {
                    Sign::Plus => sum.add(*arch, key, block),
                    Sign::Minus => sum.subtract(*arch, key, block),
                }
            }
            sum.read(words);
        }
    }

    /// Elements are cut out of each stream.
    fn add_up_narrow(&mut self, first: u32, pieces: usize) {
        let Self {
            arch,
            streams,
            ring,
            sum,
            words,
        } = self;
        words.fill(0);
        let mut piece = Zeroizing::new([0; PIECE]);
        let mut bytes = Zeroizing::new([0_u8; 3 * UNIT]);
        for (key, sign) in *streams {
            let stream = bytes.as_chunks_mut::<{ 4 * PIECE }>().0.iter_mut();
            for (bytes, block) in stream.take(pieces).zip((first..).step_by(BLOCKS)) {
                sum.clear();
                sum.add(*arch, key, block);
                sum.read(&mut piece);
                for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(piece.iter()) {
                    *bytes = word.to_le_bytes();
                }
            }
            let stream = bytes.chunks_exact(ring.width());
            for (word, bytes) in words.iter_mut().zip(stream) {
                *word = match sign {
                    Sign::Plus => word.wrapping_add(ring.read(bytes)),
                    Sign::Minus => word.wrapping_sub(ring.read(bytes)),
                };
            }
        }
    }
}

/// Writes the sum of plain elements and their masks.
fn put_on(ring: Ring, (masked, plain): (&mut [u8], &[u8]), words: &[u32]) {
    if ring == Ring::Bits32 {
        let pairs = masked.as_chunks_mut().0.iter_mut().zip(plain.as_chunks().0);
        for ((masked, plain), word) in pairs.zip(words) {
            *masked = u32::from_le_bytes(*plain).wrapping_add(*word).to_le_bytes();
        }
        return;
    }
    let width = ring.width();
    let pairs = masked
        .chunks_exact_mut(width)
        .zip(plain.chunks_exact(width));
    for ((masked, plain), word) in pairs.zip(words) {
        let element = ring.read(plain).wrapping_add(*word);
        masked.copy_from_slice(&element.to_le_bytes()[..width]);
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::super::hashed::STRETCH;
    use super::*;

    fn masks() -> MaskSet {
        let mut masks = MaskSet::new();
        for (number, sign) in [(1, Sign::Plus), (2, Sign::Minus), (3, Sign::Plus)] {
            masks.push(MaskKey::new(Zeroizing::new([number; 32])), sign);
        }
        masks
    }

    /// The definition: each stream's bytes from the first on, cut into elements.
    fn slowly(ring: Ring, vector: &[u32]) -> Vec<u32> {
        use chacha20::ChaCha20;
        use chacha20::cipher::{KeyIvInit, StreamCipher};
        let mut masked = vector.to_vec();
        for (key, sign) in &masks().0 {
            let key: &[u8; 32] = &key.0;
            let mut stream = vec![0; vector.len() * ring.width()];
            ChaCha20::new(key.into(), &[0; 12].into()).write_keystream(&mut stream);
            for (element, word) in masked.iter_mut().zip(stream.chunks_exact(ring.width())) {
                let word = ring.read(word);
                *element = ring.mask()
                    & match sign {
                        Sign::Plus => element.wrapping_add(word),
                        Sign::Minus => element.wrapping_sub(word),
                    };
            }
        }
        masked
    }

    #[test]
    fn vectors_of_any_length_are_masked_as_defined_in_memory_and_in_bytes() {
        for ring in [Ring::Bits16, Ring::Bits24, Ring::Bits32] {
            let stretch = STRETCH / ring.width();
            for length in [
                1,
                255,
                257,
                UNIT - 1,
                UNIT,
                3 * UNIT + 300,
                stretch,
                stretch + 77,
            ] {
                let plain: Vec<u32> = (0..length as u32)
                    .map(|place| place.wrapping_mul(0x9e37_79b9) & ring.mask())
                    .collect();
                let expected = slowly(ring, &plain);
                let mut masked = plain.clone();
                masks().add_to(ring, &mut masked);
                assert!(masked == expected, "{ring:?} {length}");
                masks().take_from(ring, &mut masked);
                assert!(masked == plain, "{ring:?} {length}");
                let bytes = |elements: &[u32]| -> Vec<u8> {
                    let word = |element: &u32| element.to_le_bytes().into_iter().take(ring.width());
                    elements.iter().flat_map(word).collect()
                };
                let made = masks().masked(ring, &bytes(&plain));
                assert!(made.bytes == bytes(&expected), "{ring:?} {length}");
                assert_eq!(made.sha256, <[u8; 32]>::from(Sha256::digest(&made.bytes)));
            }
        }
    }
}
