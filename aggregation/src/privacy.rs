//! Differential privacy as numbers: what noise costs, what a site has spent, what noise a budget asks for.
//!
//! The mechanism is the subsampled Gaussian of DP-SGD (Abadi et al. 2016, arXiv 1607.00133): each unit of protection (a record,
//! or all records of a patient) joins a step independently with a [sampling rate](SampledGaussian::sampling_rate), contributes a
//! vector of bounded norm, and the sum gets Gaussian noise of `noise_multiplier` times the bound. Neighbouring data sets differ by
//! one unit, added or removed. Costs are kept as Rényi divergences ([`renyi`]), added up over steps, rounds and runs
//! ([`Accountant`]), and turned into an `(epsilon, delta)` at the end.
//!
//! Noise is drawn here from keys that are arguments ([`NoiseKey`]). Clipping gradients is training's, and what is allowed the site's.

mod accountant;
mod analytic;
mod budget;
mod calibration;
mod mechanism;
mod noise;
mod participants;
pub mod renyi;
mod special;
#[cfg(test)]
mod tests;

pub use accountant::{Accountant, Cost, Orders};
pub use analytic::{gaussian_delta, gaussian_epsilon, gaussian_noise};
pub use budget::Budget;
pub use calibration::{noise_within, steps_within};
pub use mechanism::SampledGaussian;
pub use noise::NoiseKey;
pub use participants::{AdaptiveClip, noise_beside_count, release};

/// A parameter of a mechanism or of a budget that has no meaning.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PrivacyError {
    /// The sampling rate is no probability above zero.
    #[error("the sampling rate is {found}: it must be above 0 and at most 1")]
    SamplingRate {
        /// The value found.
        found: f64,
    },
    /// The noise multiplier is no positive number.
    #[error(
        "the noise multiplier is {found}: it must be {NOISE_LEAST} to {NOISE_MOST}; without noise there is no privacy"
    )]
    NoiseMultiplier {
        /// The value found.
        found: f64,
    },
    /// Epsilon is no positive number.
    #[error("epsilon is {found}: it must be above 0 and finite")]
    Epsilon {
        /// The value found.
        found: f64,
    },
    /// Delta is no probability strictly between zero and one.
    #[error(
        "delta is {found}: it must be above 0 and below 1, at most one over the number of records"
    )]
    Delta {
        /// The value found.
        found: f64,
    },
    /// No noise is enough.
    #[error(
        "no noise multiplier up to {NOISE_MOST} keeps {steps} steps at sampling rate {sampling_rate} within epsilon {} at delta {}: \
         take fewer steps, smaller batches or a larger epsilon", budget.epsilon(), budget.delta()
    )]
    Unreachable {
        /// The budget asked for.
        budget: Budget,
        /// The sampling rate.
        sampling_rate: f64,
        /// The steps.
        steps: u64,
    },
}

/// The smallest noise multiplier that is accepted: below it an epsilon is so large that it says nothing.
pub const NOISE_LEAST: f64 = 0.01;

/// The largest noise multiplier that is accepted.
pub const NOISE_MOST: f64 = 1e6;
