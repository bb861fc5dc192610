//! Answers that nobody reads to the end, as of `foedus-client privacy plan | head -1`: the programs end quietly, and say so where it is
//! not the reader who is gone but the disk that is full.

use std::{
    fs::File,
    io,
    path::Path,
    process::{Command, Output, Stdio},
};

use tests::{Federation, Program, assert_success};

use crate::PROGRAMS;

const SERVER: &str = "\
[identity]
certificate = \"hub.crt\"
key = \"hub.key\"
authority = \"authority/ca.crt\"
[run]
name = \"trial\"
start = \"start\"
[cohort]
quorum = 2
";

/// Commands that answer on stdout.
const COMMANDS: [(&str, &[&str]); 8] = [
    (PROGRAMS.client, &["--help"]),
    (
        PROGRAMS.client,
        &[
            "privacy",
            "plan",
            "--examples",
            "1000",
            "--batch",
            "10",
            "--steps",
            "100",
            "--target-epsilon",
            "4",
        ],
    ),
    (PROGRAMS.client, &["adapter", "show", "start"]),
    (PROGRAMS.client, &["adapter", "show", "start", "--json"]),
    (
        PROGRAMS.server,
        &["--config", "server.toml", "--print-config"],
    ),
    (PROGRAMS.server, &["--config", "server.toml", "--check"]),
    (PROGRAMS.certs, &["list"]),
    (PROGRAMS.certs, &["show", "hub.crt"]),
];

fn run(binary: &str, folder: &Path, arguments: &[&str], stdout: impl Into<Stdio>) -> Output {
    Command::new(binary)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(stdout)
        .output()
        .unwrap()
}

fn federation() -> Federation {
    let federation = Federation::create(PROGRAMS, &[]);
    federation.write("server.toml", SERVER);
    federation
}

#[test]
fn an_answer_whose_reader_went_away_ends_quietly() {
    let federation = federation();
    for (binary, arguments) in COMMANDS {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let ended = run(binary, federation.path(), arguments, writer);
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(said, "", "{binary} {arguments:?}");
        assert_eq!(ended.status.code(), Some(0), "{binary} {arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_a_full_disk_does_not_take_is_an_error_in_words() {
    let federation = federation();
    // clap's own answer, which it gives no account of.
    for (binary, arguments) in COMMANDS.into_iter().skip(1) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ended = run(binary, federation.path(), arguments, full);
        let said = String::from_utf8(ended.stderr).unwrap();
        let expected = "the answer cannot be written to stdout";
        assert!(said.contains(expected), "{binary} {arguments:?}: {said}");
        assert_eq!(ended.status.code(), Some(1), "{binary} {arguments:?}");
    }
}

/// A program whose log and whose words about progress go to a full disk.
#[cfg(target_os = "linux")]
fn start_unheard(federation: &Federation, binary: &str, arguments: &[&str]) -> Program {
    let unheard = ["-c", "exec \"$0\" \"$@\" 2>/dev/full", binary];
    let arguments = [&unheard, arguments].concat();
    Program::start("sh", federation.path(), &arguments)
}

#[cfg(target_os = "linux")]
#[test]
fn work_whose_log_cannot_be_written_goes_on_to_its_end() {
    let federation = Federation::create(PROGRAMS, &["hospital-a"]);
    let (server, address) = federation.start_server(1, &[]);
    server.kill();
    let listen = format!("listen={address}");
    let serve = ["--config", "server.toml", "--set", &listen];
    let server = start_unheard(&federation, PROGRAMS.server, &serve);
    assert_success(&federation.start_client("hospital-a", &address).finish());
    assert_success(&server.finish());
    let train =
        "train --model model --data hospital-a.jsonl --device cpu --steps 3 --out out --log info";
    let train: Vec<_> = train.split(' ').collect();
    assert_success(&start_unheard(&federation, PROGRAMS.client, &train).finish());
}
