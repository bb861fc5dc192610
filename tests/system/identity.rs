//! Who gets in, and what both sides say about those who do not.

use std::fs;

use tests::{Federation, assert_success};

use crate::PROGRAMS;

#[test]
fn a_client_of_another_authority_is_refused_and_named() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let impostors = Federation::create(PROGRAMS, &["bank-x"]);
    for file in ["bank-x.crt", "bank-x.key", "bank-x.jsonl"] {
        fs::copy(impostors.file(file), federation.file(file)).unwrap();
    }
    federation.write_client("bank-x", "bank-x");
    let (server, address) = federation.start_server(1, &[]);
    let finished = federation.start_client("bank-x", &address).finish();
    assert_eq!(finished.code, Some(78), "{}", finished.text);
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
    assert_eq!(finished.code, Some(78), "{}", finished.text);
    assert!(finished.text.contains("revoked"), "{}", finished.text);
    let checked = federation.client(&["run", "--config", "bank-b.toml", "--check"]);
    assert_eq!(checked.code, Some(78), "{}", checked.text);
    assert!(checked.text.contains("revoked"), "{}", checked.text);
    let line = server.wait_for("handshake rejected");
    assert!(
        line.contains("bank-b") && line.contains("revoked"),
        "{line}"
    );
    assert_success(&federation.start_client("hospital-a", &address).finish());
    assert_success(&server.finish());
    let checked = federation.client(&["run", "--config", "hospital-a.toml", "--check"]);
    assert_success(&checked);
    assert!(checked.text.contains("days"), "{}", checked.text);
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

#[test]
fn certificates_of_server_and_client_are_renewed_in_mid_run_without_losing_a_round() {
    let federation = Federation::create(PROGRAMS, &["hospital-a", "bank-b"]);
    let cohort = "cohort.participants=[\"hospital-a\", \"bank-b\"]";
    let settings = ["run.rounds=20", "training.local_steps=20", cohort];
    let (server, address) = federation.start_server(2, &settings);
    let stays = federation.start_client("hospital-a", &address);
    let goes = federation.start_client("bank-b", &address);
    server.wait_for("round finished");
    // The round waits for it, however long the rest takes.
    goes.kill();
    // The same key for the client, and another one for the server.
    federation.certs(&["renew", "hospital-a.crt", "--days", "20"]);
    let request = ["request", "--federation", "north-sea", "--role", "server"];
    fs::create_dir(federation.file("next")).unwrap();
    federation.certs(&[&request[..], &["--name", "hub", "--out", "next"]].concat());
    federation.certs(&["sign", "next/hub.csr", "--role", "server", "--name", "hub"]);
    for file in ["hub.key", "hub.crt"] {
        fs::rename(federation.file("next").join(file), federation.file(file)).unwrap();
    }
    stays.wait_for("were read again");
    let line = stays.wait_for("certificate expires soon");
    assert!(line.contains("hospital-a") && line.contains("19"), "{line}");
    server.wait_for("were read again");
    let back = federation.start_client("bank-b", &address);
    for client in [stays, back] {
        assert_success(&client.finish());
    }
    assert_success(&server.finish());
    let rounds = federation.json_lines("runs/trial/rounds.jsonl");
    assert_eq!(rounds.len(), 20);
    for round in &rounds {
        let counted = round["participants"].as_array().map(Vec::len);
        assert_eq!(counted, Some(2), "{round}");
    }
    let show = [
        "transcript",
        "show",
        "runs/trial",
        "--authority",
        "authority/ca.crt",
    ];
    let shown = federation.server(&show);
    assert_success(&shown);
    let signers: std::collections::BTreeSet<_> = shown
        .text
        .lines()
        .filter_map(|line| line.split("certificate ").nth(1)?.split(',').next())
        .collect();
    assert_eq!(signers.len(), 2, "{}", shown.text);
}
