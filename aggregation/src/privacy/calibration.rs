//! The other way round: which noise, or how many steps, a budget allows.

use super::{Accountant, Budget, NOISE_LEAST, NOISE_MOST, PrivacyError, SampledGaussian};

/// The noise is found to this share of itself, rounded up.
const PRECISION: f64 = 1e-6;

/// Gives the smallest noise multiplier with which `steps` more steps stay within a budget.
///
/// `spent` is what the same data has cost before; the budget covers both. The noise is on the safe side of the exact one, by a
/// millionth of it at most.
///
/// # Errors
/// [`PrivacyError::SamplingRate`], and [`PrivacyError::Unreachable`] if no noise is enough.
pub fn noise_within(
    budget: Budget,
    sampling_rate: f64,
    steps: u64,
    spent: &Accountant,
) -> Result<f64, PrivacyError> {
    let holds = |noise: f64| -> Result<bool, PrivacyError> {
        let step = SampledGaussian::new(sampling_rate, noise)?;
        Ok(spent.with(step, steps).is_within(budget))
    };
    if holds(NOISE_LEAST)? {
        return Ok(NOISE_LEAST);
    }
    let (mut too_little, mut enough) = (NOISE_LEAST, 1.0);
    while !holds(enough)? {
        if enough >= NOISE_MOST {
            return Err(PrivacyError::Unreachable {
                budget,
                sampling_rate,
                steps,
            });
        }
        too_little = enough;
        enough = (enough * 4.0).min(NOISE_MOST);
    }
    while enough - too_little > PRECISION * enough {
        let middle = f64::midpoint(too_little, enough);
        if holds(middle)? {
            enough = middle;
        } else {
            too_little = middle;
        }
    }
    Ok(enough)
}

/// Gives the most steps of a mechanism that fit into a budget after what was spent, at most `limit`.
pub fn steps_within(budget: Budget, step: SampledGaussian, spent: &Accountant, limit: u64) -> u64 {
    let holds = |steps: u64| spent.with(step, steps).is_within(budget);
    if holds(limit) {
        return limit;
    }
    // Invariant: `possible` steps fit, or are none; `impossible` do not.
    let (mut possible, mut impossible) = (0, limit);
    while impossible - possible > 1 {
        let middle = possible + (impossible - possible) / 2;
        if holds(middle) {
            possible = middle;
        } else {
            impossible = middle;
        }
    }
    possible
}
