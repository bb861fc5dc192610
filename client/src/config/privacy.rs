//! `[privacy]`: the site's own budget, as typed and checked.

use std::path::{Path, PathBuf};

use aggregation::privacy::{Budget, PrivacyError};
use serde::Deserialize;

use super::ConfigError;
use crate::privacy::PrivacySettings;

/// The section as typed.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawPrivacy {
    /// The one beside the data that knows its contents, or `data` with ".privacy", if not given.
    ledger: Option<PathBuf>,
    epsilon_max: f64,
    delta: f64,
    /// Empty: every record stands alone.
    group_by: String,
    records_max: usize,
    /// True if the section stands there without it.
    required: Option<bool>,
}

impl Default for RawPrivacy {
    fn default() -> Self {
        Self {
            ledger: None,
            epsilon_max: 8.0,
            delta: 1e-5,
            group_by: String::new(),
            records_max: 8,
            required: None,
        }
    }
}

impl RawPrivacy {
    /// Checks the values; paths are relative to `folder`, that of the file at `path`.
    pub(super) fn check(
        self,
        data: &Path,
        folder: &Path,
        path: &Path,
    ) -> Result<PrivacySettings, ConfigError> {
        let refuse = |key, found: String, rule: String| ConfigError::Value {
            path: path.to_owned(),
            key,
            found,
            rule,
        };
        let budget = Budget::new(self.epsilon_max, self.delta).map_err(|error| {
            let (key, found) = match error {
                PrivacyError::Delta { .. } => ("privacy.delta", self.delta),
                _ => ("privacy.epsilon_max", self.epsilon_max),
            };
            refuse(key, found.to_string(), error.to_string())
        })?;
        if self.records_max == 0 {
            let rule = "must be at least 1".to_owned();
            return Err(refuse("privacy.records_max", "0".to_owned(), rule));
        }
        Ok(PrivacySettings {
            ledger: match self.ledger {
                Some(ledger) => folder.join(ledger),
                None => data.with_added_extension("privacy"),
            },
            budget,
            group_by: Some(self.group_by).filter(|field| !field.is_empty()),
            records_max: self.records_max,
            required: self.required,
        })
    }
}
