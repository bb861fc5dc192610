//! What the documents show is what the programs do.

use std::{collections::BTreeSet, fs, path::Path};

use tests::Program;

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
        "docs/benchmarks.md",
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

/// Of `foedus-sim` no program is built for these tests.
#[test]
fn every_command_that_the_documents_show_exists() {
    let documents = [
        "README.md",
        "SECURITY.md",
        "ARCHITECTURE.md",
        "docs/deploying.md",
        "docs/monitoring.md",
        "docs/privacy.md",
        "docs/protocol.md",
        "deploy/README.md",
        "deploy/policy.example.toml",
        "deploy/systemd/foedus-client.service",
        "deploy/systemd/foedus-server.service",
        "server/server.example.toml",
        "client/client.example.toml",
    ];
    let texts = documents.map(|name| fs::read_to_string(repository().join(name)).unwrap());
    for (program, binary) in [
        ("foedus-certs", crate::PROGRAMS.certs),
        ("foedus-server", crate::PROGRAMS.server),
        ("foedus-client", crate::PROGRAMS.client),
    ] {
        let commands: BTreeSet<Vec<&str>> = texts
            .iter()
            .flat_map(|text| commands_of(program, text))
            .collect();
        assert!(!commands.is_empty(), "{program} is in no document");
        for command in commands {
            let arguments = [command.as_slice(), &["--help"]].concat();
            let finished = Program::run(binary, repository(), &arguments);
            let (code, said) = (finished.code, finished.text);
            assert_eq!(code, Some(0), "{program} {}: {said}", command.join(" "));
        }
    }
}

/// The one or two words behind a program's name where a text shows a command of it; a second may also be what the command is about.
fn commands_of<'a>(program: &str, text: &'a str) -> Vec<Vec<&'a str>> {
    let is_letter = |c: char| c.is_ascii_lowercase() || c == '-';
    let mut found = Vec::new();
    for (at, name) in text.match_indices(program) {
        let mut rest = &text[at + name.len()..];
        let mut words = Vec::new();
        while let Some(next) = rest.strip_prefix(' ') {
            let end = next.find(|c| !is_letter(c)).unwrap_or(next.len());
            let (word, after) = next.split_at(end);
            // An option, a file, or the end of the line.
            if word.is_empty() || word.starts_with('-') || after.starts_with(['.', '/', '=']) {
                break;
            }
            words.push(word);
            rest = after;
        }
        words.truncate(2);
        if !words.is_empty() {
            found.push(words);
        }
    }
    found
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
