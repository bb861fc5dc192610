use super::*;

const REQUIRED: &str = "[identity]\ncertificate = \"certs/hub.crt\"\nkey = \"certs/hub.key\"\n\
    authority = \"certs/ca.crt\"\n[run]\nname = \"spring-2027\"\nstart = \"start\"\n";

fn read(text: &str, settings: &[&str]) -> Result<Config, ConfigError> {
    let settings: Vec<Setting> = settings
        .iter()
        .map(|given| given.parse().unwrap())
        .collect();
    let (raw, source) = parse(Path::new("server.toml"), text.to_owned(), &settings)?;
    Config::from_raw(raw, Path::new("/etc/foedus")).map_err(|error| source.locate(&error))
}

fn refusal(text: &str, settings: &[&str]) -> String {
    read(text, settings).unwrap_err().to_string()
}

#[test]
fn the_example_is_the_defaults_and_the_required_keys() {
    let example = include_str!("../../server.example.toml");
    let (example, _) = parse(Path::new("example"), example.to_owned(), &[]).unwrap();
    let (required, _) = parse(Path::new("required"), REQUIRED.to_owned(), &[]).unwrap();
    assert_eq!(example, required);
}

#[test]
fn the_example_shows_every_key() {
    let example = include_str!("../../server.example.toml");
    let uncommented: String = example
        .lines()
        .map(|line| {
            let shown = line.strip_prefix("# ").filter(|rest| {
                [
                    "revocations =",
                    "listen =",
                    "base =",
                    "anchor =",
                    "select =",
                    "enough =",
                    "trim =",
                    "byzantine =",
                    "keep =",
                    "passes =",
                    "count_noise =",
                    "expected =",
                ]
                .iter()
                .any(|key| rest.starts_with(key))
            });
            format!("{}\n", shown.unwrap_or(line))
        })
        .collect();
    let (raw, _) = parse(Path::new("example"), uncommented.clone(), &[]).unwrap();
    let written: toml::Table = toml::from_str(&toml::to_string(&raw).unwrap()).unwrap();
    let shown: toml::Table = toml::from_str(&uncommented).unwrap();
    let keys = |table: &toml::Table| -> Vec<String> {
        let sections = table.iter().map(|(name, value)| match value.as_table() {
            Some(section) => section.keys().map(|key| format!("{name}.{key}")).collect(),
            None => vec![name.clone()],
        });
        sections.flat_map(|keys: Vec<String>| keys).collect()
    };
    assert_eq!(keys(&shown), keys(&written));
}

#[test]
fn a_programmatic_configuration_has_the_same_defaults() {
    let file = read(REQUIRED, &[]).unwrap();
    assert_eq!(file.training, training(RawTraining::default()));
    assert_eq!(file.cohort, open_cohort(&RawCohort::default()));
    assert_eq!(file.limits, RawLimits::default().plan());
    assert_eq!(file.run.folder(), Path::new("/etc/foedus/runs/spring-2027"));
}

#[test]
fn privacy_is_off_unless_enabled_and_its_plan_is_sound() {
    assert_eq!(read(REQUIRED, &[]).unwrap().privacy, None);
    let text = format!("{REQUIRED}[privacy]\nenabled = true\nunit = \"group\"\n");
    let privacy = read(&text, &[]).unwrap().privacy.unwrap();
    assert_eq!(privacy.unit, protocol::plan::PrivacyUnit::Group);
    assert_eq!((privacy.clip_norm, privacy.delta), (1.0, 1e-5));
    let said = refusal(&format!("{REQUIRED}[privacy]\nunit = \"ward\"\n"), &[]);
    assert!(said.contains("`record` or `group`"), "{said}");
}

