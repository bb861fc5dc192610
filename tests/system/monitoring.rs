//! The port for monitoring of the real server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

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
