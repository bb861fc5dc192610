//! Any file in the place of a policy, and any damage to one.

use std::fs;

use proptest::prelude::*;

use super::{
    tests::{EXACT, EXAMPLE, noon, plan},
    *,
};
use crate::properties::{any_bytes, damage, fixed_seed};

/// What a site makes of a policy file with these bytes.
fn read(bytes: &[u8]) -> Result<SitePolicy, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    fs::write(&path, bytes).unwrap();
    SitePolicy::read(&path).map_err(|error| error.to_string())
}

/// The file, and where in it; or that it is no text.
#[track_caller]
fn assert_says_where(refused: &str) {
    let says = refused.contains("policy.toml line ") && refused.contains(", column ")
        || refused.contains("policy.toml: stream did not contain valid UTF-8")
        || refused.contains("policy.toml missing field ");
    assert!(says, "{refused}");
}

proptest! {
    #![proptest_config(fixed_seed())]

    #[test]
    fn bytes_that_nobody_wrote_are_no_policy_and_no_panic(bytes in any_bytes()) {
        assert_says_where(&read(&bytes).unwrap_err());
    }

    #[test]
    fn damaged_policy_is_refused_or_judges_by_lines_that_it_has(
        damages in prop::collection::vec(damage(), 1..4),
        is_example in any::<bool>(),
    ) {
        let text = if is_example { EXAMPLE } else { EXACT };
        let damaged = |bytes: Vec<u8>, one: &crate::properties::Damage| match bytes.is_empty() {
            true => bytes,
            false => one.done_to(&bytes),
        };
        let bytes = damages.iter().fold(text.as_bytes().to_vec(), damaged);
        let policy = match read(&bytes) {
            Ok(policy) => policy,
            Err(refused) => {
                assert_says_where(&refused);
                return Ok(());
            }
        };
        let lines = bytes.iter().filter(|&&byte| byte == b'\n').count() + 1;
        if let Err(refusal) = policy.check(&plan(), &noon()) {
            prop_assert!(!refusal.violations().is_empty());
            for violation in refusal.violations() {
                prop_assert!((1..=lines).contains(&violation.line), "{}", refusal);
            }
        }
        let _ = policy.check_transfer(u64::MAX, u64::MAX, &noon());
    }
}
