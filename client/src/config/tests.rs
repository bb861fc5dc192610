//! The configuration: the example file, defaults, and errors with their place.

use std::time::Duration;

use super::*;
use crate::policy::SitePolicy;

const EXAMPLE: &str = include_str!("../../client.example.toml");

pub(super) const REQUIRED: &str = r#"
server = "foedus.example.org:4433"
model = "models/SmolLM2-135M-Instruct"
data = "data/train.jsonl"
policy = "policy.toml"

[tls]
certificate = "certs/hospital-a.crt"
key = "certs/hospital-a.key"
authority = "certs/ca.crt"
revocations = "certs/crl.pem"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/foedus/client.toml"))
}

#[test]
fn example_file_is_the_required_keys_and_every_default() {
    // But for plans without privacy: the section's standing there would decline them.
    let allowing = format!("{REQUIRED}[privacy]\nrequired = false\n");
    assert_eq!(parse(EXAMPLE).unwrap(), parse(&allowing).unwrap());
}

#[test]
fn example_file_shows_every_key() {
    let shown: toml::Table = EXAMPLE.parse().unwrap();
    let keys = |section: &str| -> Vec<String> {
        shown[section].as_table().unwrap().keys().cloned().collect()
    };
    assert_eq!(keys("share"), ["train_loss"]);
    let connection = [
        "first_pause",
        "give_up_after",
        "longest_pause",
        "transfer_max",
    ];
    let privacy = [
        "delta",
        "epsilon_max",
        "group_by",
        "ledger",
        "records_max",
        "required",
    ];
    let mut found = keys("privacy");
    found.sort();
    assert_eq!(found, privacy);
    let mut found = keys("connection");
    found.sort();
    assert_eq!(found, connection);
    let mut top: Vec<&str> = shown.keys().map(String::as_str).collect();
    top.sort_unstable();
    let expected = [
        "activation_checkpointing",
        "base_precision",
        "checkpoint_every",
        "connection",
        "data",
        "device",
        "ledger",
        "log",
        "model",
        "out",
        "policy",
        "privacy",
        "server",
        "share",
        "state",
        "tls",
    ];
    assert_eq!(top, expected);
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = parse(REQUIRED).unwrap();
    assert_eq!(config.device, DeviceChoice::Auto);
    assert_eq!(config.checkpoint_every, Duration::from_secs(60));
    assert!(!config.share.train_loss);
    assert_eq!(config.patience, Patience::default());
    assert_eq!(config.patience.give_up_after, Duration::from_secs(600));
    assert_eq!(config.transfer_max, Bytes(2 << 30));
    assert_eq!(config.log, Log::default());
}

#[test]
fn relative_paths_belong_to_the_file_and_absolute_ones_stay() {
    let config = parse(&REQUIRED.replace("data/train", "/secure/train")).unwrap();
    assert_eq!(config.data, Path::new("/secure/train.jsonl"));
    assert_eq!(config.out, Path::new("/etc/foedus/adapter"));
    assert_eq!(
        config.tls.key,
        Path::new("/etc/foedus/certs/hospital-a.key")
    );
}

#[test]
fn unknown_key_is_named_with_line_and_column() {
    let text = format!("{REQUIRED}\n[share]\ntrain_los = true\n");
    let line = text
        .lines()
        .position(|line| line.starts_with("train_los"))
        .unwrap()
        + 1;
    let refused = parse(&text).unwrap_err().to_string();
    assert!(
        refused.starts_with("/etc/foedus/client.toml line "),
        "{refused}"
    );
    assert!(
        refused.contains(&format!("line {line}, column 1:")),
        "{refused}"
    );
    assert!(refused.contains("train_los"), "{refused}");
}

#[test]
fn value_of_the_wrong_kind_is_named_with_line_and_column() {
    let text = format!("{REQUIRED}\n[connection]\nfirst_pause = 30\n");
    let refused = parse(&text).unwrap_err().to_string();
    assert!(refused.contains("column 15"), "{refused}");
    let text = format!("{REQUIRED}\n[connection]\nfirst_pause = \"soon\"\n");
    let refused = parse(&text).unwrap_err().to_string();
    assert!(
        refused.contains("\"soon\" is no duration: write it like \"30s\""),
        "{refused}"
    );
    assert!(refused.contains("line 14, column 15"), "{refused}");
}

#[test]
fn missing_key_is_named() {
    let refused = parse(&REQUIRED.replace("model = ", "# model = "))
        .unwrap_err()
        .to_string();
    assert!(refused.contains("missing field `model`"), "{refused}");
}

