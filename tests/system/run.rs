//! A run from its start to its adapter, and what must not stop it.

use std::fs;

use tests::{Federation, assert_success};

use crate::PROGRAMS;

#[test]
fn two_institutions_started_by_hand_complete_a_run() {
    let federation = Federation::create(PROGRAMS, &["hospital-a", "bank-b"]);
    let (server, address) = federation.start_server(2, &[]);
    let clients = ["hospital-a", "bank-b"].map(|name| federation.start_client(name, &address));
    for client in clients {
        assert_success(&client.finish());
    }
    assert_success(&server.finish());

    let rounds = federation.json_lines("runs/trial/rounds.jsonl");
    assert_eq!(rounds.len(), 2);
    for round in &rounds {
        assert_eq!(
            round["participants"].as_array().map(Vec::len),
            Some(2),
            "{round}"
        );
        assert_eq!(
            round["refused"].as_array().map(Vec::len),
            Some(0),
            "{round}"
        );
    }
    let merged = fs::read(federation.file("runs/trial/adapter/adapter_model.safetensors")).unwrap();
    for name in ["hospital-a", "bank-b"] {
        let received =
            fs::read(federation.file(&format!("{name}-adapter/adapter_model.safetensors")))
                .unwrap();
        assert!(
            received == merged,
            "{name} has another adapter than the server"
        );
    }
}

#[test]
fn the_merged_adapter_is_better_than_the_base_on_each_institutions_text() {
    let federation = Federation::create(PROGRAMS, &["hospital-a", "bank-b"]);
    let (server, address) = federation.start_server(2, &["training.local_steps=12"]);
    let clients = ["hospital-a", "bank-b"].map(|name| federation.start_client(name, &address));
    for client in clients {
        assert_success(&client.finish());
    }
    assert_success(&server.finish());
    let loss = |name: &str, adapter: &[&str]| -> f64 {
        let data = format!("{name}.jsonl");
        let mut arguments = vec![
            "evaluate", "--model", "model", "--data", &data, "--device", "cpu", "--json",
        ];
        arguments.extend(adapter);
        let finished = federation.client(&arguments);
        assert_success(&finished);
        let line = finished
            .text
            .lines()
            .find(|line| line.starts_with('{'))
            .expect("a line of JSON");
        serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"]
            .as_f64()
            .unwrap()
    };
    for name in ["hospital-a", "bank-b"] {
        let (base, tuned) = (
            loss(name, &[]),
            loss(name, &["--adapter", "runs/trial/adapter"]),
        );
        assert!(tuned < base, "{name}: {tuned} is not below {base}");
    }
}

#[test]
fn killing_one_client_mid_round_does_not_stop_the_round() {
    let federation = Federation::create(PROGRAMS, &["hospital-a", "bank-b", "bank-c"]);
    let cohort = "cohort.participants=[\"hospital-a\", \"bank-b\", \"bank-c\"]";
    let settings = [
        cohort,
        "training.local_steps=60",
        "cohort.soft_deadline=2s",
        "cohort.stall_limit=1s",
    ];
    let (server, address) = federation.start_server(2, &settings);
    let victim = federation.start_client("bank-c", &address);
    let others = ["hospital-a", "bank-b"].map(|name| federation.start_client(name, &address));
    victim.wait_for("global adapter received");
    victim.kill();
    for client in others {
        assert_success(&client.finish());
    }
    assert_success(&server.finish());
    let rounds = federation.json_lines("runs/trial/rounds.jsonl");
    assert_eq!(rounds.len(), 2);
    let last = rounds.last().unwrap();
    assert_eq!(
        last["participants"].as_array().map(Vec::len),
        Some(2),
        "{last}"
    );
}

#[test]
fn a_client_with_another_base_model_declines_before_training() {
    let federation = Federation::create(PROGRAMS, &["hospital-a", "bank-b"]);
    finetune::tiny::write(&federation.file("other-model"), &finetune::tiny::shape(), 8).unwrap();
    let config = fs::read_to_string(federation.file("bank-b.toml")).unwrap();
    federation.write(
        "bank-b.toml",
        &config.replace("model = \"model\"", "model = \"other-model\""),
    );
    let (server, address) = federation.start_server(1, &["cohort.join_deadline=1s"]);
    let stranger = federation.start_client("bank-b", &address).finish();
    assert_ne!(stranger.code, Some(0), "{}", stranger.text);
    assert!(stranger.text.contains("fingerprint"), "{}", stranger.text);
    assert!(
        !stranger.text.contains("step"),
        "it trained: {}",
        stranger.text
    );
    assert!(server.wait_for("declined the run plan").contains("bank-b"));
    assert_success(&federation.start_client("hospital-a", &address).finish());
    assert_success(&server.finish());
}

#[test]
fn a_client_without_a_server_says_try_again() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let config = fs::read_to_string(federation.file("hospital-a.toml")).unwrap();
    let impatient = config.replace("give_up_after = \"20s\"", "give_up_after = \"300ms\"");
    assert_ne!(impatient, config);
    federation.write("hospital-a.toml", &impatient);
    // Bound by us, and silent.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let finished = federation.start_client("hospital-a", &address).finish();
    assert_eq!(finished.code, Some(75), "{}", finished.text);
}

/// The client is stopped, so that the server waits for it.
#[test]
fn a_server_that_is_interrupted_twice_waits_for_nobody() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let (server, address) = federation.start_server(1, &["training.local_steps=1000"]);
    let client = federation.start_client("hospital-a", &address);
    client.wait_for("step");
    client.signal("STOP");
    server.signal("INT");
    server.wait_for("stopping");
    server.signal("INT");
    assert_eq!(server.finish().code, Some(1));
}

#[test]
fn a_client_whose_update_is_refused_says_why_and_so_does_the_run() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    // Nobody else may come and make up the quorum.
    let settings = [
        "cohort.participants=[\"hospital-a\"]",
        "limits.update_norm_max=0.01",
    ];
    let (server, address) = federation.start_server(1, &settings);
    let client = federation.start_client("hospital-a", &address);
    let line = client.wait_for("update refused");
    assert!(
        line.contains("round=1 ") && line.contains("over-norm"),
        "{line}"
    );
    assert!(
        line.contains("the norm is above the plan's limit"),
        "{line}"
    );
    let client = client.finish();
    assert_eq!(client.code, Some(75), "{}", client.text);
    assert!(
        client.text.contains("the quorum cannot be met"),
        "{}",
        client.text
    );
    let server = server.finish();
    assert_eq!(server.code, Some(75), "{}", server.text);
}
