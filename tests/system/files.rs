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
fn a_check_of_the_configuration_finds_what_a_run_could_not_use() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let file = |name: &str| federation.file(name);
    let read = |name: &str| fs::read_to_string(file(name)).unwrap();
    let config = read("hospital-a.toml").replace("SERVER", "127.0.0.1:4433");
    federation.write("hospital-a.toml", &config);
    let check = || federation.client(&["run", "--config", "hospital-a.toml", "--check"]);
    assert_sentence(&check(), 0, &["ok"]);
    // Each as it was before the next.
    let text = read("hospital-a.jsonl");
    federation.write("hospital-a.jsonl", &format!("{text}not json\n"));
    assert_sentence(&check(), 1, &["hospital-a.jsonl:13"]);
    federation.write("hospital-a.jsonl", &text);
    let grouped = format!("{config}[privacy]\ngroup_by = \"patient\"\n");
    federation.write("hospital-a.toml", &grouped);
    assert_sentence(&check(), 1, &["hospital-a.jsonl:1", "patient"]);
    federation.write("hospital-a.toml", &config);
    federation.write("hospital-a.jsonl.privacy", "nothing was spent\n");
    assert_sentence(&check(), 1, &["hospital-a.jsonl.privacy"]);
    fs::remove_file(file("hospital-a.jsonl.privacy")).unwrap();
    fs::create_dir(file("hospital-a-adapter")).unwrap();
    federation.write("hospital-a-adapter/notes.txt", "precious");
    assert_sentence(&check(), 78, &["out", "hospital-a-adapter/notes.txt"]);
    fs::remove_dir_all(file("hospital-a-adapter")).unwrap();
    let tokenizer = fs::read(file("model/tokenizer.json")).unwrap();
    fs::write(file("model/tokenizer.json"), &tokenizer[..40]).unwrap();
    assert_sentence(&check(), 1, &["tokenizer"]);
}

#[test]
fn wrong_usage_is_exit_code_64() {
    let federation = Federation::create(PROGRAMS, &[]);
    assert_eq!(federation.client(&["trian"]).code, Some(64));
    assert_eq!(federation.server(&["--confg", "x"]).code, Some(64));
}
