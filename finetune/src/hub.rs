//! Fetching a base model from the Hugging Face hub, into its normal cache.
//!
//! The one module that uses a network. `HF_HOME`, `HF_ENDPOINT` and the login token are honoured as every Hugging Face
//! tool does. What is in the cache is used when the hub cannot be reached.

use crate::error::LoadError;
use hf_hub::Cache;
use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use std::path::PathBuf;

/// Files besides the weights; only the first must exist.
const SMALL_FILES: [&str; 4] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];
const INDEX: &str = "model.safetensors.index.json";

/// Fetches `ORG/NAME` and returns the folder with its files.
///
/// # Errors
/// [`LoadError::Fetch`] if the name is none, the repository has no safetensors, or the hub cannot be reached and the
/// cache does not have it.
pub fn fetch(repository: &str) -> Result<PathBuf, LoadError> {
    let error = |what: String| LoadError::Fetch {
        name: format!("hf:{repository}"),
        what,
    };
    if !is_repository(repository) {
        return Err(error("write hf:ORG/NAME".to_owned()));
    }
    let api = ApiBuilder::from_env()
        .with_progress(false)
        .build()
        .map_err(|e| error(e.to_string()))?;
    let remote = api.model(repository.to_owned());
    let listing = match remote.info() {
        Ok(info) => info
            .siblings
            .into_iter()
            .map(|file| file.rfilename)
            .collect::<Vec<_>>(),
        Err(reason) => {
            return cached(repository).ok_or_else(|| {
                error(format!(
                    "{reason}; check the name and the network, log in with `hf auth login` if the model is gated, \
                     or give a folder or a .gguf file"
                ))
            });
        }
    };
    let wanted = wanted(&listing).map_err(error)?;
    fetch_files(&remote, &wanted).map_err(error)
}

/// Whether a text is `ORG/NAME` and cannot leave the cache.
fn is_repository(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    text.split_once('/')
        .is_some_and(|(organisation, name)| plain(organisation) && plain(name))
}

/// The files of a repository that a base model needs.
fn wanted(listing: &[String]) -> Result<Vec<String>, String> {
    let has = |name: &str| listing.iter().any(|file| file == name);
    if !has("config.json") {
        return Err("the repository has no config.json; it is not a model".to_owned());
    }
    let mut files: Vec<String> = SMALL_FILES
        .into_iter()
        .filter(|name| has(name))
        .map(str::to_owned)
        .collect();
    if has(INDEX) {
        files.push(INDEX.to_owned());
        let shards = listing.iter().filter(|file| {
            file.starts_with("model-") && file.ends_with(".safetensors") && !file.contains('/')
        });
        files.extend(shards.cloned());
    } else if has("model.safetensors") {
        files.push("model.safetensors".to_owned());
    } else {
        return Err("the repository has no safetensors; choose one that has".to_owned());
    }
    Ok(files)
}

fn fetch_files(remote: &ApiRepo, files: &[String]) -> Result<PathBuf, String> {
    let mut folder = None;
    for file in files {
        tracing::info!(file, "fetching");
        let path = remote.get(file).map_err(|e| format!("{file}: {e}"))?;
        folder = path.parent().map(ToOwned::to_owned);
    }
    folder.ok_or_else(|| "the repository is empty".to_owned())
}

/// The snapshot in the cache, if it looks whole; opening it finds out.
fn cached(repository: &str) -> Option<PathBuf> {
    let snapshot = Cache::from_env().model(repository.to_owned());
    let config = snapshot.get("config.json")?;
    snapshot
        .get(INDEX)
        .or_else(|| snapshot.get("model.safetensors"))?;
    config.parent().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_repository_are_refused() {
        for name in ["", "x", "a/b/c", "../b", "a/..", "a/b c", "/etc"] {
            let error = fetch(name).unwrap_err().to_string();
            assert!(error.contains("write hf:ORG/NAME"), "{error}");
        }
        assert!(is_repository("HuggingFaceTB/SmolLM2-135M-Instruct"));
    }

    #[test]
    fn only_the_files_of_a_base_model_are_wanted() {
        let listing = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let sharded = listing(&[
            "config.json",
            "tokenizer.json",
            INDEX,
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "original/model-0.safetensors",
            "pytorch_model.bin",
        ]);
        let files = wanted(&sharded).unwrap();
        assert_eq!(files.len(), 5);
        assert!(
            !files
                .iter()
                .any(|file| file.contains("original") || file.contains("bin"))
        );
        assert!(wanted(&listing(&["config.json", "pytorch_model.bin"])).is_err());
        assert!(wanted(&listing(&["README.md"])).is_err());
    }
}
