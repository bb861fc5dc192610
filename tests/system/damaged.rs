//! A journal that the server cannot trust, between two processes of a run: it is named, nothing is lost, and with the right one the run
//! goes on.

use std::fs;

use tests::{Federation, assert_success};

use crate::PROGRAMS;
use crate::crash::{NAMES, SETTINGS, adapter, whole};

const JOURNAL: &str = "runs/trial/journal.redb";
const ADVICE: &str = "restore the run's folder from a backup, or choose another run.name";

/// The run's lines that must not be lost.
fn lines(federation: &Federation) -> [Vec<u8>; 2] {
    ["rounds.jsonl", "transcript.jsonl"]
        .map(|name| fs::read(federation.file("runs/trial").join(name)).unwrap())
}

#[test]
fn a_journal_that_is_damaged_or_an_older_one_is_named_and_nothing_is_lost() {
    let federation = Federation::create(PROGRAMS, &NAMES);
    let journal = federation.file(JOURNAL);
    let (server, address) = federation.start_server(2, &SETTINGS);
    let old = fs::read(&journal).unwrap();
    let clients = NAMES.map(|name| federation.start_client(name, &address));
    // Its lines are written once its adapter is.
    server.wait_for("round finished");
    federation.wait_for_file("runs/trial/transcript.jsonl");
    server.kill();
    let (whole_journal, before) = (fs::read(&journal).unwrap(), lines(&federation));

    let mut flipped = whole_journal.clone();
    let digit = b"\"adapter_sha256\":\"";
    for place in 0..flipped.len() - digit.len() {
        if flipped[place..].starts_with(digit) {
            flipped[place + digit.len()] ^= 1;
        }
    }
    let listen = format!("listen={address}");
    let settings = [&SETTINGS[..], &[listen.as_str()]].concat();
    let cases = [
        ("no database", b"an operator's notes".to_vec(), "is damaged"),
        ("cut off", whole_journal[..10_000].to_vec(), "is damaged"),
        ("a flipped bit", flipped, "is damaged"),
        (
            "a backup",
            old,
            "rounds.jsonl tells of 1 rounds and the journal of 0",
        ),
    ];
    for (what, bytes, says) in cases {
        fs::write(&journal, bytes).unwrap();
        let refused = federation.restart_server(&settings).finish();
        assert_eq!(refused.code, Some(1), "{what}: {}", refused.text);
        let last = refused.text.lines().last().unwrap_or_default();
        for part in [JOURNAL, says, ADVICE] {
            assert!(last.contains(part), "{what}: no {part:?} in {last}");
        }
        assert_eq!(lines(&federation), before, "{what}");
    }

    fs::write(&journal, whole_journal).unwrap();
    let server = federation.restart_server(&settings);
    for client in clients {
        assert_success(&client.finish());
    }
    assert_success(&server.finish());
    assert!(adapter(&federation) == whole(), "another adapter");
}
