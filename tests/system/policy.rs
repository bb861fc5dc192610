//! The institution's side of a run through the real programs: verdict in advance, refusal, and the books afterwards.

use std::fs;

use tests::{Federation, assert_success};

use crate::PROGRAMS;

/// A policy for the federation's tiny model, with this rank at most.
pub(crate) fn write_policy(federation: &Federation, rank_max: u32) {
    let shown = federation.client(&["adapter", "show", "start", "--json"]);
    let shown: serde_json::Value =
        serde_json::from_str(shown.text.lines().last().expect("it says something"))
            .expect("it is JSON");
    let base = shown["base_fingerprint"].as_str().expect("a text");
    federation.write(
        "policy.toml",
        &format!(
            "[model]\nbases = [\"{base}\"]\ntarget_modules = [\"q_proj\", \"v_proj\"]\nrank_max = {rank_max}\n\
             [training]\nrounds_max = 2\nlocal_steps_max = 4\n[cohort]\nmin = 1\n\
             [egress]\nround_max = \"1MiB\"\nday_max = \"4MiB\"\nmetrics = [\"weight\"]\n[secure_aggregation]\nrequired = false\n"
        ),
    );
    let client = fs::read_to_string(federation.file("hospital-a.toml")).expect("it was written");
    if !client.contains("policy") {
        federation.write(
            "hospital-a.toml",
            &format!("policy = \"policy.toml\"\n{client}"),
        );
    }
}

/// Has the client talk to the server at this address.
pub(crate) fn point(federation: &Federation, address: &str) {
    let toml = fs::read_to_string(federation.file("hospital-a.toml")).expect("it was written");
    let old = toml
        .lines()
        .find(|line| line.starts_with("server = "))
        .expect("a client names its server");
    federation.write(
        "hospital-a.toml",
        &toml.replace(old, &format!("server = \"{address}\"")),
    );
}

#[test]
fn verdict_in_advance_is_the_verdict_of_the_run_and_the_books_tell_both() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let (server, address) = federation.start_server(1, &[]);
    let plan = federation.server(&["--config", "server.toml", "--write-plan", "plan.foedus"]);
    assert_success(&plan);
    point(&federation, &address);
    write_policy(&federation, 2);
    let check = [
        "policy",
        "check",
        "plan.foedus",
        "--config",
        "hospital-a.toml",
    ];

    let verdict = federation.client(&check);
    assert_eq!(verdict.code, Some(1), "{}", verdict.text);
    let line = "policy.toml:4: model.rank_max is 2, and the plan's rank is 4";
    assert!(verdict.text.contains(line), "{}", verdict.text);
    let refused = federation.start_client("hospital-a", &address).finish();
    assert_eq!(refused.code, Some(1), "{}", refused.text);
    assert!(refused.text.contains(line), "{}", refused.text);
    drop(server);

    write_policy(&federation, 4);
    assert_success(&federation.client(&check));
    fs::remove_dir_all(federation.file("runs")).unwrap();
    let (server, address) = federation.start_server(1, &[]);
    point(&federation, &address);
    assert_success(&federation.start_client("hospital-a", &address).finish());
    assert_success(&server.finish());

    let config = ["--config", "hospital-a.toml"];
    let verified = federation.client(&[&["ledger", "verify"][..], &config].concat());
    assert_success(&verified);
    assert!(verified.text.contains("refusals: 1"), "{}", verified.text);
    let head = verified
        .text
        .lines()
        .last()
        .unwrap()
        .trim_start_matches("head ")
        .to_owned();
    let shown = federation.client(&[&["ledger", "show"][..], &config].concat());
    assert!(
        shown.text.contains("update of round 2 of run trial"),
        "{}",
        shown.text
    );
    let table = federation.client(&[&["ledger", "export"][..], &config].concat());
    assert_eq!(
        table.text.matches(",transfer,").count(),
        2,
        "{}",
        table.text
    );

    let ledger = federation.file("hospital-a-adapter.ledger");
    let text = fs::read_to_string(&ledger).unwrap();
    let export =
        |csv: &str| federation.client(&[&["ledger", "export", "--csv", csv][..], &config].concat());
    for csv in ["table.csv", "table.csv"] {
        assert_success(&export(csv));
    }
    let over = export("hospital-a-adapter.ledger");
    assert_eq!(over.code, Some(64), "{}", over.text);
    assert_eq!(fs::read_to_string(&ledger).unwrap(), text);
    assert_damage_is_noticed(&federation, &head);
}

/// Cuts a line off the ledger, with and without a head beside it, and changes one.
fn assert_damage_is_noticed(federation: &Federation, head: &str) {
    let config = ["--config", "hospital-a.toml"];
    let ledger = federation.file("hospital-a-adapter.ledger");
    let text = fs::read_to_string(&ledger).unwrap();
    let last = text.trim_end().rfind('\n').unwrap() + 1;
    fs::write(&ledger, &text[..last]).unwrap();
    let verify = || federation.client(&[&["ledger", "verify"][..], &config].concat());
    let cut = verify();
    assert_eq!(cut.code, Some(1), "{}", cut.text);
    assert!(
        cut.text.contains("those after it are missing"),
        "{}",
        cut.text
    );
    let check = federation.client(&[&["run", "--check"][..], &config].concat());
    assert_eq!(check.code, Some(1), "{}", check.text);
    assert!(
        check.text.contains("those after it are missing"),
        "{}",
        check.text
    );
    fs::remove_file(ledger.with_added_extension("head")).unwrap();
    assert!(verify().text.contains("no head is kept beside it"));
    let cut = federation.client(&[&["ledger", "verify", "--head", head][..], &config].concat());
    assert_eq!(cut.code, Some(1), "{}", cut.text);
    fs::write(&ledger, text.replacen("Hello", "Hullo", 1)).unwrap();
    let changed = verify();
    assert_eq!(changed.code, Some(1), "{}", changed.text);
    assert!(changed.text.contains("line 5"), "{}", changed.text);
}
