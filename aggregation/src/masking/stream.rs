//! ChaCha20 key streams, sixteen blocks at a time, added up as they are made (RFC 8439, sections 2.3 and 2.4).
//!
//! Masks are the cost of secure aggregation: a participant among eight makes eight streams as long as its update. Blocks lie across
//! the lanes of the processor's vectors, one block a lane, so a round of the cipher is a round of sixteen; and streams are added to
//! each other in that order and brought into the order of bytes once for all of them. Nothing here branches on a key or looks
//! anything up by one.

use pulp::{Arch, Simd, WithSimd};
use zeroize::{Zeroize as _, Zeroizing};

/// Words of a block.
const WORDS: usize = 16;
/// Blocks made at a time.
pub(super) const BLOCKS: usize = 16;
/// Words of so many blocks.
pub(super) const PIECE: usize = WORDS * BLOCKS;

/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// A key in words. Wiped when dropped.
pub(super) struct StreamKey(Zeroizing<[u32; 8]>);

impl StreamKey {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let mut words = Zeroizing::new([0; 8]);
        for (word, bytes) in words.iter_mut().zip(key.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Self(words)
    }
}

/// One word of sixteen blocks.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Row([u32; BLOCKS]);

/// A sum of sixteen blocks of each of several streams. Wiped when dropped.
pub(super) struct StreamSum([Row; WORDS]);

impl StreamSum {
    /// Of no stream.
    pub(super) fn new() -> Self {
        Self([Row([0; BLOCKS]); WORDS])
    }

    /// Forgets all streams.
    pub(super) fn clear(&mut self) {
        self.0 = [Row([0; BLOCKS]); WORDS];
    }

    /// Adds the blocks of this key from block `first` on; the nonce is zero.
    pub(super) fn add(&mut self, arch: Arch, key: &StreamKey, first: u32) {
        self.fold::<true>(arch, key, first);
    }

    /// Subtracts them.
    pub(super) fn subtract(&mut self, arch: Arch, key: &StreamKey, first: u32) {
        self.fold::<false>(arch, key, first);
    }

    fn fold<const ADDS: bool>(&mut self, arch: Arch, key: &StreamKey, first: u32) {
        let (rows, key) = (&mut self.0, &key.0);
        arch.dispatch(Fold::<ADDS> { rows, key, first });
    }

    /// The words in the order of the streams.
    pub(super) fn read(&self, words: &mut [u32; PIECE]) {
        for (block, words) in words.as_chunks_mut::<WORDS>().0.iter_mut().enumerate() {
            for (word, row) in words.iter_mut().zip(&self.0) {
                *word = row.0[block];
            }
        }
    }
}

impl Drop for StreamSum {
    fn drop(&mut self) {
        for row in &mut self.0 {
            row.0.zeroize();
        }
    }
}

struct Fold<'a, const ADDS: bool> {
    rows: &'a mut [Row; WORDS],
    key: &'a [u32; 8],
    first: u32,
}

impl<const ADDS: bool> WithSimd for Fold<'_, ADDS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, key, first } = self;
        let counters: [u32; BLOCKS] = std::array::from_fn(|lane| first.wrapping_add(lane as u32));
        let counters = S::as_simd_u32s(&counters).0;
        for (group, &counter) in counters.iter().enumerate() {
            let mut input = [simd.splat_u32s(0); WORDS];
            for (input, &word) in input.iter_mut().zip(CONSTANTS.iter().chain(key)) {
                *input = simd.splat_u32s(word);
            }
            input[12] = counter;
            let output = twenty_rounds(simd, input);
            for ((row, output), input) in rows.iter_mut().zip(output).zip(input) {
                let sum = &mut S::as_mut_simd_u32s(&mut row.0).0[group];
                let word = simd.add_u32s(output, input);
                *sum = if ADDS {
                    simd.add_u32s(*sum, word)
                } else {
                    simd.sub_u32s(*sum, word)
                };
            }
        }
    }
}

