//! The head beside a privacy ledger: no budget comes back with an older file.

use super::*;
use crate::kept_head::KeptHead;

fn account_refused(settings: &PrivacySettings) -> String {
    let refused = Account::open(settings, run("spring", None), spending()).unwrap_err();
    refused.to_string()
}

#[test]
fn ledger_that_is_older_than_it_was_or_gone_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8.0);
    let read = || std::fs::read(&settings.ledger).unwrap();
    account(&settings, "spring").spend(0, 20).unwrap();
    let older = read();
    account(&settings, "spring").spend(20, 20).unwrap();
    let whole = read();
    let refused = |entries: usize| {
        let refused = Account::open(&settings, run("spring", None), spending()).unwrap_err();
        let said = refused.to_string();
        assert!(!said.contains("  "), "{said}");
        let counted = format!(
            "train.privacy has {entries} entries and the head beside it was kept when there were 2"
        );
        for word in [
            &counted[..],
            "lower epsilon_max",
            "remove ",
            "train.privacy.head",
        ] {
            assert!(said.contains(word), "{said}");
        }
    };
    std::fs::write(&settings.ledger, &older).unwrap();
    refused(1);
    std::fs::remove_file(&settings.ledger).unwrap();
    refused(0);
    assert!(!settings.ledger.exists());
    std::fs::write(&settings.ledger, whole).unwrap();
    account(&settings, "spring").spend(40, 20).unwrap();
    // What the file does not know, nobody can count: a person decides.
    std::fs::write(&settings.ledger, older).unwrap();
    std::fs::remove_file(KeptHead::path(&settings.ledger)).unwrap();
    account(&settings, "spring").spend(20, 20).unwrap();
}

#[test]
fn ledger_whose_process_died_before_its_head_was_kept_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8.0);
    let head = KeptHead::path(&settings.ledger);
    account(&settings, "spring").spend(0, 20).unwrap();
    let before = std::fs::read(&head).unwrap();
    account(&settings, "spring").spend(20, 20).unwrap();
    let after = std::fs::read(&head).unwrap();
    std::fs::write(&head, before).unwrap();
    assert_eq!(Ledger::read(&settings.ledger).unwrap().entries().len(), 2);
    std::fs::write(&head, &after[1..]).unwrap();
    let refused = account_refused(&settings);
    assert!(
        refused.contains("train.privacy.head is not the head of a ledger"),
        "{refused}"
    );
}
