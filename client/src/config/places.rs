//! What a run writes at this site: whether it can be written there is found out before the run, and nothing is left there.
//!
//! The privacy ledger is tried only if somebody has named it: beside the data it is found by their contents, and needed by private runs
//! alone.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use super::{Config, ConfigError};
use crate::policy::SitePolicy;

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
        for (key, place) in places {
            try_place(place).map_err(|(found, cause)| ConfigError::Unwritable {
                path: path.to_owned(),
                key,
                place: place.clone(),
                found,
                cause,
            })?;
        }
        Ok(())
    }
}

/// Tries a file or folder that a run writes: itself, if it is a file that is there, and the folder that it lies in, or the nearest one
/// above that is there. Gives what could not be written.
fn try_place(place: &Path) -> Result<(), (PathBuf, io::Error)> {
    if place.is_file() {
        let opened = OpenOptions::new().append(true).open(place);
        opened.map_err(|error| (place.to_owned(), error))?;
    }
    let there = place.ancestors().skip(1).find(|above| above.exists());
    // The first part of a relative path is made in the current folder.
    let there = there.unwrap_or_else(|| Path::new("."));
    try_folder(there).map_err(|error| (there.to_owned(), error))
}

fn try_folder(folder: &Path) -> io::Result<()> {
    let draft = folder.join(format!(".foedus-check-{}", std::process::id()));
    // Left over from a process of the same number that was killed.
    let _ = fs::remove_file(&draft);
    File::create_new(&draft)?;
    fs::remove_file(&draft)
}

#[cfg(test)]
mod tests {
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
