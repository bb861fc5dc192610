//! A lower bound on epsilon from one training (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, theorem 5.2).
//!
//! Each canary was put in or left out by a coin. An attacker guesses for those he is surest of. A training that is
//! (epsilon, delta)-private lets him be right no more often than randomized response would, so being right more often than
//! chance allows refutes every smaller epsilon.

use serde::Serialize;

use super::{AuditError, Losses, canaries::Canaries};

/// How sure the bound is.
const CONFIDENCE: f64 = 0.95;
/// No bound is looked for beyond this.
const EPSILON_MAX: f64 = 30.0;

/// Guesses and what they refute.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OneRun {
    /// Canaries that a coin was tossed for.
    pub coins: usize,
    /// Guesses made: the surest half, decided on before looking.
    pub guesses: usize,
    /// Right ones.
    pub right: usize,
    /// The delta assumed.
    pub delta: f64,
    /// With 95 % confidence the training is not private for any epsilon below this; 0 says nothing.
    pub epsilon_lower: f64,
}

pub(super) fn measure(
    canaries: &Canaries,
    before: &Losses<'_>,
    trained: &Losses<'_>,
    delta: f64,
) -> Result<OneRun, AuditError> {
    let (base, tuned) = (before.of(&canaries.tossed)?, trained.of(&canaries.tossed)?);
    let mut scored: Vec<_> = base
        .iter()
        .zip(&tuned)
        .zip(&canaries.is_in)
        .map(|((base, tuned), is_in)| (base - tuned, *is_in))
        .collect();
    scored.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (coins, quarter) = (scored.len(), scored.len() / 4);
    let out = scored[..quarter].iter().filter(|(_, is_in)| !is_in).count();
    let inside = scored[coins - quarter..]
        .iter()
        .filter(|(_, is_in)| *is_in)
        .count();
    let (guesses, right) = (2 * quarter, out + inside);
    let epsilon_lower = epsilon_lower(coins, guesses, right, delta, 1.0 - CONFIDENCE);
    Ok(OneRun {
        coins,
        guesses,
        right,
        delta,
        epsilon_lower,
    })
}

/// The largest epsilon that so many right guesses refute.
fn epsilon_lower(coins: usize, guesses: usize, right: usize, delta: f64, error: f64) -> f64 {
    let refuted = |epsilon| p_value(coins, guesses, right, epsilon, delta) < error;
    if !refuted(0.0) {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, EPSILON_MAX);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if refuted(middle) {
            low = middle
        } else {
            high = middle
        }
    }
    low
}

/// The chance of at least so many right guesses against an (epsilon, delta)-private training.
fn p_value(coins: usize, guesses: usize, right: usize, epsilon: f64, delta: f64) -> f64 {
    let accuracy = 1.0 / (1.0 + (-epsilon).exp());
    let mass = binomial(guesses, accuracy);
    let tail: f64 = mass[right..].iter().sum();
    let (mut alpha, mut below) = (0.0_f64, 0.0);
    for i in 1..=right {
        below += mass[right - i];
        alpha = alpha.max(below / i as f64);
    }
    (tail + 2.0 * alpha * delta * coins as f64).min(1.0)
}

/// The probabilities of 0 to n successes.
fn binomial(n: usize, p: f64) -> Vec<f64> {
    let mut log_factorial = vec![0.0; n + 1];
    for k in 1..=n {
        log_factorial[k] = log_factorial[k - 1] + (k as f64).ln();
    }
    // Of accuracies from one half to below one, so that both logarithms are finite.
    let (hit, miss) = (p.ln(), (-p).ln_1p());
    let mass = |k: usize| {
        let ways = log_factorial[n] - log_factorial[k] - log_factorial[n - k];
        (ways + k as f64 * hit + (n - k) as f64 * miss).exp()
    };
    (0..=n).map(mass).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_right_has_the_closed_form() {
        // q^100 = 0.05, epsilon = ln(q / (1 - q)).
        let q = 0.05_f64.powf(0.01);
        let expected = (q / (1.0 - q)).ln();
        assert!((epsilon_lower(100, 100, 100, 0.0, 0.05) - expected).abs() < 1e-9);
        assert!((expected - 3.4929).abs() < 1e-3);
    }

    #[test]
    fn guessing_refutes_nothing_and_delta_weakens() {
        assert_eq!(epsilon_lower(100, 100, 50, 0.0, 0.05), 0.0);
        let exact = epsilon_lower(1000, 100, 90, 0.0, 0.05);
        let weak = epsilon_lower(1000, 100, 90, 1e-3, 0.05);
        assert!(0.0 < weak && weak < exact, "{weak} {exact}");
    }

    #[test]
    fn probabilities_add_up_to_one() {
        let sum: f64 = binomial(64, 0.7).iter().sum();
        assert!((sum - 1.0).abs() < 1e-12);
    }
}
