//! A client on a slow link that is killed while an adapter comes to it, or while its update leaves, or that is revoked meanwhile.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use simulations::bench::{Relay, Traffic, Weather};
use tests::{Federation, assert_success};

use crate::PROGRAMS;

/// So slow that the adapter takes seven seconds, with little under way at a time: what came in the last second before a kill may be
/// lost.
const WEATHER: Weather = Weather {
    bytes_per_second: Some(450_000),
    delay: Duration::from_millis(5),
    queue: Duration::from_millis(150),
    loss: 0.0,
};
const SETTINGS: [&str; 3] = [
    "cohort.participants=[\"hospital-a\"]",
    "run.rounds=1",
    "run.transfer=\"f32\"",
];

/// Waits until so much was carried in all in the direction that `way` looks at.
fn carried(relay: &Relay, way: impl Fn(Traffic) -> u64, bytes: u64) {
    for _ in 0..40_000 {
        if bytes <= way(relay.traffic()) {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("{:?} of {bytes} bytes were carried", relay.traffic());
}

/// A federation of such clients with a wide model, and the length of its adapter.
fn wide(names: &[&str]) -> (Federation, u64) {
    let federation = Federation::create_wide(PROGRAMS, names);
    let tensors = federation.file("start/adapter_model.safetensors");
    let bytes = fs::metadata(tensors).expect("the start adapter exists");
    (federation, bytes.len())
}

/// A slow link to a server.
fn slow(address: &str) -> Relay {
    let address = address.parse().expect("the server listens at an address");
    Relay::open(address, WEATHER, 1).expect("a relay can be opened")
}

#[test]
fn a_client_killed_in_mid_download_is_sent_only_the_rest() {
    let (federation, bytes) = wide(&["hospital-a"]);
    let (server, address) = federation.start_server(1, &SETTINGS);
    let relay = slow(&address);
    let near = relay.address().to_string();
    for part in [1, 2] {
        let client = federation.start_client("hospital-a", &near);
        carried(&relay, |traffic| traffic.down, bytes * part / 3);
        client.kill();
    }
    let client = federation.start_client("hospital-a", &near);
    client.wait_for("goes on where it broke off");
    assert_success(&client.finish());
    assert_success(&server.finish());
    let down = relay.traffic().down as f64 / (2 * bytes) as f64;
    // The adapter and the final one once each, headers and what was under way at two kills included; with the adapter from its
    // beginning each time it would be more than 1.5.
    assert!(down < 1.25, "{down} of what had to be sent");
    assert!(
        !federation
            .file("hospital-a-adapter.state.arriving")
            .exists()
    );
}

/// Whoever of the two is killed: the update is trained once, and what the server has of it is not sent again.
#[test]
fn an_update_goes_on_where_it_broke_off_when_client_or_server_was_killed_in_its_midst() {
    let (federation, bytes) = wide(&["hospital-a"]);
    let (server, address) = federation.start_server(1, &SETTINGS);
    let relay = slow(&address);
    let near = relay.address().to_string();
    let up = |traffic: Traffic| traffic.up;

    let first = federation.start_client("hospital-a", &near);
    first.wait_for("trained");
    let before = relay.traffic().up;
    carried(&relay, up, before + bytes / 3);
    first.kill();
    let second = federation.start_client("hospital-a", &near);
    carried(&relay, up, before + bytes * 2 / 3);
    server.kill();
    let listen = format!("listen={address}");
    let server = federation.restart_server(&[&SETTINGS[..], &[listen.as_str()]].concat());
    let second = second.finish();
    assert_success(&second);
    assert_success(&server.finish());
    assert!(!second.text.contains("trained"), "{}", second.text);
    let up = (relay.traffic().up - before) as f64 / bytes as f64;
    // With the update from its beginning each time it would be more than 1.9.
    assert!(up < 1.5, "{up} of the update was sent");
}

#[test]
fn a_client_that_is_revoked_in_mid_upload_is_cut_off_within_five_seconds_and_the_round_goes_on() {
    let (federation, bytes) = wide(&["hospital-a", "bank-b"]);
    let both = "cohort.participants=[\"hospital-a\", \"bank-b\"]";
    let settings = [both, SETTINGS[1], SETTINGS[2]];
    let (server, address) = federation.start_server(1, &settings);
    let relay = slow(&address);
    let stays = federation.start_client("hospital-a", &address);
    let goes = federation.start_client("bank-b", &relay.address().to_string());
    goes.wait_for("trained");
    let before = relay.traffic().up;
    carried(&relay, |traffic| traffic.up, before + bytes / 3);

    federation.certs(&["revoke", "bank-b"]);
    let revoked = Instant::now();
    let goes = goes.finish();
    let seconds = revoked.elapsed().as_secs_f64();
    assert_eq!(goes.code, Some(78), "{}", goes.text);
    assert!(goes.text.contains("revoked"), "{}", goes.text);
    assert!(seconds < 5.0, "it was cut off after {seconds} s");
    assert!(relay.traffic().up < before + bytes, "all of it had left");
    assert_success(&stays.finish());
    assert_success(&server.finish());
    let rounds = federation.json_lines("runs/trial/rounds.jsonl");
    assert_eq!(rounds[0]["missing"], serde_json::json!(["bank-b"]));
}
