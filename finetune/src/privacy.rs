//! DP-SGD: what a training step does so that its result tells little about any one record, or any one patient.
//!
//! Abadi et al. 2016 (arXiv 1607.00133), algorithm 1: each unit joins a step independently with one probability
//! ([`units`]), its gradient over all trainable values together is cut to a norm ([`clipping`]), Gaussian noise is added to the
//! sum ([`noise`]), and the sum is divided by the expected number of units, a constant. Noise is added on every step, also when
//! no unit joined. What follows (AdamW, weight decay, the anchor's pull) sees the noisy sum only.
//!
//! A unit's part in the sum may depend on itself and on fresh randomness, and on nothing else: not on which other units there are,
//! nor on which joined. So dropout masks come from a seed drawn for each example ([`NoiseSource`]), and not from the run's seed and
//! the data set's digest as in other training, and a unit whose gradient is not finite counts as zero instead of ending the step.
//!
//! It counts no epsilon (`aggregation::privacy`) and keeps no budget (the client's ledger): a caller that trains with
//! [`DpSgd`] has to account for every step first.

pub mod clipping;
pub mod noise;
pub mod units;

pub use self::{noise::NoiseSource, units::Units};

/// How private steps are made.
#[derive(Debug)]
pub struct DpSgd {
    /// Largest norm of one unit's gradient. The gradient of a record is that of its mean loss over its own tokens; that of a
    /// group is the mean over its records.
    pub clip_norm: f64,
    /// Standard deviation of the noise on the sum, over `clip_norm`. Zero is no privacy, and for tests.
    pub noise_multiplier: f64,
    /// Units that a step is expected to read: the constant that sums are divided by. At most the number of units.
    pub expected_units: f64,
    /// What is protected as a whole.
    pub units: Units,
    /// Where sampling, dropout masks and noise come from: never the run's seed, which others know.
    pub random: NoiseSource,
}

impl DpSgd {
    /// Gives the probability with which a unit joins a step.
    pub fn sampling_rate(&self) -> f64 {
        sampling_rate(self.expected_units, self.units.count())
    }

    /// Names the first field that cannot be used.
    pub(crate) fn check(&self) -> Result<(), PrivateRecipeError> {
        let real =
            |value: f64, least: bool| value.is_finite() && (value > 0.0 || least && value == 0.0);
        let fields = [
            ("clip_norm", self.clip_norm, real(self.clip_norm, false)),
            (
                "noise_multiplier",
                self.noise_multiplier,
                real(self.noise_multiplier, true),
            ),
            (
                "expected_units",
                self.expected_units,
                real(self.expected_units, false)
                    && self.expected_units <= self.units.count() as f64,
            ),
        ];
        match fields.into_iter().find(|(.., holds)| !holds) {
            Some((field, found, _)) => Err(PrivateRecipeError {
                field,
                found,
                units: self.units.count(),
            }),
            None => Ok(()),
        }
    }
}

/// Gives the probability with which each of `units` units joins a step that is to read `expected` of them.
pub fn sampling_rate(expected: f64, units: usize) -> f64 {
    (expected / units as f64).min(1.0)
}

/// A private recipe's value is outside what can be trained with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field} is {found}, which private training on {units} units cannot use")]
pub struct PrivateRecipeError {
    /// The field of [`DpSgd`].
    pub field: &'static str,
    /// Its value.
    pub found: f64,
    /// Units that there are.
    pub units: usize,
}
