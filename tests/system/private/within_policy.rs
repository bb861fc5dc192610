//! Private training alone, within the bounds of the site's policy.

use super::*;

#[test]
fn training_alone_keeps_to_the_policy_of_the_site_and_counts_in_its_ledger() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    write_policy(&federation, 4);
    let policy = fs::read_to_string(federation.file("policy.toml")).expect("it was written");
    let train = |more: &[&str]| {
        let more = [&["--dp-policy", "policy.toml", "--json"], more].concat();
        federation.client(&arguments(&more))
    };
    let refused = train(&["--out", "out"]);
    assert_eq!(refused.code, Some(78), "{}", refused.text);
    assert!(
        refused.text.contains("no [privacy] section"),
        "{}",
        refused.text
    );

    let bounds = "[privacy]\nepsilon_run_max = 2.0\ndelta_run_max = 1e-5\n\
                  epsilon_lifetime_max = 3.0\ndelta_lifetime_max = 1e-5\nledger = \"budget\"\n";
    federation.write(
        "policy.toml",
        &format!("{policy}{bounds}unit = \"group\"\n"),
    );
    let refused = train(&["--out", "out"]);
    assert_eq!(refused.code, Some(78), "{}", refused.text);
    assert!(refused.text.contains("--dp-group-by"), "{}", refused.text);

    federation.write("policy.toml", &format!("{policy}{bounds}"));
    let refused = train(&["--out", "out", "--dp-ledger", "another"]);
    assert_eq!(refused.code, Some(64), "{}", refused.text);
    let refused = train(&["--out", "out", "--dp-noise", "3"]);
    assert_eq!(refused.code, Some(78), "{}", refused.text);
    assert!(
        refused
            .text
            .contains("policy.toml:17: privacy.epsilon_run_max is 2, and this training would cost"),
        "{}",
        refused.text
    );
    assert!(!federation.file("budget").exists());

    let epsilon = |trained: &tests::Finished| {
        assert_success(trained);
        result(&trained.text)["epsilon"].as_f64().expect("a number")
    };
    // What a run may cost, and then what is left of the lifetime's.
    let first = epsilon(&train(&["--out", "first"]));
    assert!(1.9 < first && first <= 2.0, "{first}");
    let both = epsilon(&train(&["--out", "second"]));
    assert!(2.9 < both && both <= 3.0, "{both}");
    assert_eq!(spent_in(&federation, "budget").0, both);
    assert!(!federation.file(LEDGER).exists());
}
