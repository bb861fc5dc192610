//! Answers of `foedus-sim` that nobody reads to the end.

use std::io;
use std::process::{Command, Stdio};

#[test]
fn an_answer_whose_reader_went_away_ends_quietly() {
    for arguments in [["run", "--check"].as_slice(), &["--help"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let ended = Command::new(env!("CARGO_BIN_EXE_foedus-sim"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(writer)
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(ended.stderr).unwrap(),
            "",
            "{arguments:?}"
        );
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}");
    }
}
