//! Private training as processes: what was spent survives kills, and the budget ends training.

mod within_policy;

use std::fs;

use tests::{Federation, Program, assert_success};

use crate::{
    PROGRAMS,
    policy::{point, write_policy},
};

const TRAIN: [&str; 12] = [
    "train",
    "--model",
    "model",
    "--data",
    "hospital-a.jsonl",
    "--device",
    "cpu",
    "--batch-examples",
    "2",
    "--steps",
    "120",
    "--dp",
];

const LEDGER: &str = "hospital-a.jsonl.privacy";

fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&TRAIN, more].concat()
}

/// The line of JSON that a command ends with.
fn result(text: &str) -> serde_json::Value {
    let line = text.lines().find(|line| line.starts_with('{'));
    let line = line.unwrap_or_else(|| panic!("no result in: {text}"));
    serde_json::from_str(line).expect("the result is one line of JSON")
}

fn spent(federation: &Federation) -> (f64, Vec<serde_json::Value>) {
    spent_in(federation, LEDGER)
}

/// Epsilon and the entries of a ledger, as the program shows them.
pub(crate) fn spent_in(federation: &Federation, ledger: &str) -> (f64, Vec<serde_json::Value>) {
    let shown = federation.client(&["privacy", "spent", ledger, "--json"]);
    let shown = result(&shown.text);
    let entries = shown["entries"].as_array().expect("a list").clone();
    (shown["epsilon"].as_f64().expect("a number"), entries)
}

/// The steps in these entries.
pub(crate) fn steps(entries: &[serde_json::Value]) -> u64 {
    entries
        .iter()
        .filter_map(|entry| entry["steps"].as_u64())
        .sum()
}

#[test]
fn a_killed_private_training_has_spent_what_it_began() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let noise = ["--dp-noise", "4", "--dp-epsilon", "100", "--json"];
    let killed = arguments(&[&noise[..], &["--out", "killed", "--log", "info"]].concat());
    let killed = Program::start(PROGRAMS.client, federation.path(), &killed);
    killed.wait_for("private steps counted");
    killed.kill();
    let (first, entries) = spent(&federation);
    let begun = steps(&entries);
    assert!(begun >= 25 && first > 0.0, "{entries:?}");
    let whole = federation.client(&arguments(&[&noise[..], &["--out", "whole"]].concat()));
    assert_success(&whole);
    let (both, entries) = spent(&federation);
    assert_eq!(steps(&entries), begun + 120);
    assert!(both > first);
    assert_eq!(result(&whole.text)["epsilon"].as_f64(), Some(both));
}

#[test]
fn the_same_command_goes_on_with_a_killed_private_training_by_its_own_noise() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let kept = [
        "--checkpoint",
        "state",
        "--checkpoint-every",
        "1",
        "--log",
        "info",
    ];
    let private = ["--dp-epsilon", "20", "--out", "out", "--json"];
    let command = arguments(&[&private[..], &kept].concat());
    let killed = Program::start(PROGRAMS.client, federation.path(), &command);
    killed.wait_for("checkpoint written");
    killed.kill();
    let resumed = federation.client(&command);
    assert_success(&resumed);
    let resumed = result(&resumed.text);
    assert!(resumed["resumed_at_step"].as_u64() > Some(0), "{resumed}");
    // What was counted and lost with the process is missing at the end.
    let (epsilon, entries) = spent(&federation);
    assert!(epsilon <= 20.0, "{epsilon}");
    let noise = |entry: &serde_json::Value| entry["noise_multiplier"].as_f64();
    let first = noise(&entries[0]);
    assert!(
        first.is_some() && entries.iter().all(|entry| noise(entry) == first),
        "{entries:?}"
    );
}

#[test]
fn training_again_on_data_whose_budget_is_spent_is_refused_and_not_done_in_noise() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let first = federation.client(&arguments(&["--out", "first"]));
    assert_success(&first);
    assert!(first.text.contains("noise multiplier "), "{}", first.text);
    let (epsilon, entries) = spent(&federation);
    let again = federation.client(&arguments(&["--out", "again"]));
    assert_eq!(again.code, Some(1), "{}", again.text);
    assert!(
        again.text.contains("next to nothing would be learnt"),
        "{}",
        again.text
    );
    assert!(
        !federation
            .file("again")
            .join("adapter_model.safetensors")
            .exists()
    );
    assert_eq!(spent(&federation), (epsilon, entries));
}

