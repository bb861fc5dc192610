//! The Gaussian mechanism without sampling, exactly: what the accountant is checked against.
//!
//! Balle and Wang 2018 (arXiv 1805.06530), theorem 8: `delta = Phi(1/2s - e s) - e^epsilon Phi(-1/2s - e s)` for noise `s` times
//! the sensitivity. `T` releases are one with noise `s / sqrt(T)`. Rényi accounting must never promise less epsilon than this.

use super::special::normal_cdf;

/// Gives the exact delta of one release with this noise multiplier at this epsilon.
pub fn gaussian_delta(noise_multiplier: f64, epsilon: f64) -> f64 {
    let half = 0.5 / noise_multiplier;
    let shift = epsilon * noise_multiplier;
    let fails = normal_cdf(half - shift) - epsilon.exp() * normal_cdf(-half - shift);
    fails.clamp(0.0, 1.0)
}

/// Gives the exact epsilon of one release with this noise multiplier at this delta.
pub fn gaussian_epsilon(noise_multiplier: f64, delta: f64) -> f64 {
    smallest(|epsilon| gaussian_delta(noise_multiplier, epsilon) <= delta)
}

/// Gives the smallest noise multiplier of one release that is `(epsilon, delta)`-private.
pub fn gaussian_noise(epsilon: f64, delta: f64) -> f64 {
    smallest(|noise| noise > 0.0 && gaussian_delta(noise, epsilon) <= delta)
}

/// Gives the smallest number from 0 on that holds, for a condition that holds for all larger ones.
fn smallest(holds: impl Fn(f64) -> bool) -> f64 {
    if holds(0.0) {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    while !holds(high) && high < 1e9 {
        low = high;
        high *= 2.0;
    }
    while high - low > 1e-13 * high {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}
