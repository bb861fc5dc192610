//! Any file in the place of a privacy ledger, and any damage to one.

use std::{fs, sync::OnceLock};

use proptest::prelude::*;
use protocol::Digest;

use super::{
    ledger::Ledger,
    tests::{account, settings},
};
use crate::{
    kept_head::KeptHead,
    properties::{any_bytes, damage, fixed_seed},
};

/// What a ledger holds after four batches of steps, and the file with its head.
fn written_with_head() -> &'static [Vec<u8>; 2] {
    static WRITTEN: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), 8.0);
        for (run, first) in [("spring", 0), ("spring", 20), ("spring", 20), ("autumn", 0)] {
            account(&settings, run).spend(first, 20).unwrap();
        }
        let head = KeptHead::path(&settings.ledger);
        [&settings.ledger, &head].map(|file| fs::read(file).unwrap())
    })
}

fn written() -> &'static [u8] {
    &written_with_head()[0]
}

/// What a site makes of a file with these bytes.
fn read(bytes: &[u8]) -> Result<Ledger, String> {
    read_beside(bytes, None)
}

/// What it makes of it beside this head, if there is one.
fn read_beside(bytes: &[u8], head: Option<&[u8]>) -> Result<Ledger, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.privacy");
    fs::write(&path, bytes).unwrap();
    if let Some(head) = head {
        fs::write(KeptHead::path(&path), head).unwrap();
    }
    Ledger::read(&path).map_err(|error| error.to_string())
}

#[track_caller]
fn assert_says_what_to_do(refused: &str) {
    for word in [
        "train.privacy, line ",
        "is damaged",
        "restore it from a backup",
    ] {
        assert!(refused.contains(word), "{refused}");
    }
}

proptest! {
    #![proptest_config(fixed_seed())]

    #[test]
    fn bytes_that_nobody_wrote_are_no_ledger_and_no_panic(bytes in any_bytes()) {
        assert_says_what_to_do(&read(&bytes).unwrap_err());
    }

    #[test]
    fn damaged_ledger_is_refused_unless_whole_lines_are_missing_at_its_end(damage in damage()) {
        let whole = read(written()).unwrap();
        let changed = damage.done_to(written());
        match read(&changed) {
            Ok(ledger) => {
                // Whoever may write the file may also write it anew: it is evidence for the site, not against it.
                prop_assert!(written().starts_with(&changed));
                prop_assert!(whole.entries().starts_with(ledger.entries()));
            }
            Err(refused) => {
                prop_assert!(changed != written());
                assert_says_what_to_do(&refused);
            }
        }
    }

    #[test]
    fn damaged_ledger_is_refused_beside_its_head(damage in damage()) {
        let [bytes, head] = written_with_head();
        let changed = damage.done_to(bytes);
        prop_assert_eq!(read_beside(&changed, Some(head)).is_ok(), changed == *bytes);
    }
}

/// The chain has no key: what somebody else wrote may be any number.
#[test]
fn numbers_beyond_any_are_added_up_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8.0);
    account(&settings, "spring").spend(0, 20).unwrap();
    let mut ledger = Ledger::read(&settings.ledger).unwrap();
    let mut entry = ledger.entries()[0].clone();
    entry.training = Digest::of(b"spring");
    (entry.first_step, entry.steps) = (u64::MAX, u64::MAX);
    for _ in 0..2 {
        ledger.append(&settings.ledger, entry.clone()).unwrap();
    }
    let account = account(&settings, "spring");
    assert!(account.check_next(10).is_err());
    assert!(account.spend(0, 10).is_err());
    assert_eq!(account.steps_left(10).unwrap(), 0);
}
