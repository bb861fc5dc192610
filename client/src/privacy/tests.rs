//! The budget over steps, runs, restarts and damage.

mod head;

use std::path::Path;

use aggregation::privacy::{Accountant, Budget, SampledGaussian, steps_within};
use finetune::data::{Dataset, Example};
use protocol::Digest;

use super::*;

pub(super) fn settings(folder: &Path, epsilon: f64) -> PrivacySettings {
    PrivacySettings {
        ledger: folder.join("train.privacy"),
        budget: Budget::new(epsilon, 1e-5).unwrap(),
        group_by: None,
        records_max: 8,
        required: None,
    }
}

fn step() -> SampledGaussian {
    SampledGaussian::new(0.01, 1.0).unwrap()
}

fn run(name: &str, limit: Option<f64>) -> RunBudget {
    RunBudget {
        purpose: name.to_owned(),
        training: Digest::of(name.as_bytes()),
        limit: limit.map(|epsilon| Budget::new(epsilon, 1e-5).unwrap()),
    }
}

fn spending() -> Spending {
    Spending {
        data: Digest::of(b"data"),
        unit: "record".to_owned(),
        units: 1000,
        step: step(),
    }
}

pub(super) fn account(settings: &PrivacySettings, name: &str) -> Account {
    Account::open(settings, run(name, None), spending()).unwrap()
}

#[test]
fn steps_are_on_the_disk_before_they_are_done_and_add_up_over_runs_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8.0);
    account(&settings, "spring").spend(0, 100).unwrap();
    // Another process, another run: nothing but the file is left of the first.
    let cost = account(&settings, "autumn").spend(0, 900).unwrap();
    let ledger = Ledger::read(&settings.ledger).unwrap();
    assert_eq!(ledger.entries().len(), 2);
    let expected = Accountant::default().with(step(), 1000).cost(1e-5);
    assert_eq!(cost, expected);
    assert!((cost.epsilon - 2.101_365).abs() < 1e-5, "{cost:?}");
}

#[test]
fn what_the_account_is_charged_for_is_what_the_trainer_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let example = |token| Example {
        tokens: vec![token, token],
        response: vec![true, true],
        line: 1,
    };
    let data = Dataset {
        examples: (0..5).map(example).collect(),
        digest: [1; 32],
        source: "memory".into(),
        truncated: 0,
    };
    let noise = Noise {
        clip_norm: 0.7,
        noise_multiplier: 2.5,
        expected_units: 2.0,
    };
    let settings = settings(folder.path(), 8.0);
    let terms = PrivateTerms::new(&settings, RunBudget::alone(), &data, None, noise).unwrap();
    let steps = terms.steps().unwrap();
    assert_eq!((steps.clip_norm, steps.noise_multiplier), (0.7, 2.5));
    assert_eq!((steps.units.count(), steps.expected_units), (5, 2.0));
    let charged = SampledGaussian::new(0.4, 2.5).unwrap();
    assert_eq!(terms.account.step(), charged);
}

#[test]
fn steps_that_would_exceed_the_budget_are_refused_and_nothing_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 2.0);
    let possible = steps_within(settings.budget, step(), &Accountant::default(), 100_000);
    let account = account(&settings, "spring");
    let refused = account.spend(0, possible + 1).unwrap_err();
    let BudgetError::Exhausted { left, .. } = &refused else {
        panic!("{refused}")
    };
    assert_eq!(*left, possible);
    assert!(refused.to_string().contains("E_DP_BUDGET"), "{refused}");
    assert_eq!(Ledger::read(&settings.ledger).unwrap(), Ledger::default());
    account.spend(0, possible).unwrap();
    assert_eq!(account.steps_left(10).unwrap(), 0);
    assert!(account.spend(possible, 1).is_err());
    assert!(account.cost().unwrap().epsilon <= 2.0);
}

#[test]
fn limit_of_a_plan_counts_its_own_run_only() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8.0);
    account(&settings, "spring").spend(0, 2000).unwrap();
    let open =
        |epsilon| Account::open(&settings, run("autumn", Some(epsilon)), spending()).unwrap();
    assert!(open(2.2).check(1000).is_ok());
    let refused = open(1.0).check(1000).unwrap_err().to_string();
    assert!(refused.contains("the run plan's limit"), "{refused}");
}

