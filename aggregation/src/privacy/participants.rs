//! The release of a round's mean under privacy of whole participants: DP-FedAvg with fixed or adaptive clipping.
//!
//! McMahan et al. 2018 (arXiv 1710.06963): the sum of updates of norm at most `C`, divided by the constant `m` and not by how many there
//! were, has sensitivity `C / m`; noise of `z C / m` makes its release a Gaussian mechanism of multiplier `z` without sampling. Andrew
//! et al. 2021 (arXiv 1905.03871): how many updates were *within* `C` is counted with noise `sigma_b`, and `C` moves so that the share
//! of those approaches a quantile. Counting those that were *cut* instead makes `C` collapse. Count and sum together cost `z` if the
//! sum gets `z_delta = (z^-2 - (2 sigma_b)^-2)^-1/2`: that holds for a count which one participant moves by a half, so each update counts
//! a half if it is within `C` and minus a half if it is not. As one or nothing it would move the count by one, and cost four times that.

use super::NoiseKey;

/// Gives the noise multiplier of the sum beside a count that is noised too, so that both cost what `noise_multiplier` says.
///
/// `None` if the count alone costs as much already: it needs more than half of `noise_multiplier`.
pub fn noise_beside_count(noise_multiplier: f64, count_noise: f64) -> Option<f64> {
    let left = noise_multiplier.powi(-2) - (2.0 * count_noise).powi(-2);
    (left > 0.0 && left.is_finite()).then(|| left.powf(-0.5))
}

/// How a clipping norm follows the updates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveClip {
    /// The share of updates that is to be within the norm.
    pub quantile: f64,
    /// How fast the norm moves.
    pub learning_rate: f64,
    /// Standard deviation of the noise on the count.
    pub count_noise: f64,
    /// The norm never gets above this.
    pub norm_max: f64,
}

impl AdaptiveClip {
    /// Gives the norm of the next round: `C exp(-eta (share - quantile))`, where the share of updates within the norm is
    /// `(within - count / 2 + N(0, sigma_b^2)) / expected + 1/2`.
    ///
    /// `within` counts the updates that needed no clipping, of `count`.
    pub fn next(
        &self,
        norm: f64,
        (within, count): (u32, u32),
        expected: u32,
        noise: &NoiseKey,
    ) -> f64 {
        let counted = centred(within, count) + self.count_noise * noise.number();
        let share = counted / f64::from(expected) + 0.5;
        let next = norm * (-self.learning_rate * (share - self.quantile)).exp();
        next.clamp(NORM_LEAST, self.norm_max)
    }
}

/// A half for each of `count` updates that is within the norm, minus a half for each other: one participant moves it by a half.
fn centred(within: u32, count: u32) -> f64 {
    f64::from(within) - 0.5 * f64::from(count)
}

/// Turns the mean of `count` updates into their sum over `expected`, with noise.
///
/// # Units
/// `deviation` is that of the noise on the *sum*: noise multiplier times clipping norm.
pub fn release(mean: &mut [f32], (count, expected): (f64, u32), deviation: f64, noise: &NoiseKey) {
    let expected = f64::from(expected);
    let share = count / expected;
    for value in mean.iter_mut() {
        *value = (f64::from(*value) * share) as f32;
    }
    noise.add_to(mean, deviation / expected);
}

/// A norm that is not lost among f32 values.
const NORM_LEAST: f64 = 1e-12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_beside_a_count_is_the_published_number_and_needs_enough_noise_on_the_count() {
        let found = noise_beside_count(1.0, 5.0).unwrap();
        assert!((found - 1.005_037_8).abs() < 1e-7, "{found}");
        assert_eq!(noise_beside_count(1.0, 0.5), None);
        assert_eq!(noise_beside_count(1.0, 0.4), None);
        // Together they cost what one release with z costs.
        let (z, of_sum, of_count) = (2.0, noise_beside_count(2.0, 3.0).unwrap(), 3.0 * 2.0);
        let together = f64::powi(of_sum, -2) + f64::powi(of_count, -2);
        assert!((together - f64::powi(z, -2)).abs() < 1e-12);
    }

    const CLIP: AdaptiveClip = AdaptiveClip {
        quantile: 0.5,
        learning_rate: 0.2,
        count_noise: 5.0,
        norm_max: 100.0,
    };

    /// A hundred participants whose updates have norms 0.01 to 1.00: the median is 0.5.
    fn after(rounds: u32, first: f64, counted: impl Fn(f64, f64) -> bool) -> f64 {
        (0..rounds).fold(first, |norm, round| {
            let norms = (1..=100).map(|number| f64::from(number) / 100.0);
            let count = norms.filter(|&update| counted(update, norm)).count();
            let noise = NoiseKey::new([3; 32]).of(&round.to_le_bytes());
            CLIP.next(norm, (u32::try_from(count).unwrap(), 100), 100, &noise)
        })
    }

    #[test]
    fn norm_comes_to_the_median_of_the_updates_from_both_sides() {
        for first in [1e-3, 0.1, 0.5, 5.0, 100.0] {
            let found = after(200, first, |update, norm| update <= norm);
            assert!((found - 0.5).abs() < 0.1, "from {first} to {found}");
        }
    }

    #[test]
    fn counting_the_clipped_instead_of_those_within_makes_the_norm_collapse() {
        let found = after(200, 0.1, |update, norm| update > norm);
        assert!(found < 1e-6, "{found}");
    }

    #[test]
    fn participant_more_moves_the_noised_share_by_at_most_a_half_over_the_expected() {
        let noise = NoiseKey::new([3; 32]);
        // The share, noise included, that the norm of the next round tells.
        let share = |within, count| {
            let next = CLIP.next(1.0, (within, count), 100, &noise);
            CLIP.quantile - next.ln() / CLIP.learning_rate
        };
        for (within, count) in [(0, 0), (0, 99), (40, 70), (99, 99)] {
            let before: f64 = share(within, count);
            for after in [share(within, count + 1), share(within + 1, count + 1)] {
                let moved = 100.0 * (after - before).abs();
                assert!((moved - 0.5).abs() < 1e-9, "{within} of {count}: {moved}");
            }
        }
        // Of a full cohort the share is what it is called.
        let silent = AdaptiveClip {
            count_noise: 0.0,
            ..CLIP
        };
        assert_eq!(silent.next(1.0, (50, 100), 100, &noise), 1.0);
        assert!(silent.next(1.0, (51, 100), 100, &noise) < 1.0);
    }

    #[test]
    fn sum_is_divided_by_what_was_expected_and_not_by_how_many_came() {
        let mut mean = vec![0.5_f32, -1.0];
        release(&mut mean, (3.0, 4), 0.0, &NoiseKey::new([1; 32]));
        assert_eq!(mean, [0.375, -0.75]);
    }

    #[test]
    fn noise_on_the_released_mean_has_the_promised_variance() {
        let count = 200_000;
        let mut mean = vec![0.0_f32; count];
        // z = 1.5, C = 2, m = 4: a standard deviation of 0.75.
        release(&mut mean, (4.0, 4), 1.5 * 2.0, &NoiseKey::new([9; 32]));
        let n = count as f64;
        // Chi-square of n degrees: mean n, standard deviation sqrt(2 n). Four of them.
        let chi_square: f64 = mean.iter().map(|&v| (f64::from(v) / 0.75).powi(2)).sum();
        assert!(
            (chi_square - n).abs() < 4.0 * (2.0 * n).sqrt(),
            "{chi_square}"
        );
    }
}
