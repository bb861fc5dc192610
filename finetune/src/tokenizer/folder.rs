//! A tokenizer from the files of a Hugging Face folder.

use super::Parts;
use crate::error::LoadError;
use crate::weights::read_json_text;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::path::Path;

pub(super) fn read(folder: &Path) -> Result<Parts, LoadError> {
    let path = folder.join("tokenizer.json");
    if !path.exists() {
        return Err(LoadError::tokenizer(
            folder,
            "tokenizer.json is missing; save the fast tokenizer of the model beside its weights",
        ));
    }
    let text = read_json_text(&path)?;
    let tokenizer = tokenizers::Tokenizer::from_bytes(&text)
        .map_err(|e| LoadError::damaged(&path, format!("not a tokenizer: {e}")))?;
    let config = tokenizer_config(folder)?;
    let token = |name: &str| {
        let text = match config.get(name)? {
            Value::String(text) => text,
            other => other.get("content")?.as_str()?,
        };
        tokenizer.token_to_id(text)
    };
    let (bos, eos) = model_tokens(folder);
    let (bos, eos) = (token("bos_token").or(bos), token("eos_token").or(eos));
    let chat_template = chat_template(folder, &config)?;
    Ok(Parts {
        bos,
        eos,
        unknown: token("unk_token"),
        digest: Some(digest(&text, chat_template.as_deref(), [bos, eos])),
        chat_template,
        tokenizer,
    })
}

/// SHA-256 over all that decides which tokens a text becomes; what else the files say changes nothing.
fn digest(tokenizer: &str, chat_template: Option<&str>, ends: [Option<u32>; 2]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"foedus/tokenizer/1");
    hash.update(Sha256::digest(tokenizer));
    hash.update(chat_template.map(Sha256::digest).unwrap_or_default());
    for token in ends {
        hash.update(token.map_or(u64::MAX, u64::from).to_le_bytes());
    }
    hash.finalize().into()
}

fn tokenizer_config(folder: &Path) -> Result<Value, LoadError> {
    let path = folder.join("tokenizer_config.json");
    if !path.exists() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&read_json_text(&path)?)
        .map_err(|e| LoadError::damaged(&path, format!("not a tokenizer configuration: {e}")))
}

/// The tokens that `config.json` names; that file itself is checked elsewhere.
fn model_tokens(folder: &Path) -> (Option<u32>, Option<u32>) {
    let Ok(text) = read_json_text(&folder.join("config.json")) else {
        return (None, None);
    };
    let config: Value = serde_json::from_str(&text).unwrap_or_default();
    let token = |name: &str| {
        let value = &config[name];
        let first = value.as_u64().or_else(|| value.get(0)?.as_u64())?;
        u32::try_from(first).ok()
    };
    (token("bos_token_id"), token("eos_token_id"))
}

/// A file of its own wins; in the configuration it is a text, or a list from which `default` is taken.
fn chat_template(folder: &Path, config: &Value) -> Result<Option<String>, LoadError> {
    let path = folder.join("chat_template.jinja");
    if path.exists() {
        return read_json_text(&path).map(Some);
    }
    let template = match config.get("chat_template") {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Array(named)) => named
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str())
            .map(str::to_owned),
        _ => None,
    };
    Ok(template)
}
