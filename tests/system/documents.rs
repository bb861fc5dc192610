//! What the documents show is what the programs do.

use std::{fs, path::Path};

/// The repository's folder.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the repository")
}

#[test]
fn every_relative_link_of_the_documents_leads_somewhere() {
    let documents = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "deploy/README.md",
        "docs/deploying.md",
        "docs/monitoring.md",
    ];
    for document in documents {
        let path = repository().join(document);
        let text = fs::read_to_string(&path).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap_or(target);
            let here = !file.is_empty() && !file.contains("://");
            assert!(
                !here || path.with_file_name(file).exists(),
                "{document} links to {target}, which is not there"
            );
        }
    }
}

#[test]
fn the_documents_name_only_options_that_the_programs_have() {
    let federation = tests::Federation::create(crate::PROGRAMS, &[]);
    let help = |arguments: &[&str]| federation.client(arguments).text;
    let text = fs::read_to_string(repository().join("docs/deploying.md")).unwrap();
    for command in ["run", "train", "evaluate", "fisher"] {
        let known = help(&[command, "--help"]);
        for line in text
            .lines()
            .filter(|line| line.contains(&format!("foedus-client {command} ")))
        {
            for option in line
                .split_whitespace()
                .filter(|word| word.starts_with("--"))
            {
                assert!(
                    known.contains(option),
                    "foedus-client {command} has no {option}: {line}"
                );
            }
        }
    }
}

#[test]
fn units_are_started_again_after_exit_code_75_and_after_no_other() {
    for unit in ["foedus-client.service", "foedus-server.service"] {
        let text = fs::read_to_string(repository().join("deploy/systemd").join(unit)).unwrap();
        let about_ends: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("Restart") || line.starts_with("SuccessExit"))
            .collect();
        let expected = [
            // Of ends by an exit code none: that also covers ExecStartPre, which the next line does not.
            "Restart=on-abnormal",
            "RestartSec=30",
            "RestartForceExitStatus=75",
            "SuccessExitStatus=75",
        ];
        assert_eq!(about_ends, expected, "{unit}");
    }
}

#[test]
fn every_test_that_a_promise_of_security_names_exists() {
    let text = fs::read_to_string(repository().join("SECURITY.md")).unwrap();
    // A test is a sentence of at least four words.
    let is_test = |name: &&str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        name.bytes().all(plain) && name.matches('_').count() >= 3
    };
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() >= 5, "{named:?}");
    let mut sources = String::new();
    for package in [
        "aggregation",
        "certs",
        "client",
        "finetune",
        "protocol",
        "server",
        "simulations",
        "tests",
    ] {
        collect(&repository().join(package), &mut sources);
    }
    for name in named {
        assert!(
            sources.contains(&format!("fn {name}(")),
            "SECURITY.md names {name}, and there is no such test"
        );
    }
}

/// Appends every Rust file under a folder of ours.
fn collect(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder of ours can be listed") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(&path).expect("source is text"));
        }
    }
}
