//! Training text looked through by the real program, and a cleaned copy of it.

use std::fs;

use tests::{Federation, Finished, assert_success};

use crate::PROGRAMS;

const TEXT: &str = "{\"prompt\": \"Dose of aspirin?\", \"completion\": \"100 mg\", \"ward\": \"heart\"}\n\
    {\"prompt\": \"Dose of aspirin?\", \"completion\": \"300 mg\", \"ward\": \"heart\"}\n\
    {\"prompt\": \"dose of  ASPIRIN?\", \"completion\": \"100 mg\", \"ward\": \"heart\"}\n\
    {\"prompt\": \"Next visit?\", \"completion\": \"In May\\r\\nor June\", \"ward\": \"kidney\"}\n\
    {\"text\": \"Quarantined\", \"ward\": \"kidney\"}\n";

fn check(federation: &Federation, data: &str, more: &[&str]) -> Finished {
    let command = ["data", "check", "--model", "model", "--data", data];
    federation.client(&[&command[..], more].concat())
}

#[test]
fn training_text_is_looked_through_and_a_cleaned_copy_can_be_trained_on() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    federation.write("raw.jsonl", TEXT);
    federation.write("held-out.jsonl", "{\"text\": \"quarantined\"}\n");
    let asked = [
        "--eval",
        "held-out.jsonl",
        "--balance-by",
        "ward",
        "--max-tokens",
        "20",
    ];
    let found = check(
        &federation,
        "raw.jsonl",
        &[&asked[..], &["--write", "clean.jsonl"]].concat(),
    );
    assert_success(&found);
    for line in [
        "records: 5 (pair 4, text 1)",
        "repeats of an earlier record: 1 (lines 3 as 1)",
        "an earlier record's question, another answer: 1 (lines 2 as 1)",
        "also in held-out.jsonl: 1 (lines 5 as 1)",
        "untidy: carriage returns: 1 (lines 4)",
        "\"heart\"          3 records  60.0 %",
        "written: 3 records to clean.jsonl",
    ] {
        assert!(found.text.contains(line), "{line}\n{}", found.text);
    }
    for text in ["aspirin", "May", "uarantined"] {
        assert!(!found.text.contains(text), "{}", found.text);
    }
    assert_eq!(
        fs::read_to_string(federation.file("raw.jsonl")).unwrap(),
        TEXT
    );
    let clean = fs::read_to_string(federation.file("clean.jsonl")).unwrap();
    assert!(clean.starts_with(TEXT.lines().next().unwrap()), "{clean}");
    let again = check(&federation, "clean.jsonl", &["--json"]);
    assert_success(&again);
    let again: serde_json::Value = serde_json::from_str(again.text.trim()).unwrap();
    assert_eq!((&again["records"], &again["kept"]), (&3.into(), &3.into()));
    assert_eq!(again["untidy"], serde_json::json!({}));
    let train = [
        "train",
        "--model",
        "model",
        "--data",
        "clean.jsonl",
        "--device",
        "cpu",
    ];
    let train = [&train[..], &["--steps", "1", "--out", "adapter"]].concat();
    assert_success(&federation.client(&train));
}

#[test]
fn a_line_that_no_run_would_read_is_named_and_nothing_that_is_there_is_written_over() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let strange = "not json\n{\"messages\": \"Quinine\"}\n";
    federation.write("raw.jsonl", &format!("{TEXT}{strange}"));
    let over = check(&federation, "raw.jsonl", &["--write", "raw.jsonl"]);
    assert_eq!(over.code, Some(64), "{}", over.text);
    let found = check(&federation, "raw.jsonl", &["--write", "clean.jsonl"]);
    assert_eq!(found.code, Some(1), "{}", found.text);
    assert!(
        found
            .text
            .contains("raw.jsonl:6: is no JSON object; a run would not begin"),
        "{}",
        found.text
    );
    assert!(
        found.text.contains("line 7: is not a record") && !found.text.contains("Quinine"),
        "{}",
        found.text
    );
    assert_success(&check(&federation, "clean.jsonl", &[]));
    let alone = check(&federation, "raw.jsonl", &["--at-most", "2"]);
    assert_eq!(alone.code, Some(64), "{}", alone.text);
}