#[test]
fn senseless_values_are_named_with_their_rule() {
    let cases = [
        (
            REQUIRED.replace(":4433", ""),
            "server is \"foedus.example.org\": write it as",
        ),
        (format!("device = \"tpu\"\n{REQUIRED}"), "device is \"tpu\""),
        (
            format!("{REQUIRED}\n[connection]\nfirst_pause = \"2min\"\n"),
            "connection.first_pause is 120s: must be",
        ),
        (
            format!("{REQUIRED}\n[log]\nfilter = \"foo=loud\"\n"),
            "log.filter is \"foo=loud\"",
        ),
    ];
    for (text, expected) in cases {
        let refused = parse(&text).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn missing_file_is_named_with_its_key() {
    let path = Path::new("/nowhere/client.toml");
    let refused = Config::parse(REQUIRED, path)
        .unwrap()
        .check_files(path)
        .unwrap_err();
    let expected = "model names /nowhere/models/SmolLM2-135M-Instruct, which is not there";
    assert!(refused.to_string().contains(expected), "{refused}");
}

#[test]
fn privacy_budget_is_checked_and_its_ledger_stands_beside_the_data() {
    let config = parse(REQUIRED).unwrap();
    let ledger = Path::new("/etc/foedus/data/train.jsonl.privacy");
    assert_eq!(config.privacy.ledger, ledger);
    assert_eq!(config.privacy.group_by, None);
    assert_eq!(config.privacy.required, None);
    let parsed = parse(&format!(
        "{REQUIRED}[privacy]\nepsilon_max = 3.0\ngroup_by = \"patient\"\n"
    ));
    let privacy = parsed.unwrap().privacy;
    assert_eq!(privacy.budget.epsilon(), 3.0);
    assert_eq!(privacy.required, Some(true));
    assert_eq!(privacy.group_by.as_deref(), Some("patient"));
    for (text, key) in [
        ("epsilon_max = 0.0", "privacy.epsilon_max is 0"),
        ("epsilon_max = inf", "privacy.epsilon_max is inf"),
        ("delta = 1.0", "privacy.delta is 1"),
        ("records_max = 0", "privacy.records_max is 0"),
    ] {
        let refused = parse(&format!("{REQUIRED}[privacy]\n{text}\n")).unwrap_err();
        assert!(refused.to_string().contains(key), "{refused}");
    }
}

#[test]
fn budget_beyond_the_policys_lifetime_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let policy = include_str!("../../../deploy/policy.example.toml");
    std::fs::write(folder.path().join("policy.toml"), policy).unwrap();
    let path = folder.path().join("client.toml");
    let within = Config::parse(REQUIRED, &path).unwrap();
    assert!(within.site_policy(&path).unwrap().is_some());
    for (budget, key, rule) in [
        (
            "epsilon_max = 17.0",
            "privacy.epsilon_max",
            "epsilon_lifetime_max",
        ),
        ("delta = 1e-3", "privacy.delta", "delta_lifetime_max"),
    ] {
        let text = format!("{REQUIRED}\n[privacy]\n{budget}\n");
        let config = Config::parse(&text, &path).unwrap();
        let refused = config.site_policy(&path).unwrap_err().to_string();
        let line = policy
            .lines()
            .position(|line| line.starts_with(rule))
            .unwrap()
            + 1;
        assert!(
            refused.contains(key) && refused.contains(&format!("policy.toml:{line} allows")),
            "{refused}"
        );
    }
}

#[test]
fn policy_that_wants_persons_protected_is_no_use_without_the_field_that_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let policy = include_str!("../../../deploy/policy.example.toml");
    let wanting = policy.replace("# unit = \"group\"", "unit = \"group\"");
    assert_ne!(wanting, policy);
    std::fs::write(folder.path().join("policy.toml"), wanting).unwrap();
    let path = folder.path().join("client.toml");
    let refused = Config::parse(REQUIRED, &path).unwrap().site_policy(&path);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("privacy.group_by"), "{refused}");
    assert!(refused.contains("policy.toml:"), "{refused}");
    let text = format!("{REQUIRED}[privacy]\ngroup_by = \"patient\"\n");
    let grouped = Config::parse(&text, &path).unwrap();
    assert!(grouped.site_policy(&path).unwrap().is_some());
}

#[test]
fn ledger_that_the_policy_names_counts_whatever_the_data_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let policy = include_str!("../../../deploy/policy.example.toml");
    let named = policy.replace("# ledger = \"wards.privacy\"", "ledger = \"wards.privacy\"");
    assert_ne!(named, policy);
    let policy = SitePolicy::parse(&named, &folder.path().join("policy.toml")).unwrap();
    let expected = folder.path().join("wards.privacy");
    let own = format!("{REQUIRED}[privacy]\nledger = \"other.privacy\"\n");
    for text in [REQUIRED, &own] {
        let config = parse(text).unwrap();
        assert_eq!(
            config.private_settings(Some(&policy)).unwrap().ledger,
            expected
        );
    }
    // Without it the configuration's.
    let config = parse(&own).unwrap();
    let found = config.private_settings(None).unwrap().ledger;
    assert_eq!(found, Path::new("/etc/foedus/other.privacy"));
}
