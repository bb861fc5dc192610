//! Adapters that come as deltas: fewer bytes, the same adapter, whatever is lost or damaged on the way.

use std::fs;
use std::path::Path;

use tests::{Federation, assert_success};

use crate::PROGRAMS;

const NAMES: [&str; 2] = ["hospital-a", "bank-b"];
const COHORT: &str = "cohort.participants=[\"hospital-a\", \"bank-b\"]";
const DELTA: &str = "run.download=\"delta\"";

/// The adapter of a run in which nothing happens, and the bytes sent for each round.
fn run(settings: &[&str]) -> (Vec<u8>, Vec<u64>) {
    let federation = Federation::create_wide(PROGRAMS, &NAMES);
    let settings = [&[COHORT, "run.rounds=3"], settings].concat();
    let (server, address) = federation.start_server(2, &settings);
    let clients = NAMES.map(|name| federation.start_client(name, &address));
    for client in clients {
        assert_success(&client.finish());
    }
    assert_success(&server.finish());
    let rounds = federation.json_lines("runs/trial/rounds.jsonl");
    let down = rounds.iter().map(|round| round["bytes_down"].as_u64());
    (
        adapter(&federation),
        down.map(Option::unwrap_or_default).collect(),
    )
}

fn adapter(federation: &Federation) -> Vec<u8> {
    fs::read(federation.file("runs/trial/adapter/adapter_model.safetensors"))
        .expect("a finished run has its adapter")
}

#[test]
fn rounds_come_as_deltas_and_the_adapter_is_that_of_whole_downloads() {
    for transfer in ["bf16", "f32", "int8"] {
        let transfer = format!("run.transfer=\"{transfer}\"");
        let (expected, whole) = run(&[&transfer]);
        let (found, deltas) = run(&[&transfer, DELTA]);
        assert!(found == expected, "{transfer}: another adapter");
        // The first round starts from an adapter that nobody has anything of.
        assert_eq!(deltas[0], whole[0], "{transfer}");
        for (delta, whole) in deltas.iter().zip(&whole).skip(1) {
            assert!(5 * delta < 4 * whole, "{transfer}: {deltas:?} of {whole:?}");
        }
    }
}

/// What is done to what a killed client keeps of adapters.
#[derive(Clone, Copy, Debug)]
enum Disk {
    Kept,
    Lost,
    Damaged,
}

/// One run in which a client is killed between its update and the next round.
fn killed_before_the_second_round(disk: Disk) -> Vec<u8> {
    let federation = Federation::create_wide(PROGRAMS, &NAMES);
    let settings = [
        COHORT,
        "run.rounds=3",
        "training.local_steps=40",
        "cohort.join_deadline=2min",
        DELTA,
    ];
    let (server, address) = federation.start_server(2, &settings);
    let [victim, other] = NAMES.map(|name| federation.start_client(name, &address));
    server.wait_for("round opened");
    other.kill();
    server.wait_for("update accepted");
    victim.kill();
    let folder = federation.file("hospital-a-adapter.state.arriving");
    match disk {
        Disk::Kept => {}
        Disk::Lost => fs::remove_dir_all(&folder).expect("the folder is there"),
        Disk::Damaged => damage(&folder),
    }
    let other = federation.start_client(NAMES[1], &address);
    let victim = federation.start_client(NAMES[0], &address);
    if let Disk::Damaged = disk {
        victim.wait_for("a delta is of no use; the whole adapter is asked for");
        let line = server.wait_for("sent once more, whole");
        assert!(
            line.contains("base-damaged") && line.contains("hospital-a"),
            "{line}"
        );
    }
    for program in [victim, other, server] {
        assert_success(&program.finish());
    }
    assert!(!folder.exists());
    adapter(&federation)
}

/// Changes a byte in the middle of the one adapter that is kept.
fn damage(folder: &Path) {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let files: Vec<_> = entries
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    let [file] = &files[..] else {
        panic!("{files:?}");
    };
    let mut bytes = fs::read(file).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).expect("it can be written");
}

#[test]
fn a_client_whose_base_is_kept_lost_or_damaged_comes_to_the_same_adapter() {
    let [kept, lost, damaged] =
        [Disk::Kept, Disk::Lost, Disk::Damaged].map(killed_before_the_second_round);
    assert!(kept == lost && kept == damaged, "another adapter");
}
