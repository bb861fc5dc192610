//! Gaussian noise from a key, by ChaCha20. Where the key comes from, and how long it is kept, is the caller's affair.

use std::fmt;

use chacha20::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

/// Values that share a ChaCha20 stream: the pieces of parallel work.
const VALUES_PER_STREAM: usize = 1 << 14;

/// The stream of single numbers; pieces of values never come so far.
const STREAM_OF_NUMBERS: u64 = u64::MAX;

/// The key of one release's noise: whoever has it can take the noise off. Wiped when dropped, and never shown.
#[derive(Clone)]
pub struct NoiseKey(Zeroizing<[u8; 32]>);

impl NoiseKey {
    /// Takes 32 bytes that nobody else can know.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Takes the bytes, and leaves zeros in their place.
    pub fn take(bytes: &mut [u8; 32]) -> Self {
        let key = Self::new(*bytes);
        bytes.zeroize();
        key
    }

    /// Makes the key of what is noised, so that one key never gives the same noise to two different things.
    #[must_use]
    pub fn of(&self, release: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(CONTEXT);
        hash.update(*self.0);
        hash.update(release);
        Self::new(hash.finalize().into())
    }

    /// Adds independent Gaussian noise to every value.
    ///
    /// The same key gives the same noise whatever the number of threads.
    pub fn add_to(&self, values: &mut [f32], standard_deviation: f64) {
        if standard_deviation == 0.0 {
            return;
        }
        let pieces = values.par_chunks_mut(VALUES_PER_STREAM).enumerate();
        pieces.for_each(|(stream, piece)| {
            let mut random = self.stream(stream as u64);
            for value in piece {
                *value = (f64::from(*value) + standard_deviation * gaussian(&mut random)) as f32;
            }
        });
    }

    /// Draws one more number from the standard normal distribution, always the same.
    pub fn number(&self) -> f64 {
        gaussian(&mut self.stream(STREAM_OF_NUMBERS))
    }

    fn stream(&self, stream: u64) -> ChaCha20Rng {
        let mut random = ChaCha20Rng::from_seed(*self.0);
        random.set_stream(stream);
        random
    }
}

impl fmt::Debug for NoiseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoiseKey")
    }
}

/// Draws from the standard normal distribution.
///
/// Half the sum of four draws: the floating-point numbers that one Box-Muller draw can give are sparse enough to tell what was
/// added to (Mironov 2012); of four summed draws, too many are possible (Holohan and Braghin 2021, arXiv 2107.10138).
fn gaussian(random: &mut ChaCha20Rng) -> f64 {
    let [first, second] = [box_muller(random), box_muller(random)];
    0.5 * (first[0] + first[1] + second[0] + second[1])
}

/// Two independent standard normal draws (Box and Muller 1958).
fn box_muller(random: &mut ChaCha20Rng) -> [f64; 2] {
    // 53 bits above zero, so that the logarithm is finite.
    let radius = ((random.next_u64() >> 11) + 1) as f64 * 2.0_f64.powi(-53);
    let angle = (random.next_u64() >> 11) as f64 * 2.0_f64.powi(-53) * std::f64::consts::TAU;
    let radius = (-2.0 * radius.ln()).sqrt();
    let (sine, cosine) = angle.sin_cos();
    [radius * cosine, radius * sine]
}

const CONTEXT: &[u8] = b"foedus/noise/1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_of_two_releases_differs_and_that_of_one_is_always_the_same() {
        let drawn = |key: &NoiseKey| {
            let mut values = vec![0.0; 40_000];
            key.add_to(&mut values, 1.0);
            (values, key.number())
        };
        let key = NoiseKey::new([7; 32]);
        assert!(drawn(&key.of(b"one")) == drawn(&key.of(b"one")));
        let ((one, first), (other, second)) = (drawn(&key.of(b"one")), drawn(&key.of(b"other")));
        // Independent: their product's sum is normal with the square root of their number.
        let product: f64 = one
            .iter()
            .zip(&other)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum();
        assert!(product.abs() < 4.5 * 200.0, "{product}");
        assert_ne!(first, second);
        assert_eq!(format!("{key:?}"), "NoiseKey");
    }
}
