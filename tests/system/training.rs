//! Training alone, as a process: killed and resumed, and stopped early.

use std::fs;

use tests::{Federation, Program, assert_success};

use crate::PROGRAMS;

/// Enough steps of the tiny model that a kill falls between them.
const TRAIN: &[&str] = &[
    "train",
    "--model",
    "model",
    "--data",
    "hospital-a.jsonl",
    "--device",
    "cpu",
    "--steps",
    "120",
    "--batch-examples",
    "2",
    "--json",
];

fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [TRAIN, more].concat()
}

/// The line of JSON that the command ends with.
fn result(text: &str) -> serde_json::Value {
    let line = text.lines().find(|line| line.starts_with('{'));
    let line = line.unwrap_or_else(|| panic!("no result in: {text}"));
    serde_json::from_str(line).expect("the result is one line of JSON")
}

#[test]
fn a_killed_training_goes_on_to_the_same_bytes() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let whole = federation.client(&arguments(&["--out", "whole"]));
    let kept = ["--checkpoint", "state", "--checkpoint-every", "1"];
    let again = arguments(&[&["--out", "again", "--log", "info"], &kept[..]].concat());
    let killed = Program::start(PROGRAMS.client, federation.path(), &again);
    killed.wait_for("checkpoint written");
    killed.kill();
    assert!(!federation.file("again").exists());
    let resumed = federation.client(&again);
    let (whole, resumed) = (result(&whole.text), result(&resumed.text));
    assert!(resumed["resumed_at_step"].as_u64() > Some(0), "{resumed}");
    assert_eq!(resumed["adapter_sha256"], whole["adapter_sha256"]);
    assert!(!federation.file("state").exists());
}

#[test]
fn a_record_that_the_model_cannot_read_is_named_before_the_training() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let long = "pain ".repeat(3000);
    federation.write(
        "long.jsonl",
        &format!("{{\"text\": \"short\"}}\n{{\"text\": \"{long}\"}}\n"),
    );
    for command in ["train", "evaluate"] {
        let out: &[&str] = if command == "train" {
            &["--out", "out"]
        } else {
            &[]
        };
        let named = [
            "--model",
            "model",
            "--data",
            "long.jsonl",
            "--max-tokens",
            "100000",
        ];
        let refused = federation.client(&[&[command], &named[..], out].concat());
        assert_eq!(refused.code, Some(64), "{}", refused.text);
        assert!(
            refused.text.contains("long.jsonl:2: the record has"),
            "{}",
            refused.text
        );
    }
}

#[test]
fn an_adapter_that_cannot_be_written_costs_neither_the_training_nor_what_is_in_its_place() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let whole = federation.client(&arguments(&["--out", "whole"]));
    let kept = ["--checkpoint", "state", "--checkpoint-every", "1"];
    let again = arguments(&[&["--out", "out", "--log", "info"], &kept[..]].concat());
    let training = Program::start(PROGRAMS.client, federation.path(), &again);
    training.wait_for("checkpoint written");
    // It was empty when the training began.
    fs::create_dir(federation.file("out")).unwrap();
    federation.write("out/patients.txt", "precious");
    let refused = training.finish();
    assert_eq!(refused.code, Some(1), "{}", refused.text);
    assert!(
        refused.text.contains("out/patients.txt"),
        "{}",
        refused.text
    );
    let precious = fs::read_to_string(federation.file("out/patients.txt")).unwrap();
    assert_eq!(precious, "precious");
    assert!(federation.file("state").exists());
    fs::remove_dir_all(federation.file("out")).unwrap();
    let (whole, again) = (result(&whole.text), result(&federation.client(&again).text));
    assert!(again["resumed_at_step"].as_u64() > Some(0), "{again}");
    assert_eq!(again["adapter_sha256"], whole["adapter_sha256"]);
    assert!(!federation.file("state").exists());
}

