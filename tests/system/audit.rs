//! The audit by the real program: on a site's own text, with a plan's settings, into a report that an officer can open.

use std::fs;

use tests::{Federation, assert_success};

use crate::{PROGRAMS, policy::point};

#[test]
fn audit_of_a_plan_writes_a_report_that_names_what_it_found() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    // Its settings are those of the federation's server.
    let (server, address) = federation.start_server(1, &[]);
    point(&federation, &address);
    drop(server);
    let write = ["--config", "server.toml", "--write-plan", "plan.foedus"];
    assert_success(&federation.server(&write));
    let audit = [
        "audit",
        "--config",
        "hospital-a.toml",
        "--plan",
        "plan.foedus",
        "--out",
        "audit",
        "--candidates",
        "50",
        "--coins",
        "16",
    ];
    let audited = federation.client(&audit);
    assert_success(&audited);
    let told = audited.text.lines().last().expect("it says what it found");
    assert!(told.contains("leak(s) found"), "{}", audited.text);
    let read = |file: &str| fs::read_to_string(federation.file(file)).expect("it was written");
    let (page, found) = (read("audit/audit.html"), read("audit/audit.json"));
    let found: serde_json::Value = serde_json::from_str(&found).expect("it is JSON");
    // Two rounds of four steps, as the plan says.
    assert_eq!(found["steps"], 8, "{found}");
    assert_eq!(found["one_run"]["coins"], 16, "{found}");
    assert!(page.contains("</html>") && page.contains("<svg"));
}
