use super::*;
use crate::precision::BasePrecision;
use crate::{chat::Turn, device, tiny, tokenizer::AddSpecial};
use safetensors::SafeTensors;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

fn tiny_folder(seed: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path(), &tiny::shape(), seed).unwrap();
    folder
}

#[test]
fn fingerprint_covers_configuration_weights_and_tokenizer_and_nothing_else() {
    let folder = tiny_folder(1);
    let fingerprint = || BaseFiles::open(folder.path()).unwrap().fingerprint;
    let first = fingerprint();
    let hex = |name: &str| {
        let bytes = std::fs::read(folder.path().join(name)).unwrap();
        hex::encode(Sha256::digest(bytes))
    };
    let tokenizer = || BaseFiles::inspect(folder.path()).unwrap().digest().unwrap();
    let listing = format!(
        "config.json\0{}\nmodel.safetensors\0{}\ntokenizer\0{}\n",
        hex("config.json"),
        hex("model.safetensors"),
        hex::encode(tokenizer())
    );
    assert_eq!(first, <[u8; 32]>::from(Sha256::digest(listing.as_bytes())));
    // Mistral's folders hold the weights twice, and an adapter may have been saved beside them: neither is loaded.
    for other in [
        "README.md",
        "consolidated.safetensors",
        "adapter_model.safetensors",
    ] {
        std::fs::write(folder.path().join(other), "x").unwrap();
        assert_eq!(fingerprint(), first, "{other}");
    }
    // What a text becomes: the vocabulary, the template, the end of a turn. What else the configuration says is nothing to it.
    let edit = |file: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let path = folder.path().join(file);
        let before = std::fs::read(&path).unwrap();
        let mut value = serde_json::from_slice(&before).unwrap();
        change(&mut value);
        std::fs::write(&path, value.to_string()).unwrap();
        let changed = fingerprint();
        std::fs::write(&path, before).unwrap();
        changed
    };
    let config = "tokenizer_config.json";
    let normalizer = serde_json::json!({"type": "Lowercase"});
    let others = [
        edit("tokenizer.json", &|file| {
            file["normalizer"] = normalizer.clone()
        }),
        edit(config, &|file| {
            file["chat_template"] = "{{ messages }}".into()
        }),
        edit(config, &|file| file["eos_token"] = "<|im_start|>".into()),
    ];
    assert!(others.iter().all(|other| *other != first));
    assert_eq!(
        edit(config, &|file| file["padding_side"] = "left".into()),
        first
    );
    tiny::write(folder.path(), &tiny::shape(), 2).unwrap();
    assert_ne!(fingerprint(), first);
}

#[test]
fn fingerprint_of_shards_covers_each_that_the_index_names() {
    let folder = tiny_folder(1);
    let path = |name: &str| folder.path().join(name);
    let whole = std::fs::read(path("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&whole).unwrap();
    let (first, second): (Vec<_>, Vec<_>) = tensors
        .tensors()
        .into_iter()
        .partition(|(name, _)| name.contains("layers.0"));
    let mut places = BTreeMap::new();
    for (file, shard) in [("b.safetensors", first), ("a.safetensors", second)] {
        places.extend(shard.iter().map(|(name, _)| (name.clone(), file)));
        let bytes = safetensors::serialize(shard, None).unwrap();
        std::fs::write(path(file), bytes).unwrap();
    }
    let index = serde_json::json!({ "weight_map": places });
    std::fs::write(path("model.safetensors.index.json"), index.to_string()).unwrap();
    let hex = |name: &str| {
        let bytes = std::fs::read(path(name)).unwrap();
        hex::encode(Sha256::digest(bytes))
    };
    let listing: String = ["a.safetensors", "b.safetensors", "config.json"]
        .map(|name| format!("{name}\0{}\n", hex(name)))
        .concat();
    let tokenizer = BaseFiles::inspect(folder.path()).unwrap().digest().unwrap();
    let listing = format!("{listing}tokenizer\0{}\n", hex::encode(tokenizer));
    // The single file is there still, and not loaded.
    let fingerprint = BaseFiles::open(folder.path()).unwrap().fingerprint;
    assert_eq!(
        fingerprint,
        <[u8; 32]>::from(Sha256::digest(listing.as_bytes()))
    );
}

#[test]
fn inspection_finds_what_opening_would_refuse() {
    let folder = tiny_folder(1);
    BaseFiles::inspect(folder.path()).unwrap();
    let weights = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() - 1]).unwrap();
    let refused = BaseFiles::inspect(folder.path()).unwrap_err().to_string();
    assert!(refused.contains("model.safetensors"), "{refused}");
}