#[test]
fn the_strategy_is_fedavg_unless_a_rule_is_named_with_its_numbers() {
    let strategy = |keys: &str| read(&format!("{REQUIRED}[strategy]\n{keys}\n"), &[]);
    assert_eq!(read(REQUIRED, &[]).unwrap().strategy, StrategyPlan::FedAvg);
    for (keys, expected) in [
        ("rule = \"median\"", StrategyPlan::Median),
        (
            "rule = \"trimmed-mean\"\ntrim = 2",
            StrategyPlan::TrimmedMean { trim: 2 },
        ),
        (
            "rule = \"krum\"\nbyzantine = 1",
            StrategyPlan::Krum {
                byzantine: 1,
                keep: 1,
            },
        ),
        (
            "rule = \"krum\"\nbyzantine = 1\nkeep = 4",
            StrategyPlan::Krum {
                byzantine: 1,
                keep: 4,
            },
        ),
        (
            "rule = \"geometric-median\"",
            StrategyPlan::GeometricMedian { passes: 8 },
        ),
        (
            "rule = \"geometric-median\"\npasses = 3",
            StrategyPlan::GeometricMedian { passes: 3 },
        ),
    ] {
        assert_eq!(strategy(keys).unwrap().strategy, expected);
    }
}

#[test]
fn a_number_that_the_rule_lacks_or_does_not_look_at_is_named() {
    for (keys, expected) in [
        (
            "rule = \"krum\"",
            "strategy.byzantine: missing, but strategy.rule is \"krum\"",
        ),
        (
            "rule = \"trimmed-mean\"",
            "strategy.trim: missing, but strategy.rule is \"trimmed-mean\"",
        ),
        (
            "rule = \"median\"\ntrim = 1",
            "has no effect with strategy.rule \"median\"; remove it",
        ),
        (
            "rule = \"trimmed-mean\"\ntrim = 1\npasses = 2",
            "has no effect",
        ),
        (
            "byzantine = 1",
            "has no effect with strategy.rule \"fedavg\"",
        ),
    ] {
        let said = refusal(&format!("{REQUIRED}[strategy]\n{keys}\n"), &[]);
        assert!(said.contains(expected), "{said}");
    }
    let said = refusal(&format!("{REQUIRED}[strategy]\nrule = \"mean\"\n"), &[]);
    assert!(
        said.contains("server.toml:9:8") && said.contains("`fedavg`"),
        "{said}"
    );
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_column() {
    let text = format!("{REQUIRED}[cohort]\n  quorm = 3\n");
    let said = refusal(&text, &[]);
    assert!(
        said.starts_with("server.toml:9:3: unknown field `quorm`, expected one of"),
        "{said}"
    );
    assert!(said.ends_with("correct or remove the key"), "{said}");
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_line_and_column() {
    let text = format!("{REQUIRED}[cohort]\nquorum = \"three\"\n");
    let said = refusal(&text, &[]);
    assert!(
        said.starts_with("server.toml:9:10: invalid type: string"),
        "{said}"
    );
    let said = refusal(
        &format!("{REQUIRED}[cohort]\nparticipants = \"all\"\n"),
        &[],
    );
    assert!(
        said.contains("server.toml:9:16") && said.contains("\"any\" or a list"),
        "{said}"
    );
    let said = refusal(&format!("{REQUIRED}[limits]\nadapter_max = \"1GB\"\n"), &[]);
    assert!(
        said.contains("server.toml:9:15") && said.contains("KiB, MiB or GiB"),
        "{said}"
    );
    let said = refusal(&format!("{REQUIRED}[cohort]\nstall_limit = 30\n"), &[]);
    assert!(said.contains("server.toml:9:15"), "{said}");
}

#[test]
fn text_that_is_no_toml_is_named_with_its_line_and_column() {
    let said = refusal("listen = \"[::]:1\"\nrun = [\n", &[]);
    assert!(
        said.starts_with("server.toml:2:") || said.starts_with("server.toml:3:"),
        "{said}"
    );
}

#[test]
fn a_missing_required_key_is_named() {
    let said = refusal(&REQUIRED.replace("name = \"spring-2027\"\n", ""), &[]);
    assert!(
        said.contains("missing field `name`") && said.contains("server.example.toml"),
        "{said}"
    );
}

#[test]
fn a_value_that_breaks_a_rule_is_named_with_its_line_and_column() {
    let said = refusal(&REQUIRED.replace("spring-2027", "Spring 2027"), &[]);
    assert!(
        said.starts_with("server.toml:6:8: run.name: \"Spring 2027\" cannot"),
        "{said}"
    );
    let said = refusal(&format!("{REQUIRED}[ewc]\nenabled = true\n"), &[]);
    assert!(
        said.starts_with("server.toml: ewc.anchor: missing"),
        "{said}"
    );
    let said = refusal(&format!("{REQUIRED}[cohort]\nparticipants = []\n"), &[]);
    assert!(
        said.starts_with("server.toml:9:16: cohort.participants: the list is empty"),
        "{said}"
    );
    let said = refusal(
        &format!("{REQUIRED}[limits]\nmessages_per_minute = 3\n"),
        &[],
    );
    assert!(
        said.starts_with("server.toml:9:23: limits.messages_per_minute: is 3; a round alone takes"),
        "{said}"
    );
    let said = refusal(&format!("{REQUIRED}[limits]\nuploads_per_round = 0\n"), &[]);
    assert!(
        said.starts_with("server.toml:9:21: limits.uploads_per_round: is 0"),
        "{said}"
    );
    for window in ["1KiB", "4GiB"] {
        let given = format!("{REQUIRED}[limits]\nupload_window = \"{window}\"\n");
        let said = refusal(&given, &[]);
        assert!(
            said.starts_with("server.toml:9:17: limits.upload_window: is")
                && said.contains("must be 65536 to 1073741824"),
            "{said}"
        );
    }
}

#[test]
fn late_updates_and_selection_become_the_plans() {
    let given = "[cohort]\nselect = 5\nenough = 3\nlate = \"later-round\"\nlate_rounds_max = 2\n";
    let cohort = read(&format!("{REQUIRED}{given}"), &[]).unwrap().cohort;
    assert_eq!((cohort.select, cohort.enough), (Some(5), Some(3)));
    assert_eq!(cohort.late, LatePolicy::LaterRound { rounds_max: 2 });
    let said = refusal(&format!("{REQUIRED}[cohort]\nlate = \"never\"\n"), &[]);
    assert!(
        said.starts_with(
            "server.toml:9:8: unknown variant `never`, expected `refuse` or `later-round`"
        ),
        "{said}"
    );
}

#[test]
fn metrics_are_off_unless_an_address_is_given() {
    assert_eq!(read(REQUIRED, &[]).unwrap().metrics_listen, None);
    let given = |keys: &str| format!("{REQUIRED}[metrics]\n{keys}\n");
    let found = read(&given("listen = \"127.0.0.1:9464\""), &[]).unwrap();
    assert_eq!(
        found.metrics_listen,
        Some("127.0.0.1:9464".parse().unwrap())
    );
    let found = read(REQUIRED, &["metrics.listen=[::1]:0"]).unwrap();
    assert_eq!(found.metrics_listen, Some("[::1]:0".parse().unwrap()));
    let said = refusal(&given("listen = \"9464\""), &[]);
    assert!(
        said.starts_with("server.toml:9:10: invalid socket address"),
        "{said}"
    );
}

#[test]
fn settings_win_over_the_file() {
    let settings = [
        "cohort.quorum=5",
        "cohort.stall_limit=9s",
        "run.out=\"/srv/runs\"",
        "listen=127.0.0.1:0",
    ];
    let config = read(&format!("{REQUIRED}[cohort]\nquorum = 3\n"), &settings).unwrap();
    assert_eq!(config.cohort.quorum, 5);
    assert_eq!(config.cohort.stall_limit, std::time::Duration::from_secs(9));
    assert_eq!(config.run.out, Path::new("/srv/runs"));
    assert_eq!(config.listen.port(), 0);
}

#[test]
fn a_bad_setting_is_blamed_on_the_command_line() {
    let said = refusal(REQUIRED, &["cohort.quorm=5"]);
    assert!(
        said.starts_with("--set cohort.quorm=5: unknown field `quorm`"),
        "{said}"
    );
    let said = refusal(REQUIRED, &["run.name=\"No Name\""]);
    assert!(said.starts_with("server.toml: --set run.name:"), "{said}");
    assert!("cohort.quorum".parse::<Setting>().is_err());
    assert!(".quorum=1".parse::<Setting>().is_err());
}
