//! What a base model is called: for people, and in PEFT's files as the model that an adapter belongs to.

use std::path::Path;

/// The repository's name for a folder in the Hugging Face hub's cache, else the folder's or file's; `path` is absolute.
pub(super) fn of(path: &Path, is_folder: bool) -> String {
    let plain = || {
        let name = if is_folder {
            path.file_name()
        } else {
            path.file_stem()
        };
        name.map_or_else(
            || "base".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    };
    // Of a repository of GGUF files the file's name says more.
    let repository = is_folder.then(|| repository(path)).flatten();
    repository.unwrap_or_else(plain)
}

/// `ORG/NAME` of `.../models--ORG--NAME/snapshots/COMMIT`: the last part alone would name a commit, which says nothing to anybody.
fn repository(folder: &Path) -> Option<String> {
    let snapshots = folder.parent()?;
    if snapshots.file_name()? != "snapshots" {
        return None;
    }
    let cached = snapshots.parent()?.file_name()?.to_str()?;
    let name = cached.strip_prefix("models--")?;
    // The hub allows no name with two hyphens in a row.
    Some(name.replace("--", "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_in_the_hubs_cache_is_named_after_its_repository() {
        let cache = "/home/x/.cache/huggingface/hub";
        for (folder, name) in [
            (
                "models--HuggingFaceTB--SmolLM2-135M-Instruct/snapshots/7e27bd9f95",
                "HuggingFaceTB/SmolLM2-135M-Instruct",
            ),
            ("models--gpt2/snapshots/607a30d783", "gpt2"),
        ] {
            assert_eq!(of(&Path::new(cache).join(folder), true), name);
        }
    }

    #[test]
    fn anything_else_is_named_as_it_is_on_disk() {
        for (path, is_folder, name) in [
            ("/models/SmolLM2", true, "SmolLM2"),
            ("/models/smollm2.q8.gguf", false, "smollm2.q8"),
            ("/models/snapshots/one", true, "one"),
            ("/hub/models--a--b/refs/main", true, "main"),
            ("/hub/models--a--b/snapshots/c/d.gguf", false, "d"),
            ("/", true, "base"),
        ] {
            assert_eq!(of(Path::new(path), is_folder), name, "{path}");
        }
    }
}
