//! A client that is killed while an adapter comes to it: what it has is not sent again.

use std::{fs, thread, time::Duration};

use simulations::bench::{Relay, Weather};
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

/// Waits until the server has sent this much in all.
fn carried(relay: &Relay, bytes: u64) {
    for _ in 0..20_000 {
        if bytes <= relay.traffic().down {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("{:?} of {bytes} bytes were carried", relay.traffic());
}

#[test]
fn a_client_killed_in_mid_download_is_sent_only_the_rest() {
    let federation = Federation::create_wide(PROGRAMS, &["hospital-a"]);
    let (server, address) = federation.start_server(1, &SETTINGS);
    let address = address.parse().expect("the server listens at an address");
    let relay = Relay::open(address, WEATHER, 1).expect("a relay can be opened");
    let near = relay.address().to_string();
    let tensors = federation.file("start/adapter_model.safetensors");
    let bytes = fs::metadata(tensors)
        .expect("the start adapter exists")
        .len();
    for part in [1, 2] {
        let client = federation.start_client("hospital-a", &near);
        carried(&relay, bytes * part / 3);
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
