//! Where the noise comes from: the operating system's randomness, stretched by ChaCha20.
//!
//! Whoever could repeat the noise could take it off again, so it never follows from a run's seed, is never kept, logged or
//! printed, and a process that starts again begins with fresh randomness. Every step's noise has a key of its own.

use std::fmt;

use aggregation::privacy::NoiseKey;
use chacha20::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use rand::{TryRng as _, rngs::SysRng};
use zeroize::Zeroizing;

/// A cryptographic generator that nobody else can repeat. Wiped when dropped.
pub struct NoiseSource(ChaCha20Rng);

/// The operating system gives no randomness, so nothing private can be trained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no randomness for the privacy noise: {reason}")]
pub struct NoRandomness {
    reason: String,
}

impl NoiseSource {
    /// Takes a key from the operating system.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn from_system() -> Result<Self, NoRandomness> {
        let mut key = Zeroizing::new([0; 32]);
        let filled = SysRng.try_fill_bytes(key.as_mut());
        filled.map_err(|error| NoRandomness {
            reason: error.to_string(),
        })?;
        Ok(Self::from_key(*key))
    }

    /// Makes the source of a known key, for tests: what is trained with it is not private.
    pub fn from_key(key: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(key))
    }

    /// Draws whether something of this probability happens.
    pub(super) fn happens(&mut self, probability: f64) -> bool {
        // A draw of 64 bits below the probability in units of 2^-64; probability 1 is 2^64 of them, above every draw.
        let threshold = (probability * 2.0_f64.powi(64)) as u128;
        u128::from(self.0.next_u64()) < threshold
    }

    /// Draws a number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // By multiplication; the bias is below `bound / 2^64`.
        ((u128::from(self.0.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Draws the seed of one example's dropout masks.
    pub(crate) fn mask_seed(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Adds independent Gaussian noise to every value.
    ///
    /// The same key gives the same noise whatever the number of threads.
    pub fn add_gaussian(&mut self, values: &mut [f32], standard_deviation: f64) {
        if standard_deviation == 0.0 {
            return;
        }
        let mut key = [0; 32];
        self.0.fill_bytes(&mut key);
        NoiseKey::take(&mut key).add_to(values, standard_deviation);
    }
}

impl fmt::Debug for NoiseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoiseSource(..)")
    }
}

#[cfg(test)]
mod tests {
    use zeroize::ZeroizeOnDrop;

    use super::*;

    /// Fails to compile without the feature `zeroize` of the generator.
    #[test]
    fn the_generator_is_wiped_when_it_is_dropped_and_never_shown() {
        fn is_wiped<T: ZeroizeOnDrop>(_: &T) {}
        let source = NoiseSource::from_key([0x41; 32]);
        is_wiped(&source.0);
        assert_eq!(format!("{source:?}"), "NoiseSource(..)");
    }

    /// More than share a stream of the generator.
    const FAR: usize = 1 << 14;

    fn source() -> NoiseSource {
        NoiseSource::from_key([7; 32])
    }

    fn drawn(count: usize, standard_deviation: f64) -> Vec<f32> {
        let mut values = vec![0.0; count];
        source().add_gaussian(&mut values, standard_deviation);
        values
    }

    #[test]
    fn noise_has_the_variance_it_is_asked_for_and_the_normal_shape() {
        let count = 200_000;
        let values = drawn(count, 3.0);
        let n = count as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        // The sum of squares over sigma^2 is chi-square of n degrees: mean n, standard deviation sqrt(2 n). Four of them.
        let chi_square: f64 = values.iter().map(|&v| (f64::from(v) / 3.0).powi(2)).sum();
        assert!(
            (chi_square - n).abs() < 4.0 * (2.0 * n).sqrt(),
            "{chi_square}"
        );
        assert!(mean.abs() < 4.0 * 3.0 / n.sqrt(), "{mean}");
        // Pearson's test over sixteen cells of equal probability: 15 degrees, 0.9999 quantile 44.3.
        let edges = [
            -1.534_121, -1.150_349, -0.887_147, -0.674_490, -0.488_776, -0.318_639, -0.157_311,
            0.0, 0.157_311, 0.318_639, 0.488_776, 0.674_490, 0.887_147, 1.150_349, 1.534_121,
        ];
        let mut cells = [0_u32; 16];
        for value in &values {
            cells[edges
                .iter()
                .filter(|&&edge| f64::from(*value) / 3.0 > edge)
                .count()] += 1;
        }
        let expected = n / 16.0;
        let pearson: f64 = cells
            .iter()
            .map(|&c| (f64::from(c) - expected).powi(2) / expected)
            .sum();
        assert!(pearson < 44.3, "{pearson} {cells:?}");
    }

    #[test]
    fn neighbouring_values_and_steps_are_independent() {
        let values = drawn(100_000, 1.0);
        let product = |lag: usize| -> f64 {
            let pairs = values.iter().zip(&values[lag..]);
            pairs
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum::<f64>()
                / (values.len() as f64).sqrt()
        };
        for lag in [1, 2, FAR] {
            assert!(product(lag).abs() < 4.5, "{lag}: {}", product(lag));
        }
        let mut source = source();
        let (mut first, mut second) = (vec![0.0; 4], vec![0.0; 4]);
        source.add_gaussian(&mut first, 1.0);
        source.add_gaussian(&mut second, 1.0);
        assert_ne!(first, second);
    }

    #[test]
    fn noise_does_not_depend_on_the_number_of_threads() {
        let alone = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        assert!(alone.install(|| drawn(50_000, 1.0)) == drawn(50_000, 1.0));
    }

    #[test]
    fn two_sources_of_the_system_differ_and_show_nothing_of_themselves() {
        let mut sources = [
            NoiseSource::from_system().unwrap(),
            NoiseSource::from_system().unwrap(),
        ];
        let drawn = sources.each_mut().map(|source| source.0.next_u64());
        assert_ne!(drawn[0], drawn[1]);
        assert_eq!(format!("{:?}", sources[0]), "NoiseSource(..)");
    }

    #[test]
    fn certain_and_impossible_events_are_that() {
        let mut source = source();
        assert!((0..1000).all(|_| source.happens(1.0)));
        assert!(!(0..1000).any(|_| source.happens(0.0)));
        assert!((0..1000).all(|_| source.below(3) < 3));
    }
}
