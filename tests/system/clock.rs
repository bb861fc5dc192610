//! Wall clocks that are wrong for a while: put ahead or back by weeks or years while real programs run.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::fs;

use tests::{Clock, DAY, Federation, Program, assert_success};

use crate::{
    PROGRAMS,
    crash::{NAMES, SETTINGS, adapter, whole},
};

/// A clock of its own for a program of the federation.
fn clock_for(federation: &Federation, name: &str) -> Clock {
    let folder = federation.file(&format!("clock-of-{name}"));
    fs::create_dir(&folder).unwrap();
    Clock::create(&folder)
}

/// Waits until the server has finished this round.
fn finished(server: &Program, round: u32) {
    server.wait_for_all(&[&format!("\"round\":{round},"), "round finished"]);
}

#[test]
fn clocks_that_jump_by_weeks_cost_no_round_and_change_no_byte() {
    let federation = Federation::create(PROGRAMS, &NAMES);
    let clocks = ["hub", NAMES[0], NAMES[1]].map(|name| clock_for(&federation, name));
    let [of_server, of_one, of_other] = &clocks;
    let (server, address) = federation.start_server_with(2, &SETTINGS, &of_server.environment());
    let one = federation.start_client_with(NAMES[0], &address, &of_one.environment());
    one.wait_for("connected");
    of_server.put_ahead(21 * DAY);
    of_one.put_back(21 * DAY);
    let other = federation.start_client_with(NAMES[1], &address, &of_other.environment());
    finished(&server, 1);
    of_server.put_back(21 * DAY);
    of_one.put_ahead(21 * DAY);
    finished(&server, 2);
    for clock in &clocks {
        clock.put_right();
    }
    for program in [one, other, server] {
        assert_success(&program.finish());
    }
    assert_eq!(adapter(&federation), whole());
    for name in NAMES {
        let config = format!("{name}.toml");
        assert_success(&federation.client(&["ledger", "verify", "--config", &config]));
    }
}

#[test]
fn a_clock_that_is_years_ahead_ends_no_connection_and_lets_nobody_in_until_it_is_right() {
    let federation = Federation::create(PROGRAMS, &NAMES);
    let clock = clock_for(&federation, "hub");
    let (server, address) = federation.start_server_with(2, &SETTINGS, &clock.environment());
    let stays = federation.start_client(NAMES[0], &address);
    server.wait_for("hospital-a");
    clock.put_ahead(2 * 365 * DAY);
    let refused = federation.start_client(NAMES[1], &address).finish();
    assert_eq!(refused.code, Some(78), "{}", refused.text);
    for words in ["bank-b", "has expired or is not valid yet; check the clock"] {
        assert!(refused.text.contains(words), "{}", refused.text);
    }
    clock.put_right();
    let comes = federation.start_client(NAMES[1], &address);
    for program in [stays, comes, server] {
        assert_success(&program.finish());
    }
    assert_eq!(adapter(&federation), whole());
}

#[test]
fn every_new_day_both_sides_warn_of_certificates_that_end_soon() {
    let federation = Federation::create(PROGRAMS, &NAMES);
    let [of_server, of_client] = ["hub", NAMES[0]].map(|name| clock_for(&federation, name));
    // It waits for the other one.
    let settings = ["cohort.participants=[\"hospital-a\", \"bank-b\"]"];
    let (server, address) = federation.start_server_with(2, &settings, &of_server.environment());
    let client = federation.start_client_with(NAMES[0], &address, &of_client.environment());
    client.wait_for("connected");
    for (day, left) in [(340, 24), (350, 14)] {
        of_server.put_ahead(day * DAY);
        of_client.put_ahead(day * DAY);
        for identity in ["server/hub", "participant/hospital-a"] {
            server.wait_for_all(&["expires soon", identity, &format!("\"days\":{left}")]);
            client.wait_for_all(&["expires soon", identity, &format!("days={left}")]);
        }
    }
}