#[test]
fn round_that_is_trained_anew_counts_again_and_the_run_may_still_end() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8.0);
    account(&settings, "spring").spend(0, 20).unwrap();
    account(&settings, "spring").spend(20, 20).unwrap();
    // Killed in the second round, which begins again in another process.
    let again = account(&settings, "spring");
    again.check(60).unwrap();
    again.spend(20, 20).unwrap();
    let ledger = Ledger::read(&settings.ledger).unwrap();
    let flags: Vec<bool> = ledger.entries().iter().map(|entry| entry.again).collect();
    assert_eq!(flags, [false, false, true]);
    let all: u64 = ledger.entries().iter().map(|entry| entry.steps).sum();
    assert_eq!(all, 60);
}

#[test]
fn damaged_ledger_is_named_by_line_and_nothing_is_trained_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8.0);
    for first in 0..3 {
        account(&settings, "spring").spend(first, 1).unwrap();
    }
    let whole = std::fs::read_to_string(&settings.ledger).unwrap();
    for place in 0..whole.len() - 1 {
        let mut changed = whole.clone().into_bytes();
        changed[place] ^= 1;
        std::fs::write(&settings.ledger, changed).unwrap();
        let refused = Account::open(&settings, run("spring", None), spending()).unwrap_err();
        let said = refused.to_string();
        assert!(said.contains("train.privacy"), "{place}: {said}");
    }
    let lines: Vec<&str> = whole.lines().collect();
    let without_second = [lines[0], lines[1], lines[3]].join("\n");
    std::fs::write(&settings.ledger, without_second).unwrap();
    let refused = Ledger::read(&settings.ledger).unwrap_err().to_string();
    assert!(
        refused.contains("line 3") && refused.contains("backup"),
        "{refused}"
    );
}

#[test]
fn head_of_a_ledger_is_its_last_chain_and_an_older_ledger_has_another() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8.0);
    let head = || Ledger::read(&settings.ledger).unwrap().head();
    let mut heads = vec![head()];
    for first in [0, 1] {
        account(&settings, "spring").spend(first, 1).unwrap();
        heads.push(head());
        let text = std::fs::read_to_string(&settings.ledger).unwrap();
        let last = text.lines().last().unwrap();
        assert!(
            last.contains(&format!("\"chain\":\"{}\"", head())),
            "{last}"
        );
    }
    heads.dedup();
    assert_eq!(heads.len(), 3);
    let ledger = Ledger::read(&settings.ledger).unwrap();
    let until = |name: &str| ledger.counted_until(Digest::of(name.as_bytes()));
    assert_eq!((until("spring"), until("autumn")), (2, 0));
}

#[test]
fn ledger_that_says_the_same_in_another_form_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8.0);
    account(&settings, "spring").spend(0, 20).unwrap();
    let whole = std::fs::read_to_string(&settings.ledger).unwrap();
    for place in 0..=whole.len() {
        for space in [' ', '\n'] {
            let mut changed = whole.clone();
            changed.insert(place, space);
            std::fs::write(&settings.ledger, &changed).unwrap();
            let refused = Ledger::read(&settings.ledger).unwrap_err().to_string();
            assert!(refused.contains("is damaged"), "{place}: {refused}");
        }
    }
    for (written, otherwise) in [
        ("0.01", "1e-2"),
        ("}\n", "}\r\n"),
        ("\"steps\":20", "\"steps\":2e1"),
    ] {
        std::fs::write(&settings.ledger, whole.replace(written, otherwise)).unwrap();
        assert!(Ledger::read(&settings.ledger).is_err(), "{otherwise:?}");
    }
}

#[test]
fn ledger_that_cannot_be_written_stops_private_training() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8.0);
    std::fs::create_dir(settings.ledger.with_added_extension("part")).unwrap();
    let refused = account(&settings, "spring").spend(0, 1).unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("cannot write the privacy ledger"),
        "{refused}"
    );
    assert_eq!(Ledger::read(&settings.ledger).unwrap(), Ledger::default());
}

#[test]
fn many_processes_count_into_one_ledger_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8.0);
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let settings = &settings;
            scope.spawn(move || {
                for first in 0..5 {
                    account(settings, name).spend(first, 1).unwrap();
                }
            });
        }
    });
    assert_eq!(Ledger::read(&settings.ledger).unwrap().entries().len(), 20);
}

