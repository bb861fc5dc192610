//! One step of DP-SGD as a mechanism: its sampling rate and its noise.

use super::{NOISE_LEAST, NOISE_MOST, PrivacyError};

/// A Gaussian mechanism on a Poisson sample of the units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampledGaussian {
    sampling_rate: f64,
    noise_multiplier: f64,
}

impl SampledGaussian {
    /// Checks both numbers.
    ///
    /// # Errors
    /// [`PrivacyError::SamplingRate`] and [`PrivacyError::NoiseMultiplier`].
    pub fn new(sampling_rate: f64, noise_multiplier: f64) -> Result<Self, PrivacyError> {
        if !(sampling_rate > 0.0 && sampling_rate <= 1.0) {
            return Err(PrivacyError::SamplingRate {
                found: sampling_rate,
            });
        }
        if !(NOISE_LEAST..=NOISE_MOST).contains(&noise_multiplier) {
            return Err(PrivacyError::NoiseMultiplier {
                found: noise_multiplier,
            });
        }
        Ok(Self {
            sampling_rate,
            noise_multiplier,
        })
    }

    /// Gives the probability with which a unit joins a step, independently of all others.
    pub fn sampling_rate(&self) -> f64 {
        self.sampling_rate
    }

    /// Gives the standard deviation of the noise over the largest norm of a unit's contribution.
    pub fn noise_multiplier(&self) -> f64 {
        self.noise_multiplier
    }
}
