//! The transcript of a run by the real programs: checked offline, and damaged in every way that a file can be.

use std::fs;
use std::path::Path;

use tests::{Federation, assert_success};

use crate::PROGRAMS;

const AUTHORITY: [&str; 2] = ["--authority", "authority/ca.crt"];

fn verify(federation: &Federation, path: &str) -> (Option<i32>, String) {
    let finished = federation.server(&["transcript", "verify", path, AUTHORITY[0], AUTHORITY[1]]);
    (finished.code, finished.text)
}

/// A federation whose run of two rounds is over.
fn after_a_run() -> Federation {
    let federation = Federation::create(PROGRAMS, &["hospital-a", "bank-b"]);
    let (server, address) = federation.start_server(2, &[]);
    let clients = ["hospital-a", "bank-b"].map(|name| federation.start_client(name, &address));
    let told = clients.map(|client| {
        let finished = client.finish();
        assert_success(&finished);
        let mut lines = finished.text.lines();
        let line = lines
            .find(|line| line.starts_with("last record "))
            .map(str::to_owned);
        line.expect("the client says which record was the last")
    });
    assert_success(&server.finish());
    let (_, text) = verify(&federation, "runs/trial");
    assert!(
        told.iter().all(|line| text.contains(line)),
        "{told:?}, {text}"
    );
    federation
}

/// What `foedus-server transcript verify` says to this content of a copied file.
fn judged(federation: &Federation, content: &str) -> String {
    fs::create_dir_all(federation.file("copy")).unwrap();
    federation.write("copy/transcript.jsonl", content);
    let (code, text) = verify(federation, "copy/transcript.jsonl");
    assert_eq!(code, Some(1), "{text}");
    text
}

fn evidence(folder: &Path, of: &str) -> String {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut names = files.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let name = names
        .find(|name| name.starts_with(of) && name.ends_with(".transcript.done"))
        .expect("the evidence of a run that is over");
    fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn a_finished_runs_transcript_is_checked_offline_and_every_damage_is_named() {
    let federation = after_a_run();
    let (code, text) = verify(&federation, "runs/trial");
    assert_eq!(code, Some(0), "{text}");
    for expected in [
        "ok: 2 rounds of plan",
        "signed by foedus://north-sea/server/hub",
        "adapters on disk that are the ones on record: round-0001, round-0002, adapter",
    ] {
        assert!(text.contains(expected), "{text}");
    }

    let path = federation.file("runs/trial/transcript.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    fs::create_dir(federation.file("copy")).unwrap();
    federation.write("copy/transcript.jsonl", &whole);
    let (code, copied) = verify(&federation, "copy/transcript.jsonl");
    assert_eq!(code, Some(0), "{copied}");
    let last = |text: &str| text.split("last record ").nth(1).map(str::to_owned);
    assert_eq!(last(&text), last(&copied));

    let show = [
        "transcript",
        "show",
        "runs/trial",
        AUTHORITY[0],
        AUTHORITY[1],
    ];
    let shown = federation.server(&show);
    assert_success(&shown);
    for name in ["hospital-a", "bank-b"] {
        let line = format!("{name}: accepted, weight ");
        assert_eq!(shown.text.matches(&line).count(), 2, "{}", shown.text);
    }
    assert!(!whole.contains("hospital-a"), "names are not in the file");

    let weight = whole.find("\"weight\":").unwrap() + "\"weight\":".len();
    let mut heavier = whole.clone();
    heavier.insert(weight, '1');
    let said = judged(&federation, &heavier);
    assert!(
        said.contains("record 1 of") && said.contains("not the ones that were signed"),
        "{said}"
    );
    let second = whole.lines().nth(1).unwrap();
    let said = judged(&federation, &format!("{second}\n"));
    assert!(
        said.contains("record 1 of") && said.contains("round 2 came where that of round 1"),
        "{said}"
    );
    let said = judged(&federation, &whole[..whole.len() - 5]);
    assert!(
        said.contains("record 2 of") && said.contains("cut off"),
        "{said}"
    );
    let said = judged(&federation, &whole.replacen("\":", "\": ", 1));
    assert!(
        said.contains("record 1 of") && said.contains("not written as"),
        "{said}"
    );

    federation.write(
        "runs/trial/transcript.jsonl",
        &format!("{}\n", whole.lines().next().unwrap()),
    );
    let (code, said) = verify(&federation, "runs/trial");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("round 2: ") && said.contains("not on record"),
        "{said}"
    );
}

/// One byte in each part of the file, each of its bits.
#[test]
fn a_transcript_in_which_any_bit_was_flipped_is_refused() {
    let federation = after_a_run();
    let whole = fs::read(federation.file("runs/trial/transcript.jsonl")).unwrap();
    fs::create_dir(federation.file("copy")).unwrap();
    for place in (0..whole.len()).step_by(whole.len() / 12) {
        let mut changed = whole.clone();
        changed[place] ^= 1 << (place % 7);
        fs::write(federation.file("copy/transcript.jsonl"), &changed).unwrap();
        let (code, text) = verify(&federation, "copy/transcript.jsonl");
        assert_eq!(code, Some(1), "byte {place}: {text}");
        assert!(
            text.contains("record 1 of") || text.contains("record 2 of"),
            "{text}"
        );
    }
}

#[test]
fn a_transcript_of_another_federations_server_is_refused() {
    let federation = after_a_run();
    let others = Federation::create(PROGRAMS, &[]);
    fs::copy(
        others.file("authority/ca.crt"),
        federation.file("other.crt"),
    )
    .unwrap();
    let finished = federation.server(&[
        "transcript",
        "verify",
        "runs/trial",
        "--authority",
        "other.crt",
    ]);
    assert_eq!(finished.code, Some(1), "{}", finished.text);
    assert!(finished.text.contains("record 1 of"), "{}", finished.text);
    assert!(finished.text.contains("authority"), "{}", finished.text);
}

#[test]
fn each_site_keeps_what_the_server_signed_and_its_own_lines_only() {
    let federation = after_a_run();
    let transcript = fs::read_to_string(federation.file("runs/trial/transcript.jsonl")).unwrap();
    let [own, other] = ["hospital-a", "bank-b"].map(|name| evidence(federation.path(), name));
    for text in [&own, &other] {
        assert_eq!(text.matches("\"recorded\"").count(), 2, "{text}");
        assert_eq!(text.matches("\"accepted\"").count(), 4, "{text}");
    }
    for line in transcript.lines() {
        let sealed: serde_json::Value = serde_json::from_str(line).unwrap();
        let signature = sealed["seal"]["signature"].as_str().unwrap();
        assert!(own.contains(signature) && other.contains(signature));
        for line in sealed["record"]["lines"].as_array().unwrap() {
            let participant = line["participant"].as_str().unwrap();
            assert!(own.contains(participant) != other.contains(participant));
        }
    }
}