#[test]
fn private_training_stops_before_the_step_that_would_exceed_the_budget() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let budget = ["--dp-noise", "1", "--dp-epsilon", "4", "--out", "out"];
    let stopped = federation.client(&arguments(&[&budget[..], &["--json"]].concat()));
    assert_success(&stopped);
    let stopped = result(&stopped.text);
    assert_eq!(stopped["stopped_by_budget"], true, "{stopped}");
    let taken = stopped["steps"].as_u64().expect("a number");
    assert!(0 < taken && taken < 120, "{stopped}");
    let (epsilon, entries) = spent(&federation);
    assert!(epsilon <= 4.0, "{epsilon}");
    assert_eq!(steps(&entries), taken);
    // Not one step more, whoever asks.
    let refused = federation.client(&arguments(&budget));
    assert_eq!(refused.code, Some(1), "{}", refused.text);
    assert!(refused.text.contains("E_DP_BUDGET"), "{}", refused.text);
    assert_eq!(steps(&spent(&federation).1), taken);
}

#[test]
fn records_without_the_field_of_their_group_are_named_once_and_not_by_a_plan() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let grouped = ["--dp-group-by", "patient", "--out", "out"];
    let refused = federation.client(&arguments(&grouped));
    assert_eq!(refused.code, Some(1), "{}", refused.text);
    assert!(!refused.text.contains("plan"), "{}", refused.text);
    let named = refused.text.matches("hospital-a.jsonl:1: ").count();
    assert_eq!(named, 1, "{}", refused.text);
}

#[test]
fn noise_that_is_not_given_keeps_all_steps_within_epsilon() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let budget = [
        "--dp-epsilon",
        "3",
        "--dp-delta",
        "1e-3",
        "--out",
        "out",
        "--json",
    ];
    let trained = federation.client(&arguments(&budget));
    assert_success(&trained);
    let trained = result(&trained.text);
    assert_eq!(trained["steps"], 120);
    let epsilon = trained["epsilon"].as_f64().expect("a number");
    assert!(2.99 < epsilon && epsilon <= 3.0, "{trained}");
}

/// One private round, long enough to be killed in.
const LONG_ROUND: [&str; 5] = [
    "privacy.enabled=true",
    "privacy.noise_multiplier=2.0",
    "privacy.epsilon_max=1000.0",
    "run.rounds=1",
    "training.local_steps=200",
];

/// Has a client allow far more than a test spends.
pub(crate) fn allow(federation: &Federation, name: &str) {
    let file = federation.file(&format!("{name}.toml"));
    let config = fs::read_to_string(&file).expect("it was written");
    fs::write(&file, config + "[privacy]\nepsilon_max = 1000.0\n").expect("it can be written");
}

#[test]
fn verdict_on_a_private_plan_says_what_is_spent_and_refuses_when_nothing_is_left() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let settings = [
        "privacy.enabled=true",
        "privacy.noise_multiplier=2.0",
        "privacy.epsilon_max=1000.0",
        "run.rounds=1",
        "training.local_steps=4",
    ];
    let (server, address) = federation.start_server(1, &settings);
    let set: Vec<&str> = settings.iter().flat_map(|one| ["--set", one]).collect();
    let write = ["--config", "server.toml", "--write-plan", "plan.foedus"];
    assert_success(&federation.server(&[&write[..], &set].concat()));
    allow(&federation, "hospital-a");
    point(&federation, &address);
    write_policy(&federation, 4);
    let check = || {
        federation.client(&[
            "policy",
            "check",
            "plan.foedus",
            "--config",
            "hospital-a.toml",
        ])
    };
    let before = check();
    assert_success(&before);
    assert!(
        before.text.contains("of epsilon 1000 at delta"),
        "{}",
        before.text
    );
    assert!(
        before.text.contains(" 0.000 is spent by "),
        "{}",
        before.text
    );
    let client = federation.start_client("hospital-a", &address).finish();
    assert_success(&client);
    assert!(
        client.text.contains("multiplies in their product"),
        "{}",
        client.text
    );
    assert_success(&server.finish());
    let (epsilon, _) = spent(&federation);
    let after = check();
    assert_success(&after);
    assert!(
        after.text.contains(&format!(" {epsilon:.3} is spent by ")),
        "{}",
        after.text
    );
    let file = federation.file("hospital-a.toml");
    let config = fs::read_to_string(&file).expect("it was written");
    let small = config.replace("epsilon_max = 1000.0", "epsilon_max = 0.01");
    fs::write(&file, small).expect("it can be written");
    let refused = check();
    assert_eq!(refused.code, Some(1), "{}", refused.text);
    assert!(refused.text.contains("E_DP_BUDGET"), "{}", refused.text);
}

/// The step that the entries of a round under way count up to.
fn counted_to(entries: &[serde_json::Value]) -> u64 {
    let last = entries.last().expect("some are counted");
    of(last, "first_step") + of(last, "steps")
}

/// Goes on with a round from its checkpoint, to the run's end; gives what that counted, behind what was counted before.
fn goes_on(
    federation: &Federation,
    (server, address): (Program, String),
    before: usize,
) -> Vec<serde_json::Value> {
    let again = federation.start_client("hospital-a", &address);
    again.wait_for("the round goes on from its checkpoint");
    assert_success(&again.finish());
    assert_success(&server.finish());
    spent(federation).1.split_off(before)
}