#[inline(always)]
fn twenty_rounds<S: Simd>(simd: S, mut state: [S::u32s; WORDS]) -> [S::u32s; WORDS] {
    for _ in 0..10 {
        quarter_round(simd, &mut state, [0, 4, 8, 12]);
        quarter_round(simd, &mut state, [1, 5, 9, 13]);
        quarter_round(simd, &mut state, [2, 6, 10, 14]);
        quarter_round(simd, &mut state, [3, 7, 11, 15]);
        quarter_round(simd, &mut state, [0, 5, 10, 15]);
        quarter_round(simd, &mut state, [1, 6, 11, 12]);
        quarter_round(simd, &mut state, [2, 7, 8, 13]);
        quarter_round(simd, &mut state, [3, 4, 9, 14]);
    }
    state
}

#[inline(always)]
fn quarter_round<S: Simd>(simd: S, state: &mut [S::u32s; WORDS], [a, b, c, d]: [usize; 4]) {
    state[a] = simd.add_u32s(state[a], state[b]);
    state[d] = turned(simd, simd.xor_u32s(state[d], state[a]), 16);
    state[c] = simd.add_u32s(state[c], state[d]);
    state[b] = turned(simd, simd.xor_u32s(state[b], state[c]), 12);
    state[a] = simd.add_u32s(state[a], state[b]);
    state[d] = turned(simd, simd.xor_u32s(state[d], state[a]), 8);
    state[c] = simd.add_u32s(state[c], state[d]);
    state[b] = turned(simd, simd.xor_u32s(state[b], state[c]), 7);
}

/// Turned to the left; one instruction where there is one.
#[inline(always)]
fn turned<S: Simd>(simd: S, words: S::u32s, by: u32) -> S::u32s {
    let left = simd.wrapping_dyn_shl_u32s(words, simd.splat_u32s(by));
    let right = simd.wrapping_dyn_shr_u32s(words, simd.splat_u32s(32 - by));
    simd.or_u32s(left, right)
}

#[cfg(test)]
mod tests {
    use chacha20::ChaCha20;
    use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};

    use super::*;

    fn words(sum: &StreamSum) -> [u32; PIECE] {
        let mut words = [0; PIECE];
        sum.read(&mut words);
        words
    }

    /// What the crate that others use makes of it.
    fn reference(key: &[u8; 32], first: u32) -> [u32; PIECE] {
        let mut cipher = ChaCha20::new(key.into(), &[0; 12].into());
        cipher.seek(u64::from(first) * 64);
        let mut bytes = [0; 4 * PIECE];
        cipher.write_keystream(&mut bytes);
        std::array::from_fn(|word| u32::from_le_bytes(bytes.as_chunks().0[word]))
    }

    #[test]
    fn streams_are_those_of_another_implementation_at_any_block_and_on_any_processor() {
        let key = std::array::from_fn(|byte| (byte * 37 + 5) as u8);
        for first in [0, 1, 16, 1000, 0x3fff_fff0, 0x7fff_fff7] {
            let expected = reference(&key, first);
            let mut sum = StreamSum::new();
            sum.add(Arch::new(), &StreamKey::new(&key), first);
            assert!(words(&sum) == expected, "from block {first}");
            sum.clear();
            sum.add(Arch::Scalar, &StreamKey::new(&key), first);
            assert!(
                words(&sum) == expected,
                "from block {first}, without vectors"
            );
        }
    }

    #[test]
    fn streams_add_up_and_cancel() {
        let keys = [[1; 32], [2; 32], [3; 32]].map(|key| (key, StreamKey::new(&key)));
        let mut sum = StreamSum::new();
        sum.add(Arch::new(), &keys[0].1, 7);
        sum.add(Arch::new(), &keys[1].1, 7);
        sum.subtract(Arch::new(), &keys[2].1, 7);
        let [a, b, c] = keys.each_ref().map(|(key, _)| reference(key, 7));
        let expected: [u32; PIECE] =
            std::array::from_fn(|at| a[at].wrapping_add(b[at]).wrapping_sub(c[at]));
        assert!(words(&sum) == expected);
        sum.add(Arch::new(), &keys[2].1, 7);
        sum.subtract(Arch::new(), &keys[0].1, 7);
        sum.subtract(Arch::new(), &keys[1].1, 7);
        assert!(words(&sum) == [0; PIECE]);
    }
}
