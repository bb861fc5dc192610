use std::sync::Arc;

use aggregation::{AdapterLayout, ModuleLayout};

use protocol::Round;
use protocol::coordinator::RoundSummary;
use protocol::seal::Seal;
use protocol::transcript::{Outline, Record};

use super::*;

fn adapter(seed: u64) -> Adapter {
    let name = "model.layers.0.self_attn.q_proj".to_owned();
    let modules = vec![ModuleLayout {
        name,
        in_features: 3,
        out_features: 2,
    }];
    Adapter::initial(
        Arc::new(AdapterLayout::new(2, 4.0, false, modules).unwrap()),
        seed,
    )
}

fn sidecar() -> Sidecar {
    Sidecar {
        base_fingerprint: [7; 32],
        base_name: "tiny".to_owned(),
    }
}

#[test]
fn an_adapter_folder_reads_back_and_leaves_no_temporary() {
    let parent = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(&parent.path().join("run"), &sidecar(), 0.1).unwrap();
    let written = folder.write_round(1, &adapter(5)).unwrap();
    assert!(written.ends_with("round-0001"));
    let read = |name: &str| fs::read(written.join(name)).unwrap();
    let (back, config) = peft::load(&read(CONFIG_FILE), &read(MODEL_FILE)).unwrap();
    assert_eq!(back, adapter(5));
    assert_eq!(
        (config.dropout, config.base_model_name_or_path.as_str()),
        (0.1, "tiny")
    );
    assert_eq!(Sidecar::from_json(&read(SIDECAR_FILE)).unwrap(), sidecar());
    let names = fs::read_dir(parent.path().join("run"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["round-0001", ROUNDS_FILE, TRANSCRIPT_FILE]);
}

#[test]
fn what_a_crash_left_half_written_is_replaced() {
    let parent = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(parent.path(), &sidecar(), 0.0).unwrap();
    fs::create_dir(parent.path().join(".adapter.part")).unwrap();
    fs::write(
        parent.path().join(".adapter.part").join(MODEL_FILE),
        b"half",
    )
    .unwrap();
    let written = folder.write_final(&adapter(1)).unwrap();
    assert!(written.ends_with("adapter") && !parent.path().join(".adapter.part").exists());
}

#[test]
fn a_folder_with_rounds_and_without_a_journal_is_refused_and_named() {
    let parent = tempfile::tempdir().unwrap();
    drop(RunFolder::open(parent.path(), &sidecar(), 0.0).unwrap());
    fs::write(parent.path().join("rounds.jsonl"), "{}\n").unwrap();
    let refused = RunFolder::open(parent.path(), &sidecar(), 0.0).unwrap_err();
    assert!(matches!(refused, ServerError::RunExists { .. }));
    assert!(refused.to_string().contains("choose another run.name"));
    assert_eq!(refused.exit_code(), 78);
}

fn record(adapter: &Adapter) -> RoundRecord {
    RoundRecord {
        round: 1,
        seconds: 0.5,
        participants: Vec::new(),
        refused: Vec::new(),
        missing: Vec::new(),
        update_norm: 0.0,
        inexactness: Some(0.0),
        rule: None,
        rounding: 0.0,
        bytes_up: 0,
        bytes_down: 0,
        adapter_sha256: Digest(adapter.sha256()).to_string(),
        ewc: None,
        secure: None,
        participant_privacy: None,
        turned_away: Vec::new(),
    }
}

#[test]
fn lines_that_a_crash_left_out_or_cut_are_written_again() {
    let parent = tempfile::tempdir().unwrap();
    let mut folder = RunFolder::open(parent.path(), &sidecar(), 0.0).unwrap();
    let first = record(&adapter(5));
    let second = RoundRecord {
        round: 2,
        ..first.clone()
    };
    folder.append(&first, &sealed(1)).unwrap();
    let line = |value: &RoundRecord| serde_json::to_string(value).unwrap() + "\n";
    let path = parent.path().join(ROUNDS_FILE);
    let whole = line(&first) + &line(&second);
    let record = |round| serde_json::to_string(&sealed(round)).unwrap() + "\n";
    let transcript = parent.path().join(TRANSCRIPT_FILE);
    for found in ["", &whole[..30], &whole[..whole.len() - 3]] {
        fs::write(&path, found).unwrap();
        fs::write(&transcript, found).unwrap();
        folder
            .restore(std::slice::from_ref(&first), &[sealed(1)])
            .unwrap();
        folder.append(&second, &sealed(2)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        let on_record = fs::read_to_string(&transcript).unwrap();
        assert_eq!(on_record, record(1) + &record(2));
    }
}

/// What is on record about a round in which nobody took part.
pub(crate) fn sealed(round: u32) -> SealedRecord {
    let now = std::time::Instant::now();
    let summary = RoundSummary {
        round: Round(round),
        opened_at: now,
        closed_at: now,
        accepted: Vec::new(),
        refused: Vec::new(),
        missing: Vec::new(),
    };
    let outline = Outline {
        plan: Digest([1; 32]),
        previous: Digest([2; 32]),
        before: Digest([3; 32]),
        after: Digest([4; 32]),
        adapter: Digest([5; 32]),
        secret: Digest([6; 32]),
    };
    Record::draw_up(&outline, &summary).seal(|_| Seal::default())
}

#[test]
fn an_adapter_that_is_not_the_rounds_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(parent.path(), &sidecar(), 0.0).unwrap();
    let missing = folder
        .read_round(&record(&adapter(5)), &adapter(1))
        .unwrap_err();
    assert!(missing.to_string().contains("round-0001"), "{missing}");
    folder.write_round(1, &adapter(6)).unwrap();
    let other = folder
        .read_round(&record(&adapter(5)), &adapter(1))
        .unwrap_err();
    assert!(other.to_string().contains("not the adapter"), "{other}");
    // What the journal did not know is replaced.
    folder.write_round(1, &adapter(5)).unwrap();
    let read = folder
        .read_round(&record(&adapter(5)), &adapter(1))
        .unwrap();
    assert_eq!(read, adapter(5));
}