#[test]
fn a_place_that_cannot_take_the_adapter_is_refused_before_training() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    fs::create_dir(federation.file("results")).unwrap();
    federation.write("results/patients.txt", "precious");
    for (out, named) in [
        ("results", "results/patients.txt"),
        (".", "\".\""),
        ("hospital-a.jsonl/out", "hospital-a.jsonl"),
    ] {
        // If it trained, it would read this first.
        let more = ["--out", out, "--start", "nowhere"];
        let refused = federation.client(&arguments(&more));
        assert_eq!(refused.code, Some(1), "{}", refused.text);
        assert!(refused.text.contains(named), "{}", refused.text);
        assert!(!refused.text.contains("nowhere"), "{}", refused.text);
    }
    let within = ["--out", "out", "--checkpoint", "out/state"];
    let refused = federation.client(&arguments(&within));
    assert!(refused.text.contains("out/state"), "{}", refused.text);
    let new = ["adapter", "new", "--model", "model", "--out", "results"];
    let refused = federation.client(&new);
    assert_eq!(refused.code, Some(1), "{}", refused.text);
    let precious = fs::read_to_string(federation.file("results/patients.txt")).unwrap();
    assert_eq!(precious, "precious");
}

#[test]
fn a_checkpoint_that_is_damaged_or_of_another_training_is_refused_and_kept() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    fs::write(federation.file("state"), b"no checkpoint").unwrap();
    let refused = federation.client(&arguments(&["--out", "out", "--checkpoint", "state"]));
    assert_eq!(refused.code, Some(1), "{}", refused.text);
    assert!(
        refused.text.contains("cannot go on from state"),
        "{}",
        refused.text
    );
    assert_eq!(
        fs::read(federation.file("state")).unwrap(),
        b"no checkpoint"
    );
}

#[test]
fn patience_ends_a_training_that_no_longer_helps() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    // Held-out text of another kind: what is learned cannot help it for long.
    federation.write("other.jsonl", "{\"text\": \"0123456789 0123456789\"}\n");
    let options = [
        "--out",
        "out",
        "--eval",
        "other.jsonl",
        "--eval-every",
        "2",
        "--patience",
        "2",
        "--learning-rate",
        "0.05",
    ];
    let stopped = federation.client(&arguments(&options));
    let result = result(&stopped.text);
    let (best, steps) = (&result["best_step"], &result["steps"]);
    assert!(steps.as_u64() < Some(120), "{result}");
    assert_eq!(best.as_u64().unwrap() + 4, steps.as_u64().unwrap());
}

#[test]
fn answers_of_a_trained_model_are_more_often_as_wanted_and_text_that_asks_nothing_is_refused() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    // Two questions, so often that even a tiny model knows the answers.
    let records = "{\"prompt\": \"Well?\", \"completion\": \"Yes.\"}\n{\"prompt\": \"Ill?\", \"completion\": \"No.\"}\n";
    federation.write("hospital-a.jsonl", records);
    let evaluate = |data: &str, adapter: &[&str]| {
        let command = [
            "evaluate", "--model", "model", "--device", "cpu", "--json", "--data", data,
        ];
        let answers = ["--answers", "9", "--max-new-tokens", "12"];
        federation.client(&[&command[..], &answers, adapter].concat())
    };
    let learned = [
        "--learning-rate",
        "2e-2",
        "--dropout",
        "0",
        "--out",
        "adapter",
    ];
    let learned = [
        &learned[..],
        &[
            "--target-modules",
            "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
        ],
    ];
    assert_success(&federation.client(&arguments(&learned.concat())));
    let [base, trained] = [&[][..], &["--adapter", "adapter"]].map(|adapter| {
        let scores = result(&evaluate("hospital-a.jsonl", adapter).text);
        assert_eq!(scores["answers"]["answers"], 2, "{scores}");
        scores["answers"].clone()
    });
    assert_eq!(
        (&base["exact"], &trained["exact"]),
        (&0.into(), &2.into()),
        "{base} {trained}"
    );
    federation.write("text.jsonl", "{\"text\": \"nothing is asked\"}\n");
    let refused = evaluate("text.jsonl", &[]);
    assert_eq!(refused.code, Some(64), "{}", refused.text);
    assert!(
        refused.text.contains("text.jsonl asks nothing"),
        "{}",
        refused.text
    );
}
