//! Bad files: one clear sentence each, the exit code of the design, never a panic.

use std::fs;

use tests::{Federation, Finished};

use crate::PROGRAMS;

/// The program named the trouble in one sentence and ended with `code`.
fn assert_sentence(finished: &Finished, code: i32, words: &[&str]) {
    assert_eq!(finished.code, Some(code), "{}", finished.text);
    assert!(!finished.text.contains("panicked"), "{}", finished.text);
    for word in words {
        assert!(
            finished.text.contains(word),
            "no {word:?} in: {}",
            finished.text
        );
    }
}

fn evaluate(federation: &Federation, model: &str, data: &str) -> Finished {
    federation.client(&[
        "evaluate", "--model", model, "--data", data, "--device", "cpu",
    ])
}

#[test]
fn a_line_that_is_not_json_is_named_with_file_and_number() {
    let federation = Federation::create(PROGRAMS, &[]);
    federation.write("bad.jsonl", "{\"text\": \"good\"}\nnot json\n");
    assert_sentence(
        &evaluate(&federation, "model", "bad.jsonl"),
        1,
        &["bad.jsonl", "2"],
    );
}

#[test]
fn an_empty_data_set_is_refused() {
    let federation = Federation::create(PROGRAMS, &[]);
    federation.write("empty.jsonl", "\n");
    assert_sentence(
        &evaluate(&federation, "model", "empty.jsonl"),
        1,
        &["empty.jsonl"],
    );
}

#[test]
fn truncated_safetensors_are_refused() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let weights = federation.file("model/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&weights, &bytes[..length]).unwrap();
        assert_sentence(
            &evaluate(&federation, "model", "hospital-a.jsonl"),
            1,
            &["model.safetensors"],
        );
    }
}

#[test]
fn a_truncated_gguf_is_refused() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    for bytes in [
        &b"GGUF"[..],
        b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0",
        b"not a model",
    ] {
        fs::write(federation.file("model.gguf"), bytes).unwrap();
        assert_sentence(
            &evaluate(&federation, "model.gguf", "hospital-a.jsonl"),
            1,
            &["model.gguf"],
        );
    }
}

#[test]
fn an_unknown_key_is_named_with_line_and_column() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    drop(federation.start_server(1, &[]));
    let server = fs::read_to_string(federation.file("server.toml")).unwrap();
    federation.write("server.toml", &format!("{server}qorum = 3\n"));
    let line = format!("server.toml:{}:1", server.lines().count() + 1);
    assert_sentence(
        &federation.server(&["--config", "server.toml", "--check"]),
        78,
        &["qorum", &line],
    );
    let client = fs::read_to_string(federation.file("hospital-a.toml")).unwrap();
    federation.write("hospital-a.toml", &format!("colour = \"blue\"\n{client}"));
    assert_sentence(
        &federation.client(&["run", "--config", "hospital-a.toml", "--check"]),
        78,
        &["hospital-a.toml", "colour", "line 1, column 1"],
    );
}

#[test]
fn wrong_usage_is_exit_code_64() {
    let federation = Federation::create(PROGRAMS, &[]);
    assert_eq!(federation.client(&["trian"]).code, Some(64));
    assert_eq!(federation.server(&["--confg", "x"]).code, Some(64));
}
