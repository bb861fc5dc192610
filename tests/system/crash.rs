//! `kill -9` of the server or of a client at random instants: the run comes to the same adapter, byte for byte.

use std::fs;
use std::thread;
use std::time::Duration;

use tests::{Federation, Program, assert_success};

use crate::PROGRAMS;

pub(crate) const NAMES: [&str; 2] = ["hospital-a", "bank-b"];
pub(crate) const SETTINGS: [&str; 4] = [
    "cohort.participants=[\"hospital-a\", \"bank-b\"]",
    "run.rounds=3",
    "training.local_steps=6",
    // A server that was started again waits so long for its participants, also for those that have the final adapter already and
    // did not get to say so: they do not come back.
    "cohort.join_deadline=20s",
];
/// Kills of the server, and of a client, in all runs of a test together: a hundred. `FOEDUS_KILLS` asks for more.
const KILLS: u32 = 50;
/// The same of what only changes how updates or adapters travel or are merged.
const KILLS_OF_ANOTHER_FORM: u32 = 6;

/// SplitMix64: the same instants on every machine, as far as a machine keeps time.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// One run that nobody is killed in.
pub(crate) fn whole() -> Vec<u8> {
    whole_with(&NAMES, &SETTINGS)
}

fn whole_with(names: &[&str], settings: &[&str]) -> Vec<u8> {
    run_whole(&Federation::create(PROGRAMS, names), names, settings)
}

/// One run of a federation of [`NAMES`] that nobody is killed in.
pub(crate) fn whole_in(federation: &Federation, settings: &[&str]) -> Vec<u8> {
    run_whole(federation, &NAMES, settings)
}

fn run_whole(federation: &Federation, names: &[&str], settings: &[&str]) -> Vec<u8> {
    let (server, address) = federation.start_server(names.len() as u32, settings);
    let clients = names
        .iter()
        .map(|name| federation.start_client(name, &address));
    for client in clients.collect::<Vec<_>>() {
        assert_success(&client.finish());
    }
    assert_success(&server.finish());
    adapter_of(federation, names.len())
}

/// Lets a process live for a while: longer and longer, so that the run comes to its end.
fn live(state: &mut u64, kills: u32) {
    let most = 300 + 150 * u64::from(kills);
    thread::sleep(Duration::from_millis(next(state) % most));
}

/// One run whose server is killed again and again; returns its adapter and how often that was.
fn server_killed(names: &[&str], settings: &[&str], seed: u64) -> (Vec<u8>, u32) {
    let federation = Federation::create(PROGRAMS, names);
    let (mut server, address) = federation.start_server(names.len() as u32, settings);
    let listen = format!("listen={address}");
    let settings = [settings, &[listen.as_str()]].concat();
    let clients = names
        .iter()
        .map(|name| federation.start_client(name, &address));
    let mut clients: Vec<_> = clients.collect();
    let (mut state, mut kills) = (seed, 0);
    loop {
        live(&mut state, kills);
        // Nothing more happens once all clients have what they came for.
        if server.has_ended() || clients.iter_mut().all(Program::has_ended) {
            break;
        }
        server.kill();
        kills += 1;
        match restarted(&federation, &settings) {
            Some(again) => server = again,
            // It was killed after its last word.
            None => return (adapter_of(&federation, names.len()), kills),
        }
    }
    for client in clients {
        assert_success(&client.finish());
    }
    assert_success(&server.finish());
    (adapter_of(&federation, names.len()), kills)
}

/// One run of which a client is killed again and again.
fn client_killed(_: &[&str], settings: &[&str], seed: u64) -> (Vec<u8>, u32) {
    let federation = Federation::create(PROGRAMS, &NAMES);
    let (mut server, address) = federation.start_server(2, settings);
    let [other, mut victim] = NAMES.map(|name| federation.start_client(name, &address));
    let (mut state, mut kills) = (seed, 0);
    loop {
        live(&mut state, kills);
        if victim.has_ended() || server.has_ended() {
            break;
        }
        victim.kill();
        kills += 1;
        victim = federation.start_client(NAMES[1], &address);
    }
    // The victim may have been killed with the final adapter in its hands; the server does not wait for it then.
    assert_success(&other.finish());
    assert_success(&server.finish());
    (adapter(&federation), kills)
}

/// Starts the server again, unless its run was finished.
pub(crate) fn restarted(federation: &Federation, settings: &[&str]) -> Option<Program> {
    let finished = federation.file("runs/trial/adapter").exists();
    let server = federation.restart_server(settings);
    let line = server.wait_for_any(&["\"listening\"", "finished run"]);
    if line.contains("finished run") {
        assert!(finished, "a run that is not finished: {line}");
        return None;
    }
    Some(server)
}

pub(crate) fn adapter(federation: &Federation) -> Vec<u8> {
    adapter_of(federation, NAMES.len())
}

