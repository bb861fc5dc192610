//! What programs say and leave behind: nothing with keys in it.

use std::{fs, path::Path};

use pem::Pem;
use tests::{Federation, Finished, Program, assert_success};

use crate::{
    PROGRAMS,
    masked::{MASKED_SETTINGS, NAMES},
};

#[cfg(target_os = "linux")]
#[test]
fn programs_leave_no_core_files() {
    let federation = Federation::create(PROGRAMS, &["hospital-a", "bank-b"]);
    let (server, address) = federation.start_server(2, &["cohort.join_deadline=2min"]);
    let client = federation.start_client("hospital-a", &address);
    client.wait_for("connected");
    for program in [&server, &client] {
        let limits = fs::read_to_string(format!("/proc/{}/limits", program.id())).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        let values: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
        assert_eq!(values, ["0", "0"], "{core}");
    }
}

/// What anything would have in it that shows a key: its seed raw, in hexadecimal, in base64 and as Rust prints numbers, and the line of its
/// file that the seed is in. Half of a seed is enough.
fn shapes(key: &str) -> [Vec<u8>; 6] {
    let parsed = pem::parse(key).expect("a key's file is PEM");
    // RFC 8410, section 7: the 32 bytes that begin at the 17th.
    let half = &parsed.contents()[16..31];
    let listed: Vec<_> = half.iter().map(u8::to_string).collect();
    let hex: String = half.iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = pem::encode(&Pem::new("HALF", half));
    let base64 = base64.lines().nth(1).expect("it stands between two lines");
    let line = key.lines().nth(1).expect("it stands between two lines");
    [
        half.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        base64.as_bytes().to_vec(),
        listed.join(", ").into_bytes(),
        // Before that, all keys are the same.
        line.as_bytes()[24..].to_vec(),
    ]
}

/// Every file below a folder but those of keys, with its bytes.
fn files_below(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let found = paths.flat_map(|path| match path.extension() {
        Some(extension) if extension == "key" => Vec::new(),
        _ if path.is_dir() => files_below(&path),
        _ => vec![(path.display().to_string(), fs::read(&path).unwrap())],
    });
    found.collect()
}

/// A masked run of three sites with everything that is ever logged, a client that has another's key, and a key that is shown.
fn everything_said(federation: &Federation) -> Vec<(String, Vec<u8>)> {
    let environment = [
        ("RUST_LOG", "trace".to_owned()),
        // Where programs that help to debug TLS write its secrets: ours write none.
        ("SSLKEYLOGFILE", "tls-secrets".to_owned()),
    ];
    let settings = [&MASKED_SETTINGS[..], &["log.level=trace"]].concat();
    let (server, address) = federation.start_server_with(3, &settings, &environment);
    let start = |name: &str| federation.start_client_with(name, &address, &environment);
    federation.write_client("mistaken", "hospital-a");
    let config = fs::read_to_string(federation.file("mistaken.toml")).unwrap();
    federation.write(
        "mistaken.toml",
        &config.replace("hospital-a.key", "bank-b.key"),
    );
    let mistaken = start("mistaken").finish();
    assert_eq!(mistaken.code, Some(78), "{}", mistaken.text);
    let shown = Program::run(PROGRAMS.certs, federation.path(), &["show", "hub.key"]);
    let programs = NAMES.map(|name| (name, start(name)));
    let run = programs.into_iter().chain([("hub", server)]);
    let run = run.map(|(name, program)| (name, program.finish()));
    let run: Vec<(&str, Finished)> = run.collect();
    for (_, ended) in &run {
        assert_success(ended);
        assert!(ended.text.contains("TRACE"), "{}", ended.text);
    }
    let all = run
        .into_iter()
        .chain([("mistaken", mistaken), ("show", shown)]);
    all.map(|(name, ended)| (name.to_owned(), ended.text.into_bytes()))
        .collect()
}

#[test]
fn no_key_is_in_anything_that_programs_say_or_write() {
    let federation = Federation::create(PROGRAMS, &NAMES);
    let said = everything_said(&federation);
    assert!(!federation.file("tls-secrets").exists());
    let written = files_below(federation.path());
    assert!(
        written
            .iter()
            .any(|(name, _)| name.ends_with("adapter.ledger"))
    );
    let places: Vec<_> = said.into_iter().chain(written).collect();
    let keys = ["authority/ca", "hub", NAMES[0], NAMES[1], NAMES[2]];
    for key in keys {
        let text = fs::read_to_string(federation.file(&format!("{key}.key"))).unwrap();
        let shapes = shapes(&text);
        let is_in = |bytes: &[u8]| {
            shapes
                .iter()
                .any(|shape| bytes.windows(shape.len()).any(|part| part == shape))
        };
        assert!(is_in(text.as_bytes()), "the search finds what is there");
        for (place, bytes) in &places {
            assert!(!is_in(bytes), "{key}.key is in {place}");
        }
    }
}
