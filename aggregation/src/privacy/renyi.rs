//! The Rényi divergence of one step of the subsampled Gaussian mechanism.
//!
//! Mironov, Talwar and Zhang 2019 (arXiv 1908.10530), sections 3.3 and 3.4: `RDP(alpha) = ln A(alpha) / (alpha - 1)`, where `A` is a
//! finite sum for whole orders and an alternating series for fractional ones. Both are exact, not bounds. The series is summed
//! with its signs; summing absolute values, as some accountants do, charges more than is spent.

use super::{
    SampledGaussian,
    special::{ln_binomial, ln_erfc, ln_expm1},
};

/// Most terms of the series of a fractional order. It falls as `i^-(alpha + 2)` at worst, so this is never near.
const TERMS_MAX: u32 = 100_000;

/// Terms below this share of the largest one, as its logarithm, end the series: what is left out is then added as a bound.
const LN_NEGLIGIBLE: f64 = -32.0;

/// Gives the divergence of one step in nats.
///
/// # Panics
/// If `order` is not above 1: orders are our own constants.
pub fn divergence(step: SampledGaussian, order: f64) -> f64 {
    assert!(order > 1.0, "Rényi orders of an accountant are above 1");
    let sigma = step.noise_multiplier();
    if step.sampling_rate() == 1.0 {
        return order / (2.0 * sigma * sigma);
    }
    let ln_a = if order.fract() == 0.0 {
        ln_a_of_whole_order(step, order)
    } else {
        ln_a_of_fractional_order(step, order)
    };
    if ln_a.is_nan() {
        // `max` would make nothing of it: an order that cannot be computed promises nothing instead.
        return f64::INFINITY;
    }
    // Rounding may leave a divergence of nearly nothing below zero, where none is.
    ln_a.max(0.0) / (order - 1.0)
}

/// `A = sum_i binomial(alpha, i) (1-q)^(alpha-i) q^i e^((i^2-i) / 2 sigma^2)`.
///
/// The weights sum to one and the exponentials of i = 0 and 1 are one, so `A - 1` is summed instead, all of its terms positive:
/// nothing is lost where `A` is next to one, as it is for small sampling rates.
fn ln_a_of_whole_order(step: SampledGaussian, alpha: f64) -> f64 {
    let (q, sigma) = (step.sampling_rate(), step.noise_multiplier());
    let (ln_in, ln_out) = (q.ln(), (-q).ln_1p());
    // The binomial of i = 1; each next one follows from the last.
    let mut ln_binomial = alpha.ln();
    let terms: Vec<f64> = (2..=alpha as u32)
        .map(|i| {
            let i = f64::from(i);
            ln_binomial += ((alpha - i + 1.0) / i).ln();
            let weight = ln_binomial + i * ln_in + (alpha - i) * ln_out;
            weight + ln_expm1((i * i - i) / (2.0 * sigma * sigma))
        })
        .collect();
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = terms.iter().map(|term| (term - largest).exp()).sum();
    let ln_excess = largest + sum.ln();
    if ln_excess > 40.0 {
        ln_excess
    } else {
        ln_excess.exp().ln_1p()
    }
}

/// The same for any order: two series that alternate once `i` has passed `alpha`.
fn ln_a_of_fractional_order(step: SampledGaussian, alpha: f64) -> f64 {
    let (q, sigma) = (step.sampling_rate(), step.noise_multiplier());
    let (ln_in, ln_out) = (q.ln(), (-q).ln_1p());
    let z0 = sigma * sigma * (1.0 / q - 1.0).ln() + 0.5;
    let reach = std::f64::consts::SQRT_2 * sigma;
    let mut terms: Vec<(f64, bool)> = Vec::new();
    let (mut largest, mut last) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for i in 0..TERMS_MAX {
        let i = f64::from(i);
        let j = alpha - i;
        let (binomial, negative) = ln_binomial(alpha, i);
        let gain = |k: f64| (k * k - k) / (2.0 * sigma * sigma) - std::f64::consts::LN_2;
        let low = binomial + j * ln_out + i * ln_in + gain(i) + ln_erfc((i - z0) / reach);
        let high = binomial + i * ln_out + j * ln_in + gain(j) + ln_erfc((z0 - j) / reach);
        last = low.max(high);
        largest = largest.max(last);
        terms.push((low, negative));
        terms.push((high, negative));
        if i > alpha && last < largest + LN_NEGLIGIBLE {
            break;
        }
    }
    // Both series fall and alternate from here on, so each leaves out less than its last term.
    let left_out = 2.0 * (last - largest).exp();
    let sum: f64 = terms
        .iter()
        .rev()
        .map(|&(ln, negative)| (ln - largest).exp() * if negative { -1.0 } else { 1.0 })
        .sum();
    largest + (sum + left_out).ln()
}
