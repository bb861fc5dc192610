//! The authority and the program, on real folders.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod authority;
mod outputs;
mod program;
mod revoked_keys;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use certs::{Authority, Request, Terms};
use jiff::Timestamp;
use protocol::identity::{Identity, Role};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn authority() -> Authority {
    Authority::create("north-sea", now(), 10 * YEAR).unwrap()
}

fn request(federation: &str, role: Role, name: &str) -> Request {
    Request::new(Identity::new(federation, role, name).unwrap()).unwrap()
}

fn terms(role: Role, name: &str) -> Terms {
    Terms::new(role, name, now(), 365).unwrap()
}

/// Fails if a text shows a private key: as PEM, in hexadecimal, or as the list of numbers that a derived `Debug` prints.
fn hides(text: &str, key_pem: &str) {
    let pem_lines = key_pem.lines().filter(|line| !line.starts_with("-----"));
    let (_, pem) = x509_parser::pem::parse_x509_pem(key_pem.as_bytes()).unwrap();
    // RFC 8410, section 7: the 32 secret bytes begin at the 16th.
    let secret = &pem.contents[16..24];
    let numbers = format!("{secret:?}");
    let numbers = numbers.trim_matches(['[', ']']).to_owned();
    let digits = hex::encode(secret);
    for shown in pem_lines
        .map(str::to_owned)
        .chain([numbers, digits.to_uppercase(), digits])
    {
        assert!(!text.contains(&shown), "{shown} is in {text}");
    }
}

/// Runs `foedus-certs` in a folder.
fn run(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foedus-certs"))
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn passes(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn fails(folder: &Path, arguments: &str, code: i32) -> String {
    let output = run(folder, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments}: {errors}");
    errors
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

const INIT: &str = "init --federation north-sea";
const REQUEST: &str = "request --federation north-sea --role participant --name hospital-a";
const SIGN: &str = "sign hospital-a.csr --role participant --name hospital-a";