#[test]
fn progress_ends_at_the_total() {
    let folder = tiny_folder(1);
    let mut last = None;
    BaseFiles::open_observed(folder.path(), &mut |progress| last = Some(progress)).unwrap();
    let last = last.unwrap();
    assert!(last.done == last.total && last.total > 0);
}

#[test]
fn tiny_model_loads_and_lays_out_adapters() {
    let folder = tiny_folder(1);
    let device = device::open(device::DeviceChoice::Cpu).unwrap();
    let base = BaseModel::open(folder.path(), &device).unwrap();
    assert_eq!(
        base.name,
        folder.path().file_name().unwrap().to_string_lossy()
    );
    let layout = base.adapter_layout(&LoraConfig::default()).unwrap();
    assert_eq!(layout.modules().len(), 4);
    let none = LoraConfig {
        rank: 0,
        ..LoraConfig::default()
    };
    let error = base.adapter_layout(&none).unwrap_err();
    assert!(matches!(error, LoadError::Layout { .. }), "{error}");
}

#[test]
fn tokenizer_larger_than_the_embedding_is_refused() {
    let folder = tiny_folder(1);
    let path = folder.path().join("config.json");
    let config = std::fs::read_to_string(&path)
        .unwrap()
        .replace("259", "200");
    std::fs::write(&path, config).unwrap();
    let error = BaseFiles::open(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("259 tokens") && error.contains("200"),
        "{error}"
    );
}

#[test]
fn what_is_missing_is_named() {
    let error = BaseFiles::open(Path::new("/nowhere/model.gguf"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nowhere/model.gguf"), "{error}");
    let folder = tiny_folder(1);
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let error = BaseFiles::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json is missing"), "{error}");
}

/// Needs the file of `foedus-sim`'s cache; `FOEDUS_TEST_GGUF` names it.
#[test]
fn smollm_gguf_opens_with_its_known_fingerprint() {
    let Some(path) = std::env::var_os("FOEDUS_TEST_GGUF").map(PathBuf::from) else {
        eprintln!("skipped: FOEDUS_TEST_GGUF is not set");
        return;
    };
    let started = std::time::Instant::now();
    let files = BaseFiles::open(&path).unwrap();
    println!("opened in {:?}", started.elapsed());
    let hex = hex::encode(files.fingerprint);
    assert_eq!(
        hex,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    );
    let known = tiny::smollm2_135m();
    assert_eq!(
        LlamaConfig {
            eos_token_ids: vec![2],
            ..files.config.clone()
        },
        known
    );
    let device = device::open(device::DeviceChoice::Cpu).unwrap();
    let started = std::time::Instant::now();
    let base = files.load(&device, BasePrecision::Auto).unwrap();
    println!("loaded in {:?}", started.elapsed());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!(
        "{}",
        status
            .lines()
            .filter(|l| l.starts_with("VmHWM") || l.starts_with("VmRSS"))
            .collect::<Vec<_>>()
            .join(" ")
    );
    assert_eq!(
        base.tokenizer
            .encode("Hello world", AddSpecial::Yes)
            .unwrap(),
        [19_556, 905]
    );
    let turns = [Turn::user("x"), Turn::assistant("<|im_end|> y")];
    assert!(base.tokenizer.conversation(&turns).is_ok());
}