#[test]
fn ledger_of_another_unit_and_a_delta_without_meaning_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8.0);
    account(&settings, "spring").spend(0, 1).unwrap();
    let grouped = Spending {
        unit: "patient".to_owned(),
        ..spending()
    };
    let refused = Account::open(&settings, run("spring", None), grouped).unwrap_err();
    assert!(refused.to_string().contains("by record"), "{refused}");
    let crowd = Spending {
        units: 1_000_000,
        ..spending()
    };
    let refused = Account::open(&settings, run("spring", None), crowd).unwrap_err();
    assert!(
        refused.to_string().starts_with("delta is 0.00001"),
        "{refused}"
    );
}

#[test]
fn policy_narrows_the_budget_and_never_widens_it() {
    let folder = tempfile::tempdir().unwrap();
    let narrowed = settings(folder.path(), 8.0).bounded((3.0, 1e-3)).unwrap();
    assert_eq!(
        (narrowed.budget.epsilon(), narrowed.budget.delta()),
        (3.0, 1e-5)
    );
    let kept = settings(folder.path(), 8.0).bounded((9.0, 1e-6)).unwrap();
    assert_eq!((kept.budget.epsilon(), kept.budget.delta()), (8.0, 1e-6));
}

/// Trains one step on the records of a file, by the ledger that they lead to.
fn spend_on(data: &Path, first: u64) -> PathBuf {
    let ledger = ledger_beside(data).unwrap();
    let settings = PrivacySettings {
        ledger: ledger.clone(),
        ..settings(data.parent().unwrap(), 8.0)
    };
    let spending = Spending {
        data: Digest::of(&std::fs::read(data).unwrap()),
        ..spending()
    };
    let account = Account::open(&settings, run("spring", None), spending).unwrap();
    account.spend(first, 1).unwrap();
    ledger
}

#[test]
fn renamed_or_copied_data_goes_on_with_its_budget_and_changed_data_with_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("wards.jsonl"), "the records of the wards").unwrap();
    let first = spend_on(&at("wards.jsonl"), 0);
    assert_eq!(first, at("wards.jsonl.privacy"));
    std::fs::copy(at("wards.jsonl"), at("fresh.jsonl")).unwrap();
    assert_eq!(spend_on(&at("fresh.jsonl"), 1), first);
    std::fs::rename(at("wards.jsonl"), at("renamed.jsonl")).unwrap();
    assert_eq!(spend_on(&at("renamed.jsonl"), 2), first);
    assert_eq!(Ledger::read(&first).unwrap().entries().len(), 3);
    // One record more: old ones are still in it.
    std::fs::write(at("wards.jsonl"), "the records of the wards, and one more").unwrap();
    assert_eq!(spend_on(&at("wards.jsonl"), 3), first);
    // Records that nobody has trained on have a budget of their own.
    std::fs::write(at("others.jsonl"), "other records").unwrap();
    assert_eq!(spend_on(&at("others.jsonl"), 0), at("others.jsonl.privacy"));
}

#[test]
fn records_that_are_counted_in_two_ledgers_are_refused_and_both_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, text) in [("a.jsonl", "one"), ("b.jsonl", "two")] {
        std::fs::write(at(name), text).unwrap();
        spend_on(&at(name), 0);
    }
    std::fs::copy(at("a.jsonl"), at("b.jsonl")).unwrap();
    let refused = ledger_beside(&at("b.jsonl")).unwrap_err().to_string();
    for name in ["a.jsonl.privacy", "b.jsonl.privacy", "[privacy]"] {
        assert!(refused.contains(name), "{refused}");
    }
}

#[test]
fn ledgers_beside_the_data_that_count_its_records_are_found_when_another_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("wards.jsonl"), "the records of the wards").unwrap();
    std::fs::write(at("others.jsonl"), "other records").unwrap();
    let ledgers = ["wards.jsonl", "others.jsonl"].map(|data| spend_on(&at(data), 0));
    let others = |named: &Path| others_beside(&at("wards.jsonl"), named).unwrap();
    assert_eq!(others(&at("named.privacy")), ledgers[..1]);
    // Named as it is found, or by another name for the same file.
    assert!(others(&ledgers[0]).is_empty());
    let folder_name = folder.path().file_name().unwrap();
    let roundabout = folder
        .path()
        .join("..")
        .join(folder_name)
        .join("wards.jsonl.privacy");
    assert!(others(&roundabout).is_empty());
}
