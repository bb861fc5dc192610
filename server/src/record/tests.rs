use std::sync::Arc;

use aggregation::{AdapterLayout, ModuleLayout};

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
    let folder = RunFolder::create(&parent.path().join("run"), &sidecar(), 0.1).unwrap();
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
    assert_eq!(names, ["round-0001", "rounds.jsonl"]);
}

#[test]
fn what_a_crash_left_half_written_is_replaced() {
    let parent = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(parent.path(), &sidecar(), 0.0).unwrap();
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
fn a_folder_with_a_round_in_it_is_refused_and_named() {
    let parent = tempfile::tempdir().unwrap();
    drop(RunFolder::create(parent.path(), &sidecar(), 0.0).unwrap());
    fs::write(parent.path().join("rounds.jsonl"), "{}\n").unwrap();
    let refused = RunFolder::create(parent.path(), &sidecar(), 0.0).unwrap_err();
    assert!(matches!(refused, ServerError::RunExists { .. }));
    assert!(refused.to_string().contains("choose another run.name"));
    assert_eq!(refused.exit_code(), 78);
}

#[test]
fn a_folder_is_one_servers_at_a_time_and_free_again_if_no_round_was_done() {
    let parent = tempfile::tempdir().unwrap();
    let first = RunFolder::create(parent.path(), &sidecar(), 0.0).unwrap();
    assert!(RunFolder::create(parent.path(), &sidecar(), 0.0).is_err());
    drop(first);
    assert!(RunFolder::create(parent.path(), &sidecar(), 0.0).is_ok());
}
