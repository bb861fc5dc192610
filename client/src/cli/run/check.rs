//! What `run` finds out before it connects to anybody: whether there is a place for its result.

use std::path::Path;

use crate::{Config, ConfigError, adapter_folder};

/// Checks that the final adapter takes the place of nothing but an earlier adapter.
pub(super) fn place(config: &Config, file: &Path) -> Result<(), ConfigError> {
    let kept = [&config.state, &config.ledger, &config.privacy.ledger];
    let kept = kept.map(|path| path.as_path());
    adapter_folder::check_place(&config.out, &kept).map_err(|refused| ConfigError::Value {
        path: file.to_owned(),
        key: "out",
        found: format!("{:?}", config.out),
        rule: refused.to_string(),
    })
}