fn of(entry: &serde_json::Value, key: &str) -> u64 {
    entry[key].as_u64().expect("a number")
}

#[test]
fn a_client_killed_in_a_private_round_counts_it_again_and_says_so() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    allow(&federation, "hospital-a");
    let (server, address) = federation.start_server(1, &LONG_ROUND);
    let killed = federation.start_client("hospital-a", &address);
    killed.wait_for("private steps counted");
    killed.kill();
    let (_, first) = spent(&federation);
    assert!(counted_to(&first) < 200, "some at a time: {first:?}");
    let again = federation.start_client("hospital-a", &address);
    again.wait_for("they count again");
    assert_success(&again.finish());
    assert_success(&server.finish());
    let (_, entries) = spent(&federation);
    let second = &entries[first.len()..];
    assert_eq!(steps(second), 200);
    let again = second.iter().filter(|entry| entry["again"] == true);
    assert_eq!(
        again.map(|entry| of(entry, "steps")).sum::<u64>(),
        counted_to(&first)
    );
    let rounds = federation.json_lines("runs/trial/rounds.jsonl");
    assert_eq!(rounds[0]["participants"][0]["weight"], 1, "{rounds:?}");
}

#[test]
fn a_private_round_that_goes_on_from_its_checkpoint_counts_what_is_behind_it_again() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    allow(&federation, "hospital-a");
    federation.set_client("hospital-a", "checkpoint_every = \"50ms\"");
    let (server, address) = federation.start_server(1, &LONG_ROUND);
    let killed = federation.start_client("hospital-a", &address);
    federation.wait_for_file("hospital-a-adapter.state.training");
    killed.kill();
    let (_, first) = spent(&federation);
    let second = goes_on(&federation, (server, address), first.len());
    let from = of(&second[0], "first_step");
    assert!(0 < from && from < counted_to(&first), "{first:?}");
    assert_eq!(second[0]["again"], true, "{second:?}");
    assert_eq!(steps(&second), 200 - from);
}

#[test]
fn a_private_round_that_is_stopped_has_counted_few_steps_that_it_did_not_take() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    allow(&federation, "hospital-a");
    // One that leaves may come back as long as others could still make up the quorum.
    let others = [
        "cohort.participants=[\"hospital-a\", \"bank-b\"]",
        "cohort.join_deadline=1s",
    ];
    let (server, address) = federation.start_server(1, &[&LONG_ROUND[..], &others].concat());
    let stopped = federation.start_client("hospital-a", &address);
    stopped.wait_for("private steps counted");
    stopped.signal("INT");
    stopped.finish();
    let (_, first) = spent(&federation);
    let second = goes_on(&federation, (server, address), first.len());
    let from = of(&second[0], "first_step");
    let not_taken = counted_to(&first) - from;
    assert!(0 < from && not_taken <= 25, "{first:?}");
    assert_eq!(steps(&second), 200 - from);
}

#[test]
fn masks_and_private_records_go_together_and_the_server_sees_neither_update_nor_weight() {
    let names = ["hospital-a", "bank-b", "clinic-c"];
    let federation = Federation::create(PROGRAMS, &names);
    for name in names {
        allow(&federation, name);
    }
    let settings = [
        "cohort.participants=[\"hospital-a\", \"bank-b\", \"clinic-c\"]",
        "limits.participants_max=3",
        "secure_aggregation.enabled=true",
        "privacy.enabled=true",
        "privacy.noise_multiplier=2.0",
        "privacy.epsilon_max=1000.0",
        "run.rounds=2",
        "training.local_steps=5",
    ];
    let (server, address) = federation.start_server(3, &settings);
    let clients = names.map(|name| federation.start_client(name, &address));
    for client in clients {
        assert_success(&client.finish());
    }
    assert_success(&server.finish());
    let (epsilon, entries) = spent(&federation);
    assert_eq!(steps(&entries), 10);
    assert!(0.0 < epsilon && epsilon <= 1000.0, "{epsilon}");
    let rounds = federation.json_lines("runs/trial/rounds.jsonl");
    assert_eq!(rounds.len(), 2);
    for round in &rounds {
        let counted = round["participants"].as_array().expect("a list");
        assert_eq!(counted.len(), 3, "{round}");
        for one in counted {
            assert_eq!(one["weight"], 0, "under a mask: {round}");
            assert!(one["train_loss"].is_null(), "{round}");
        }
        // Each counts alike, whatever it has.
        assert_eq!(round["secure"]["weight"], 3.0, "{round}");
    }
    let kept = fs::read_dir(federation.file("runs/trial/updates")).expect("it is there");
    assert_eq!(kept.count(), 0, "no update is kept");
}
