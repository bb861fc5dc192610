//! How property tests of this crate draw their cases.

use proptest::test_runner::{Config, RngSeed};

/// The same cases in every run, so that a failure in CI is the failure at home; proptest prints
/// the smallest failing input.
pub(crate) fn fixed_seed() -> Config {
    Config {
        rng_seed: RngSeed::Fixed(20_261_123),
        failure_persistence: None,
        ..Config::default()
    }
}
