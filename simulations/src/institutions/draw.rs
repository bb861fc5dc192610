//! Seeded drawing for the text generator: one ChaCha8 stream per institution.
//!
//! It is not a source of secrets. A number below `n` is taken by multiplication from 64 bits, so that
//! the text does not change with the sampling code of a library.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// A stream of choices.
pub struct Draw {
    stream: ChaCha8Rng,
}

impl Draw {
    /// The stream of one institution under one seed.
    #[must_use]
    pub fn new(seed: u64, name: &str) -> Self {
        let mut key = Sha256::new();
        key.update(b"foedus/simulation/text/1");
        key.update(seed.to_le_bytes());
        key.update(name.as_bytes());
        Self {
            stream: ChaCha8Rng::from_seed(key.finalize().into()),
        }
    }

    /// A number from 0 to `bound - 1`.
    pub fn below(&mut self, bound: usize) -> usize {
        let product = u128::from(self.stream.next_u64()) * bound as u128;
        (product >> 64) as usize
    }

    /// One of the given.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// One of several phrasings.
    pub fn one<const N: usize>(&mut self, choices: [String; N]) -> String {
        let chosen = self.below(N);
        choices.into_iter().nth(chosen).unwrap_or_default()
    }

    /// A whole number from `low` to `high`, both included.
    pub fn whole(&mut self, low: u32, high: u32) -> u32 {
        low + self.below((high - low) as usize + 1) as u32
    }

    /// A multiple of `step` from `low` to `high`.
    pub fn stepped(&mut self, low: u32, high: u32, step: u32) -> u32 {
        low + step * self.below(((high - low) / step) as usize + 1) as u32
    }
}

/// Tenths as a decimal number: 53 is "5.3".
#[must_use]
pub fn tenths(value: u32) -> String {
    format!("{}.{}", value / 10, value % 10)
}

/// Hundredths as a decimal number: 125 is "1.25".
#[must_use]
pub fn hundredths(value: u32) -> String {
    format!("{}.{:02}", value / 100, value % 100)
}
