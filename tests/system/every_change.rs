//! Programs that die before a chosen change to their files, each run before a later one, killed or with the power of their machine:
//! it comes to the same adapter, byte for byte.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use tests::{Cause, Death, Federation, Finished, Program, assert_success};

use crate::PROGRAMS;
use crate::crash::{NAMES, SETTINGS, adapter, restarted, whole, whole_in};

/// Every how many changes there is a death; `FOEDUS_DEATHS=1` has one at each.
fn stride(usual: usize) -> usize {
    std::env::var("FOEDUS_DEATHS").map_or(usual, |stride| {
        stride.parse().expect("FOEDUS_DEATHS is a number")
    })
}

/// What the deaths of a test are by, in turn; `FOEDUS_DEATHS_BY=kill`, `power-cut` or `torn-names` has them all by that.
fn causes() -> impl Iterator<Item = Cause> {
    let asked = std::env::var("FOEDUS_DEATHS_BY").ok();
    let mut causes = Cause::ALL.to_vec();
    causes.retain(|cause| asked.as_ref().is_none_or(|asked| cause.name() == asked));
    assert!(!causes.is_empty(), "FOEDUS_DEATHS_BY is no cause of death");
    causes.into_iter().cycle()
}

fn was_killed(finished: &Finished) -> bool {
    if finished.code.is_some() {
        assert_success(finished);
    }
    finished.code.is_none()
}

/// One run whose server dies and is started again. Gives its adapter, and whether the server lived to the point of its death.
fn server_dies(death: &Death) -> (Vec<u8>, bool) {
    server_dies_in(&Federation::create(PROGRAMS, &NAMES), death)
}

/// The same with updates so large that each has a file of its own.
fn server_of_large_updates_dies(death: &Death) -> (Vec<u8>, bool) {
    server_dies_in(&Federation::create_wide(PROGRAMS, &NAMES), death)
}

fn server_dies_in(federation: &Federation, death: &Death) -> (Vec<u8>, bool) {
    let (first, address) = federation.start_dying_server(2, &SETTINGS, death);
    let Some(address) = address else {
        assert!(was_killed(&first.finish()));
        let (server, address) = federation.start_server(2, &SETTINGS);
        return (finish(federation, server, &address), true);
    };
    let clients = NAMES.map(|name| federation.start_client(name, &address));
    if !was_killed(&first.finish()) {
        return (adapter(federation), false);
    }
    let listen = format!("listen={address}");
    let settings = [&SETTINGS[..], &[listen.as_str()]].concat();
    // None if it died after its last word.
    if let Some(server) = restarted(federation, &settings) {
        for client in clients {
            assert_success(&client.finish());
        }
        assert_success(&server.finish());
    }
    (adapter(federation), true)
}

fn finish(federation: &Federation, server: Program, address: &str) -> Vec<u8> {
    for client in NAMES.map(|name| federation.start_client(name, address)) {
        assert_success(&client.finish());
    }
    assert_success(&server.finish());
    adapter(federation)
}

/// One run of which a client dies and is started again.
fn client_dies(death: &Death) -> (Vec<u8>, bool) {
    let federation = Federation::create(PROGRAMS, &NAMES);
    let (server, address) = federation.start_server(2, &SETTINGS);
    let other = federation.start_client(NAMES[0], &address);
    let victim = federation.start_dying_client(NAMES[1], &address, death);
    let has_died = was_killed(&victim.finish());
    if has_died {
        ledger_covers(&federation, &server.said());
    }
    // The server does not wait for one that died with the final adapter in its hands; the others do not either.
    let again = has_died.then(|| federation.start_client(NAMES[1], &address));
    assert_success(&other.finish());
    assert_success(&server.finish());
    drop(again);
    (adapter(&federation), has_died)
}

/// Asserts that the ledger of a client that died just now is whole and names every update that the server has from it.
fn ledger_covers(federation: &Federation, server_said: &str) {
    let name = format!("{}-adapter.ledger", NAMES[1]);
    if !federation.file(&name).exists() {
        assert!(!server_said.contains(NAMES[1]), "{server_said}");
        return;
    }
    let config = format!("{}.toml", NAMES[1]);
    assert_success(&federation.client(&["ledger", "verify", "--config", &config]));
    let entries = federation.json_lines(&name);
    let is_accepted = |line: &&str| line.contains("update accepted") && line.contains(NAMES[1]);
    for line in server_said.lines().filter(is_accepted) {
        let line: serde_json::Value = serde_json::from_str(line).expect("a log line is JSON");
        let round = line["round"].as_str().map(str::parse);
        let round: u32 = round.expect("it names the round").expect("by its number");
        let is_of_round =
            |entry: &serde_json::Value| entry["purpose"] == "update" && entry["round"] == round;
        assert!(
            entries.iter().any(is_of_round),
            "round {round} is not in {entries:?}"
        );
    }
}

/// Has a program die before the first, the next and so on change, until it lives to its end.
#[expect(
    clippy::print_stdout,
    reason = "a failure is found again by its number"
)]
fn comes_to_the_same_adapter(
    below: &'static str,
    stride: usize,
    expected: &[u8],
    run: impl Fn(&Death) -> (Vec<u8>, bool),
) {
    for (at, by) in (1..).step_by(stride).zip(causes()) {
        let death = Death { at, below, by };
        println!("{death:?}");
        let (found, has_died) = run(&death);
        assert!(found == expected, "another adapter after {death:?}");
        if !has_died {
            assert!(1 < at, "nothing below {below} was ever changed");
            return;
        }
    }
}

#[test]
fn a_server_that_dies_before_any_write_to_its_journal_comes_to_the_same_adapter() {
    comes_to_the_same_adapter("/journal.redb", stride(8), &whole(), server_dies);
}

/// Its file is made, with what tells whose it is, in more changes than these.
#[test]
fn a_server_that_dies_while_it_makes_its_journal_comes_to_the_same_adapter() {
    let (expected, below) = (whole(), "/journal.redb");
    for (at, by) in (1..=10).zip(causes()) {
        let death = Death { at, below, by };
        let (found, has_died) = server_dies(&death);
        assert!(has_died, "there is no change {at} below {below}");
        assert!(found == expected, "another adapter after {death:?}");
    }
}

#[test]
fn a_server_that_dies_before_any_change_in_its_folder_comes_to_the_same_adapter() {
    comes_to_the_same_adapter("/runs/", stride(24), &whole(), server_dies);
}

/// Those of all participants that wait together are written to one file.
#[test]
fn a_server_that_dies_before_any_change_to_its_small_updates_comes_to_the_same_adapter() {
    comes_to_the_same_adapter("/updates", stride(4), &whole(), server_dies);
}

#[test]
fn a_server_that_dies_before_any_change_to_its_large_updates_comes_to_the_same_adapter() {
    let federation = Federation::create_wide(PROGRAMS, &NAMES);
    let expected = whole_in(&federation, &SETTINGS);
    comes_to_the_same_adapter(
        "/updates",
        stride(24),
        &expected,
        server_of_large_updates_dies,
    );
}

#[test]
fn a_client_that_dies_before_any_change_in_its_folder_comes_to_the_same_adapter() {
    comes_to_the_same_adapter("/bank-b-adapter", stride(8), &whole(), client_dies);
}
