//! Real models for tests, which are not in the repository: they are read where the workplace keeps them.

use std::path::{Path, PathBuf};

/// A folder below `data/models` of `FOEDUS_SHARED`, else of `../../shared`; without it, says so and gives `None`.
pub(crate) fn models(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("FOEDUS_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let path = shared.join("data/models").join(name);
    if !path.exists() {
        eprintln!(
            "skipped: {} is not there; set FOEDUS_SHARED",
            path.display()
        );
        return None;
    }
    Some(path)
}
