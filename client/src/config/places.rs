//! What a run writes at this site: whether it can be written there is found out before the run, and nothing is left there.
//!
//! The privacy ledger is tried only if somebody has named it: beside the data it is found by their contents, and needed by private runs
//! alone.

use std::path::{Path, PathBuf};

use super::{Config, ConfigError};
use crate::{durable, policy::SitePolicy};

impl Config {
    /// Checks that adapter, state and ledgers can be written; `path` is the configuration's own.
    ///
    /// # Errors
    /// [`ConfigError::Unwritable`] names the first that cannot be, with its key.
    pub fn check_places(
        &self,
        path: &Path,
        policy: Option<&SitePolicy>,
    ) -> Result<(), ConfigError> {
        let privacy = match policy.and_then(SitePolicy::privacy_ledger) {
            Some(ledger) => Some(ledger),
            None if self.privacy_ledger_named => Some(self.privacy.ledger.clone()),
            None => None,
        };
        let mut places = vec![
            ("out", &self.out),
            ("state", &self.state),
            ("ledger", &self.ledger),
        ];
        places.extend(privacy.as_ref().map(|ledger| ("privacy.ledger", ledger)));
        self.check_apart(path, &places)?;
        for (key, place) in places {
            durable::try_place(place).map_err(|(found, cause)| ConfigError::Unwritable {
                path: path.to_owned(),
                key,
                place: place.clone(),
                found,
                cause,
            })?;
        }
        Ok(())
    }

    /// Checks that no file which a run writes is one that it also writes or reads under another key: it would be taken for damaged, and
    /// be lost.
    fn check_apart(
        &self,
        path: &Path,
        written: &[(&'static str, &PathBuf)],
    ) -> Result<(), ConfigError> {
        let mut read = vec![
            ("data", &self.data),
            ("model", &self.model),
            ("tls.certificate", &self.tls.certificate),
            ("tls.key", &self.tls.key),
            ("tls.authority", &self.tls.authority),
        ];
        read.extend(self.policy.as_ref().map(|policy| ("policy", policy)));
        let revocations = self.tls.revocations.as_ref();
        read.extend(revocations.map(|list| ("tls.revocations", list)));
        for (index, (key, place)) in written.iter().enumerate() {
            let others = written[index + 1..].iter().chain(&read);
            let same = others.into_iter().find(|(_, other)| is_same(place, other));
            if let Some((other, _)) = same {
                return Err(ConfigError::Value {
                    path: path.to_owned(),
                    key,
                    found: format!("{place:?}"),
                    rule: format!("`{other}` names the same; each needs a file of its own"),
                });
            }
        }
        Ok(())
    }
}

/// Whether two paths name one file, also by way of links. What is not there yet is compared as written.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::tests::REQUIRED;

    fn config(folder: &Path, more: &str) -> (Config, PathBuf) {
        let path = folder.join("client.toml");
        fs::write(&path, "").unwrap();
        let text = format!("{more}\n{REQUIRED}");
        (Config::parse(&text, &path).unwrap(), path)
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn places_that_can_be_written_are_left_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let (config, path) = config(folder.path(), "out = \"new/adapter\"");
        fs::write(folder.path().join("site.ledger"), "a line\n").unwrap();
        let config = Config {
            ledger: folder.path().join("site.ledger"),
            ..config
        };
        config.check_places(&path, None).unwrap();
        assert_eq!(names_in(folder.path()), ["client.toml", "site.ledger"]);
        assert_eq!(fs::read_to_string(&config.ledger).unwrap(), "a line\n");
    }

    /// A file is in the way: that stops the superuser too.
    #[test]
    fn a_place_that_cannot_be_written_is_named_with_its_key() {
        for key in ["out", "state", "ledger"] {
            let folder = tempfile::tempdir().unwrap();
            let more = format!("{key} = \"client.toml/place\"");
            let (config, path) = config(folder.path(), &more);
            let refused = config.check_places(&path, None).unwrap_err().to_string();
            for expected in [
                format!("client.toml: {key} names "),
                "client.toml/place, ".to_owned(),
            ] {
                assert!(refused.contains(&expected), "{refused}");
            }
            assert_eq!(names_in(folder.path()), ["client.toml"]);
        }
    }

    #[test]
    fn a_file_that_two_keys_name_is_refused() {
        for (more, other) in [
            ("state = \"text.jsonl\"", "data"),
            ("ledger = \"text.jsonl\"", "data"),
            ("state = \"site.ledger\"\nledger = \"link\"", "ledger"),
            ("ledger = \"client.key\"", "tls.key"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let there = |name: &str| folder.path().join(name);
            fs::write(there("site.ledger"), "").unwrap();
            std::os::unix::fs::symlink("site.ledger", there("link")).unwrap();
            let (mut config, path) = config(folder.path(), more);
            config.data = there("text.jsonl");
            config.tls.key = there("client.key");
            let refused = config.check_places(&path, None).unwrap_err().to_string();
            let named = format!("`{other}` names the same");
            assert!(refused.contains(&named), "{refused}");
        }
    }

    #[test]
    fn a_privacy_ledger_is_tried_if_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (config, path) = config(folder.path(), "");
        let named = Config {
            privacy_ledger_named: true,
            ..config
        };
        // The folder of the data is not there, and above it is one that can be written.
        named.check_places(&path, None).unwrap();
        let mut elsewhere = named;
        elsewhere.privacy.ledger = path.join("site.privacy");
        let refused = elsewhere.check_places(&path, None).unwrap_err();
        assert!(refused.to_string().contains("privacy.ledger"), "{refused}");
        elsewhere.privacy_ledger_named = false;
        elsewhere.check_places(&path, None).unwrap();
    }
}
