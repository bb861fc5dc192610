//! The offline check of a finished run's folder: every adapter in it is the one on record, the final one too.

use std::fs;
use std::path::Path;

use aggregation::peft;
use server::transcript::audit;

use crate::scene::Scene;
use crate::scripted::constant;

/// A run of one round that is over.
async fn after_a_run() -> Scene {
    let scene = Scene::new(&["north", "south"]);
    let running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let mut south = scene.join("south", &running).await;
    let (round, _) = north.asked().await;
    south.asked().await;
    for one in [&mut north, &mut south] {
        one.deliver(round, &constant(0.5), 1).await;
        one.is_accepted(round).await;
    }
    north.finished().await;
    south.finished().await;
    running.outcome().await.unwrap();
    let authority = &scene.federation.server().authority;
    fs::write(scene.folder.path().join("ca.crt"), authority).unwrap();
    scene
}

/// What the check says of the run's folder.
fn judged(scene: &Scene) -> Result<Vec<String>, String> {
    let authority = scene.folder.path().join("ca.crt");
    let audit = audit(&scene.config.run.folder(), &authority);
    audit
        .map(|audit| audit.adapters)
        .map_err(|error| error.to_string())
}

/// Writes a file anew, has the folder judged, and puts the file back.
fn judged_with(scene: &Scene, file: &Path, bytes: &[u8]) -> String {
    let before = fs::read(file).unwrap();
    assert_ne!(bytes, before);
    fs::write(file, bytes).unwrap();
    let refused = judged(scene).unwrap_err();
    fs::write(file, before).unwrap();
    refused
}

#[tokio::test]
async fn a_final_adapter_that_is_not_the_one_on_record_is_named() {
    let scene = after_a_run().await;
    assert_eq!(judged(&scene).unwrap(), ["round-0001", "adapter"]);

    let model = scene
        .config
        .run
        .folder()
        .join("adapter/adapter_model.safetensors");
    let other = peft::save(&scene.start, "tiny-llama", 0.1).safetensors;
    let refused = judged_with(&scene, &model, &other);
    assert!(
        refused.contains("round 1: ")
            && refused.contains("trial/adapter is not what the transcript says"),
        "{refused}"
    );
    // What was moved away is not missed.
    fs::remove_dir_all(scene.config.run.folder().join("round-0001")).unwrap();
    assert_eq!(judged(&scene).unwrap(), ["adapter"]);
}

/// The values are the same, and a model with them is another.
#[tokio::test]
async fn an_adapter_with_another_scale_or_base_model_than_the_others_is_named() {
    let scene = after_a_run().await;
    let folder = scene.config.run.folder().join("adapter");
    for (file, from, to) in [
        (
            "adapter_config.json",
            "\"lora_alpha\": 4",
            "\"lora_alpha\": 8",
        ),
        ("foedus.json", "\"0707", "\"0807"),
    ] {
        let file_path = folder.join(file);
        let changed = fs::read_to_string(&file_path).unwrap().replace(from, to);
        let refused = judged_with(&scene, &file_path, changed.as_bytes());
        assert!(
            refused.contains(&format!("its {file} says something else than that of "))
                && refused.contains("round-0001"),
            "{refused}"
        );
    }
    assert_eq!(judged(&scene).unwrap(), ["round-0001", "adapter"]);
}
