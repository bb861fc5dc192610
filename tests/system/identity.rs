//! Who gets in, and what both sides say about those who do not.

use tests::{Federation, assert_success};

use crate::PROGRAMS;

#[test]
fn a_client_of_another_authority_is_refused_and_named() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let impostors = Federation::create(PROGRAMS, &["bank-x"]);
    for file in ["bank-x.crt", "bank-x.key", "bank-x.jsonl"] {
        std::fs::copy(impostors.file(file), federation.file(file)).unwrap();
    }
    federation.write_client("bank-x", "bank-x");
    let (server, address) = federation.start_server(1, &[]);
    let finished = federation.start_client("bank-x", &address).finish();
    assert_ne!(finished.code, Some(0), "{}", finished.text);
    assert!(server.wait_for("handshake rejected").contains("bank-x"));
    assert_success(&federation.start_client("hospital-a", &address).finish());
    assert_success(&server.finish());
}

#[test]
fn a_revoked_client_is_refused_and_named() {
    let federation = Federation::create(PROGRAMS, &["hospital-a", "bank-b"]);
    federation.certs(&["revoke", "bank-b"]);
    let (server, address) = federation.start_server(1, &[]);
    let finished = federation.start_client("bank-b", &address).finish();
    assert_ne!(finished.code, Some(0), "{}", finished.text);
    assert!(finished.text.contains("revoked"), "{}", finished.text);
    let line = server.wait_for("handshake rejected");
    assert!(
        line.contains("bank-b") && line.contains("revoked"),
        "{line}"
    );
    assert_success(&federation.start_client("hospital-a", &address).finish());
    assert_success(&server.finish());
}

#[test]
fn a_participants_certificate_does_not_pass_for_a_server() {
    let federation = Federation::create(PROGRAMS, &["hospital-a", "bank-b"]);
    let settings = [
        "--config",
        "server.toml",
        "--check",
        "--set",
        "identity.certificate=bank-b.crt",
        "--set",
        "identity.key=bank-b.key",
    ];
    // Writes server.toml; the honest server itself is not needed.
    drop(federation.start_server(1, &[]));
    let finished = federation.server(&settings);
    assert_eq!(finished.code, Some(78), "{}", finished.text);
    assert!(finished.text.contains("participant"), "{}", finished.text);
}

#[test]
fn a_servers_certificate_does_not_pass_for_a_participant() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    federation.write_client("hub-client", "hub");
    federation.write("hub-client.jsonl", "{\"text\": \"x\"}\n");
    let (server, address) = federation.start_server(1, &[]);
    let finished = federation.start_client("hub-client", &address).finish();
    assert_eq!(finished.code, Some(78), "{}", finished.text);
    assert!(finished.text.contains("participant"), "{}", finished.text);
    drop(server);
}
