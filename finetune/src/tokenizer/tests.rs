use super::*;
use crate::gguf::header::{Header, MetaValue};
use crate::shared;
use serde_json::Value;

fn golden_cases(folder: &Path, key: Option<&str>) -> Vec<(String, Vec<u32>)> {
    let text = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let cases = key.map_or(&golden, |key| &golden[key]).as_array().unwrap();
    cases
        .iter()
        .map(|case| {
            let ids = case["ids"]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_u64().unwrap() as u32);
            (case["text"].as_str().unwrap().to_owned(), ids.collect())
        })
        .collect()
}

fn check_smollm(tokenizer: &Tokenizer, folder: &Path) {
    assert_eq!(tokenizer.vocab_size(), 49_152);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    for (text, ids) in golden_cases(folder, None) {
        assert_eq!(tokenizer.encode_template(&text).unwrap(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids), text);
        if !text.contains("<|") {
            assert_eq!(
                tokenizer.encode(&text, AddSpecial::Yes).unwrap(),
                ids,
                "{text:?}"
            );
        }
    }
}

#[test]
fn smollm_tokenizer_gives_the_golden_tokens() {
    let Some(folder) = shared::models("smollm2-135m-tokenizer") else {
        return;
    };
    check_smollm(&Tokenizer::from_folder(&folder).unwrap(), &folder);
}

#[test]
fn smollm_tokenizer_built_from_metadata_gives_the_golden_tokens() {
    let Some(folder) = shared::models("smollm2-135m-tokenizer") else {
        return;
    };
    let header = header_of(&folder.join("tokenizer.json"), "smollm");
    check_smollm(
        &Tokenizer::from_gguf(&header, Path::new("made.gguf")).unwrap(),
        &folder,
    );
}

/// GGUF metadata with the vocabulary of a `tokenizer.json`.
fn header_of(path: &Path, pre: &str) -> Header {
    let json: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut tokens = vec![String::new(); json["model"]["vocab"].as_object().unwrap().len()];
    for (token, id) in json["model"]["vocab"].as_object().unwrap() {
        tokens[id.as_u64().unwrap() as usize] = token.clone();
    }
    let mut kinds = vec![1; tokens.len()];
    for added in json["added_tokens"].as_array().unwrap() {
        kinds[added["id"].as_u64().unwrap() as usize] = 3;
    }
    let merges = json["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|merge| match merge {
            Value::String(text) => text.clone(),
            pair => format!(
                "{} {}",
                pair[0].as_str().unwrap(),
                pair[1].as_str().unwrap()
            ),
        });
    let mut header = Header::default();
    let mut set = |key: &str, value| {
        header
            .metadata
            .insert(format!("tokenizer.ggml.{key}"), value)
    };
    set("model", MetaValue::Text("gpt2".to_owned()));
    set("pre", MetaValue::Text(pre.to_owned()));
    set("merges", MetaValue::Texts(merges.collect()));
    set("tokens", MetaValue::Texts(tokens));
    set("token_type", MetaValue::Integers(kinds));
    set("bos_token_id", MetaValue::Integer(1));
    set("eos_token_id", MetaValue::Integer(2));
    header
}

#[test]
fn stories_tokenizer_gives_the_golden_tokens_and_keeps_special_text_literal() {
    let Some(folder) = shared::models("stories260K") else {
        return;
    };
    let tokenizer = Tokenizer::from_folder(&folder).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    let cases = golden_cases(&folder, Some("tokenize"));
    assert!(!cases.is_empty());
    for (text, ids) in cases {
        assert_eq!(
            tokenizer.encode(&text, AddSpecial::Yes).unwrap(),
            ids,
            "{text:?}"
        );
        assert_eq!(
            tokenizer.encode(&text, AddSpecial::No).unwrap(),
            ids[1..],
            "{text:?}"
        );
    }
    let ids = tokenizer.encode("a</s>b", AddSpecial::No).unwrap();
    assert!(!ids.contains(&2), "{ids:?}");
}

fn tiny_header(change: impl FnOnce(&mut Header)) -> Result<Tokenizer, LoadError> {
    let mut header = Header::default();
    let texts = |texts: &[&str]| MetaValue::Texts(texts.iter().map(|t| (*t).to_owned()).collect());
    let mut set = |key: &str, value| {
        header
            .metadata
            .insert(format!("tokenizer.ggml.{key}"), value)
    };
    set("model", MetaValue::Text("gpt2".to_owned()));
    set("pre", MetaValue::Text("llama-bpe".to_owned()));
    set(
        "tokens",
        texts(&["a", "b", "1", "ab", "<s>", "Ġ", "12", "2"]),
    );
    set("merges", texts(&["a b", "1 2"]));
    set(
        "token_type",
        MetaValue::Integers(vec![1, 1, 1, 1, 3, 1, 1, 1]),
    );
    set("bos_token_id", MetaValue::Integer(4));
    change(&mut header);
    Tokenizer::from_gguf(&header, Path::new("tiny.gguf"))
}

#[test]
fn families_differ_in_digits_and_in_the_opening_token() {
    let llama = tiny_header(|_| ()).unwrap();
    assert_eq!(
        llama.encode("ab 12", AddSpecial::Yes).unwrap(),
        [4, 3, 5, 6]
    );
    assert_eq!(llama.encode("ab", AddSpecial::No).unwrap(), [3]);
    let pre = |pre: &'static str| {
        move |header: &mut Header| {
            header.metadata.insert(
                "tokenizer.ggml.pre".to_owned(),
                MetaValue::Text(pre.to_owned()),
            );
        }
    };
    let smollm = tiny_header(pre("smollm")).unwrap();
    assert_eq!(
        smollm.encode("ab 12", AddSpecial::Yes).unwrap(),
        [3, 5, 2, 7]
    );
    let qwen2 = tiny_header(pre("qwen2")).unwrap();
    assert_eq!(qwen2.encode("12", AddSpecial::Yes).unwrap(), [2, 7]);
    let plain = tiny_header(pre("default")).unwrap();
    assert_eq!(plain.encode("12", AddSpecial::Yes).unwrap(), [6]);
}

#[test]
fn unusable_metadata_is_refused_with_a_sentence() {
    let set = |key: &'static str, value: MetaValue| {
        tiny_header(move |header| {
            header
                .metadata
                .insert(format!("tokenizer.ggml.{key}"), value);
        })
        .unwrap_err()
        .to_string()
    };
    assert!(set("model", MetaValue::Text("llama".to_owned())).contains("Hugging Face folder"));
    assert!(set("pre", MetaValue::Text("tekken".to_owned())).contains("\"tekken\""));
    assert!(set("merges", MetaValue::Texts(vec!["ab".to_owned()])).contains("not a pair"));
    assert!(set("merges", MetaValue::Texts(vec!["a x".to_owned()])).contains("do not fit"));
    assert!(set("token_type", MetaValue::Integers(vec![1])).contains("token types"));
    assert!(set("bos_token_id", MetaValue::Integer(99)).contains("99"));
}

#[test]
fn special_texts_are_found_and_broken_up() {
    let tokenizer = tiny_header(|_| ()).unwrap();
    let specials = tokenizer.specials();
    assert_eq!(specials.find("a<s><s>", 0), Some(1..4));
    assert_eq!(specials.find("a<s><s>", 2), Some(4..7));
    assert_eq!(specials.find("a<s", 0), None);
    assert_eq!(specials.broken_up("x<s>é<s>", '|'), "x<|s>é<|s>");
}