/// The adapter of a finished run in whose rounds so many updates counted.
fn adapter_of(federation: &Federation, participants: usize) -> Vec<u8> {
    let rounds = federation.json_lines("runs/trial/rounds.jsonl");
    assert_eq!(rounds.len(), 3);
    for round in &rounds {
        let counted = round["participants"].as_array().map(Vec::len);
        assert_eq!(counted, Some(participants), "{round}");
    }
    let verify = ["transcript", "verify", "runs/trial"];
    let authority = ["--authority", "authority/ca.crt"];
    assert_success(&federation.server(&[&verify[..], &authority[..]].concat()));
    fs::read(federation.file("runs/trial/adapter/adapter_model.safetensors"))
        .expect("a finished run has its adapter")
}

/// Runs with other seeds until there were kills enough.
#[expect(clippy::print_stdout, reason = "a failure is found again by its seed")]
fn comes_to_the_same_adapter(
    (names, settings): (&[&str], &[&str]),
    kills: u32,
    run: impl Fn(&[&str], &[&str], u64) -> (Vec<u8>, u32),
) {
    let expected = whole_with(names, settings);
    let enough = std::env::var("FOEDUS_KILLS").map_or(kills, |kills| {
        kills.parse().expect("FOEDUS_KILLS is a number")
    });
    let (mut kills, mut seed) = (0, 0);
    while kills < enough {
        seed += 1;
        println!("seed {seed}");
        let (found, more) = run(names, settings, seed);
        assert!(
            found == expected,
            "seed {seed}: another adapter after {more} kills"
        );
        kills += more;
    }
    println!("{kills} kills in {seed} runs");
}

#[test]
fn a_server_killed_at_random_instants_comes_to_the_same_adapter() {
    comes_to_the_same_adapter((&NAMES, &SETTINGS), KILLS, server_killed);
}

#[test]
fn a_client_killed_at_random_instants_comes_to_the_same_adapter() {
    comes_to_the_same_adapter((&NAMES, &SETTINGS), KILLS, client_killed);
}

/// What rounding cut off of one update is in the next, also when another process makes that.
#[test]
fn parties_killed_while_updates_are_rounded_to_int8_come_to_the_same_adapter() {
    let settings = [&SETTINGS[..], &["run.transfer=\"int8\""]].concat();
    comes_to_the_same_adapter((&NAMES, &settings), KILLS_OF_ANOTHER_FORM, client_killed);
    comes_to_the_same_adapter((&NAMES, &settings), KILLS_OF_ANOTHER_FORM, server_killed);
}

/// Under deltas the adapter before is on the client's disk, and the server makes a delta again that it had made.
#[test]
fn parties_killed_while_adapters_come_as_deltas_come_to_the_same_adapter() {
    let settings = [&SETTINGS[..], &["run.download=\"delta\""]].concat();
    assert!(whole_with(&NAMES, &settings) == whole(), "another adapter");
    comes_to_the_same_adapter((&NAMES, &settings), KILLS_OF_ANOTHER_FORM, client_killed);
    comes_to_the_same_adapter((&NAMES, &settings), KILLS_OF_ANOTHER_FORM, server_killed);
}

/// What a robust rule looks at together is kept, so a round is formed again from the same updates, in the same order.
#[test]
fn a_server_killed_under_a_robust_strategy_comes_to_the_same_adapter() {
    let names = [NAMES[0], NAMES[1], "clinic-c"];
    let participants = "cohort.participants=[\"hospital-a\", \"bank-b\", \"clinic-c\"]";
    for rule in ["median", "geometric-median"] {
        let rule = format!("strategy.rule=\"{rule}\"");
        let settings = [&[participants], &SETTINGS[1..], &[rule.as_str()]].concat();
        comes_to_the_same_adapter((&names, &settings), KILLS_OF_ANOTHER_FORM, server_killed);
    }
}

/// Its training is not begun anew: the second process has fewer steps to take than the round has.
#[test]
fn a_client_killed_in_mid_round_goes_on_from_its_checkpoint_to_the_same_adapter() {
    let settings = [&SETTINGS[..], &["training.local_steps=200"]].concat();
    let expected = whole_in(&Federation::create(PROGRAMS, &NAMES), &settings);
    let federation = Federation::create(PROGRAMS, &NAMES);
    federation.set_client(NAMES[1], "checkpoint_every = \"50ms\"");
    let (server, address) = federation.start_server(2, &settings);
    let [other, victim] = NAMES.map(|name| federation.start_client(name, &address));
    let kept = "bank-b-adapter.state.training";
    federation.wait_for_file(kept);
    victim.kill();
    let victim = federation.start_client(NAMES[1], &address);
    let line = victim.wait_for("the round goes on from its checkpoint");
    assert!(!line.contains("left=200"), "{line}");
    for program in [other, victim, server] {
        assert_success(&program.finish());
    }
    let is_left = federation.file(kept).exists();
    assert!(!is_left, "it is of no use any more");
    assert!(adapter(&federation) == expected, "another adapter");
}
