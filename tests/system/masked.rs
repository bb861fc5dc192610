//! Secure aggregation through the real programs: the server never has an update, and a run that is killed and goes on comes to the
//! same bytes as one without masks in the same ring.

use std::fs;
use std::thread;
use std::time::Duration;

use tests::{Federation, Program, assert_success};

use crate::PROGRAMS;

pub(crate) const NAMES: [&str; 3] = ["hospital-a", "bank-b", "clinic-c"];
const SETTINGS: [&str; 4] = [
    "cohort.participants=[\"hospital-a\", \"bank-b\", \"clinic-c\"]",
    "run.rounds=3",
    "training.local_steps=6",
    "limits.participants_max=3",
];
/// The settings of a run whose updates are masked.
pub(crate) const MASKED_SETTINGS: [&str; 5] =
    [SETTINGS[0], SETTINGS[1], SETTINGS[2], SETTINGS[3], MASKED];
const MASKED: &str = "secure_aggregation.enabled=true";
const PLAIN: &str = "ring.enabled=true";
/// How long after the beginning of an attempt the server is killed, in milliseconds. Once: participants that wait for a server
/// notice only after half a minute of silence that it is another.
const DELAYS: [u64; 1] = [15];

fn start(federation: &Federation, sums: &str) -> (Program, String, Vec<Program>) {
    let settings: Vec<&str> = SETTINGS.into_iter().chain([sums]).collect();
    let (server, address) = federation.start_server(3, &settings);
    let clients = NAMES.map(|name| federation.start_client(name, &address));
    (server, address, clients.into())
}

/// The final adapter's bytes, after looking at what the rounds tell.
pub(crate) fn adapter(federation: &Federation, is_masked: bool) -> Vec<u8> {
    let rounds = federation.json_lines("runs/trial/rounds.jsonl");
    assert_eq!(rounds.len(), 3);
    for round in &rounds {
        let counted = round["participants"].as_array().expect("a list");
        assert_eq!(counted.len(), 3, "{round}");
        let weights = counted.iter().map(|one| one["weight"].as_u64());
        assert!(
            weights
                .into_iter()
                .all(|weight| (weight == Some(0)) == is_masked),
            "{round}"
        );
        assert_eq!(
            round["secure"]["threshold"].as_u64(),
            is_masked.then_some(3),
            "{round}"
        );
    }
    fs::read(federation.file("runs/trial/adapter/adapter_model.safetensors"))
        .expect("a finished run has its adapter")
}

/// One run that nobody is killed in; gives the server's address.
fn run_whole(federation: &Federation, sums: &str) -> String {
    let (server, address, clients) = start(federation, sums);
    for client in clients {
        assert_success(&client.finish());
    }
    assert_success(&server.finish());
    address
}

/// One run without masks that nobody is killed in.
pub(crate) fn plain() -> Vec<u8> {
    let federation = Federation::create(PROGRAMS, &NAMES);
    run_whole(&federation, PLAIN);
    adapter(&federation, false)
}

/// One masked run whose server is killed in the midst of attempts; returns how often that was.
fn killed() -> (Vec<u8>, usize) {
    let federation = Federation::create(PROGRAMS, &NAMES);
    let (mut server, address, clients) = start(&federation, MASKED);
    let listen = format!("listen={address}");
    let settings = [&MASKED_SETTINGS[..], &[listen.as_str()]].concat();
    let mut kills = 0;
    for delay in DELAYS {
        let line = server.wait_for_any(&["secure aggregation begins", "run finished"]);
        if line.contains("run finished") {
            break;
        }
        thread::sleep(Duration::from_millis(delay));
        server.kill();
        kills += 1;
        server = federation.restart_server(&settings);
        let line = server.wait_for_any(&["\"listening\"", "finished run"]);
        if line.contains("finished run") {
            // It was killed after its last word.
            return (adapter(&federation, true), kills);
        }
    }
    for client in clients {
        assert_success(&client.finish());
    }
    assert_success(&server.finish());
    (adapter(&federation, true), kills)
}

#[test]
fn a_masked_run_whose_server_is_killed_in_attempts_comes_to_the_bytes_of_a_plain_one() {
    let (found, kills) = killed();
    assert_eq!(kills, DELAYS.len());
    assert!(found == plain(), "another adapter after {kills} kills");
}

/// S7: a server that shows a run from its beginning once more asks for sums of which single updates could be told, if somebody were
/// missing in one of them.
#[test]
fn a_masked_run_that_is_shown_again_is_opened_by_nobody() {
    let federation = Federation::create(PROGRAMS, &NAMES);
    let address = run_whole(&federation, MASKED);
    let (run, before) = ("runs/trial", "runs/before");
    fs::rename(federation.file(run), federation.file(before)).unwrap();
    let listen = format!("listen={address}");
    let settings = [&MASKED_SETTINGS[..], &[listen.as_str()]].concat();
    let server = federation.restart_server(&settings);
    server.wait_for("\"listening\"");
    for client in NAMES.map(|name| federation.start_client(name, &address)) {
        client.wait_for("a sum of this round, or of a later one, was opened before");
        assert_ne!(client.finish().code, Some(0));
    }
}
