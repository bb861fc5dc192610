//! The port for monitoring of the real server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use tests::{Federation, Program, assert_success};

use crate::PROGRAMS;

/// The address at which a server that was told to serve metrics does so.
pub(crate) fn address(server: &Program) -> String {
    let line = server.wait_for("\"serving metrics\"");
    let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
    entry["address"].as_str().unwrap().to_owned()
}

/// The body of an answer that is a success.
pub(crate) fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: hub\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    body.to_owned()
}

#[test]
fn a_server_says_who_is_there_warns_of_an_open_port_and_closes_it_with_the_run() {
    let federation = Federation::create(PROGRAMS, &["hospital-a", "bank-b"]);
    let settings = [
        "metrics.listen=0.0.0.0:0",
        "cohort.participants=[\"hospital-a\", \"bank-b\"]",
        "cohort.join_deadline=60s",
    ];
    let (server, at) = federation.start_server(2, &settings);
    let address: SocketAddr = address(&server).parse().unwrap();
    server.wait_for("metrics.listen is not loopback");
    let address = format!("127.0.0.1:{}", address.port());
    let first = federation.start_client("hospital-a", &at);
    server.wait_for("\"joined\"");
    assert_eq!(
        get(&address, "/healthz"),
        "ok: 1 joined, waiting for more\n"
    );
    let page = get(&address, "/metrics");
    for line in [
        "foedus_run_phase{phase=\"joining\"} 1",
        "foedus_participant_joined{participant=\"hospital-a\"} 1",
        "foedus_participant_joined{participant=\"bank-b\"} 0",
    ] {
        assert!(
            page.lines().any(|found| found == line),
            "no {line} in\n{page}"
        );
    }
    let second = federation.start_client("bank-b", &at);
    assert_success(&first.finish());
    assert_success(&second.finish());
    assert_success(&server.finish());
    assert!(TcpStream::connect(&address).is_err());
}

/// The families of counts of datagrams, without their common beginning and end.
const COUNTS: [&str; 5] = [
    "datagrams_sent",
    "datagrams_sent_bytes",
    "datagrams_received",
    "datagrams_received_bytes",
    "packets_lost",
];

/// The counts of all connections, then those of one participant.
fn datagrams(page: &str, name: &str) -> [Vec<f64>; 2] {
    let value = |sample: String| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(&sample));
        line.unwrap_or_else(|| panic!("no {sample} in\n{page}"))
            .parse()
            .unwrap()
    };
    let all = COUNTS.map(|count| value(format!("foedus_{count}_total ")));
    let of = COUNTS.map(|count| {
        value(format!(
            "foedus_participant_{count}_total{{participant=\"{name}\"}} "
        ))
    });
    [all.to_vec(), of.to_vec()]
}

#[test]
fn what_a_connection_cost_is_counted_while_it_is_there_and_after() {
    let federation = Federation::create(PROGRAMS, &["hospital-a", "bank-b"]);
    let settings = [
        "metrics.listen=127.0.0.1:0",
        "cohort.participants=[\"hospital-a\", \"bank-b\"]",
        "cohort.join_deadline=60s",
    ];
    let (server, at) = federation.start_server(2, &settings);
    let address = address(&server);
    let (first, nobody) = ("hospital-a", "bank-b");
    let mut before = vec![0.0; COUNTS.len()];
    let mut there: Option<Program> = None;
    for _ in 0..2 {
        if let Some(client) = there.take() {
            client.kill();
        }
        there = Some(federation.start_client(first, &at));
        let limit = Instant::now() + Duration::from_secs(60);
        // A handshake has 1,200 bytes and more each way, and another process makes one of its own.
        let least = [1.0, 1200.0, 1.0, 1200.0, 0.0];
        let more: Vec<f64> = before
            .iter()
            .zip(least)
            .map(|(one, more)| one + more)
            .collect();
        before = loop {
            let [all, of] = datagrams(&get(&address, "/metrics"), first);
            assert_eq!(all, of, "nobody else was there");
            assert!(is_reached(&before, &of), "{before:?} and then {of:?}");
            if is_reached(&more, &of) {
                break of;
            }
            assert!(Instant::now() < limit, "{first} does not come: {of:?}");
            thread::park_timeout(Duration::from_millis(5));
        };
        let [_, of_nobody] = datagrams(&get(&address, "/metrics"), nobody);
        assert_eq!(of_nobody, [0.0; COUNTS.len()]);
    }
    // The first process's connection ends by the second's, which takes its place.
    server.wait_for("\"disconnected\"");
    let [all, of] = datagrams(&get(&address, "/metrics"), first);
    assert_eq!(all, of);
    assert!(is_reached(&before, &of), "{before:?} and then {of:?}");
}

/// Whether no count is below another.
fn is_reached(least: &[f64], counts: &[f64]) -> bool {
    least
        .iter()
        .zip(counts)
        .all(|(least, count)| least <= count)
}
