//! A bound on what may be learned about one unit: `(epsilon, delta)`.

use super::PrivacyError;

/// An `(epsilon, delta)` that makes sense.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    epsilon: f64,
    delta: f64,
}

impl Budget {
    /// Checks both numbers.
    ///
    /// # Errors
    /// [`PrivacyError::Epsilon`] and [`PrivacyError::Delta`].
    pub fn new(epsilon: f64, delta: f64) -> Result<Self, PrivacyError> {
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            return Err(PrivacyError::Epsilon { found: epsilon });
        }
        if !(delta > 0.0 && delta < 1.0) {
            return Err(PrivacyError::Delta { found: delta });
        }
        Ok(Self { epsilon, delta })
    }

    /// Gives the bound on the log of how much likelier one unit may make any outcome.
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// Gives the probability with which that bound may fail.
    pub fn delta(&self) -> f64 {
        self.delta
    }
}
