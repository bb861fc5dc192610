//! From a file and the `--set` arguments to a [`RawConfig`], with the place of whatever is wrong.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use super::error::{ConfigError, Place, ValueError};
use super::raw::RawConfig;

/// One `--set section.key=value`.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    given: String,
    key: Vec<String>,
    value: toml::Value,
}

impl FromStr for Setting {
    type Err = String;

    /// Reads `section.key=value`. The value is TOML; what is not (`30s`, `json`) is taken as a string.
    fn from_str(given: &str) -> Result<Self, String> {
        let (key, value) = given
            .split_once('=')
            .ok_or("expected section.key=value, such as cohort.quorum=3")?;
        let key: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
        if key.iter().any(String::is_empty) {
            return Err("expected section.key=value, such as cohort.quorum=3".to_owned());
        }
        let value = value.trim();
        let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"))
            .ok()
            .and_then(|mut table| table.remove("value"));
        let value = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
        Ok(Self {
            given: given.to_owned(),
            key,
            value,
        })
    }
}

/// A configuration file as read, kept so that a later finding can name its line.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
    set: Vec<String>,
}

impl Source {
    /// Gives the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Turns a finding about a key into an error that says where the key stands.
    pub fn locate(&self, error: &ValueError) -> ConfigError {
        let path = self.path.clone();
        let was_set = self.set.contains(&error.key);
        let place = Place::of_key(&self.text, &error.key).filter(|_| !was_set);
        match place {
            Some(place) => ConfigError::Place {
                path,
                place,
                what: error.to_string(),
            },
            None if was_set => ConfigError::Key {
                path,
                what: format!("--set {error}"),
            },
            None => ConfigError::Key {
                path,
                what: error.to_string(),
            },
        }
    }
}

/// Reads a configuration file and applies the settings to it.
///
/// # Errors
/// [`ConfigError`]: unreadable, no TOML, an unknown or missing key, a value of the wrong type; with line and column.
pub fn load(path: &Path, settings: &[Setting]) -> Result<(RawConfig, Source), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, text, settings)
}

/// Reads a configuration from text, as [`load`] does; `path` is only its name.
///
/// # Errors
/// As for [`load`].
pub fn parse(
    path: &Path,
    text: String,
    settings: &[Setting],
) -> Result<(RawConfig, Source), ConfigError> {
    let set = settings
        .iter()
        .map(|setting| setting.key.join("."))
        .collect();
    let source = Source {
        path: path.to_owned(),
        text,
        set,
    };
    // Without settings the text is read directly: only then do the errors know their place.
    let direct = toml::from_str::<RawConfig>(&source.text);
    if settings.is_empty() {
        return match direct {
            Ok(raw) => Ok((raw, source)),
            Err(error) => Err(at_place(&source, &error)),
        };
    }
    let mut table: toml::Table =
        toml::from_str(&source.text).map_err(|error| at_place(&source, &error))?;
    for setting in settings {
        apply(&mut table, setting)?;
    }
    match (RawConfig::deserialize(table), direct) {
        (Ok(raw), _) => Ok((raw, source)),
        (Err(_), Err(error)) => Err(at_place(&source, &error)),
        (Err(error), Ok(_)) => {
            let given: Vec<&str> = settings
                .iter()
                .map(|setting| setting.given.as_str())
                .collect();
            Err(ConfigError::Setting {
                given: given.join(" --set "),
                what: sentence(&error),
            })
        }
    }
}

fn apply(table: &mut toml::Table, setting: &Setting) -> Result<(), ConfigError> {
    let Some((name, sections)) = setting.key.split_last() else {
        return Ok(());
    };
    let mut inner = table;
    for section in sections {
        let entry = inner
            .entry(section.clone())
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        inner = entry.as_table_mut().ok_or_else(|| ConfigError::Setting {
            given: setting.given.clone(),
            what: format!("{section} is no section"),
        })?;
    }
    inner.insert(name.clone(), setting.value.clone());
    Ok(())
}

fn at_place(source: &Source, error: &toml::de::Error) -> ConfigError {
    let path = source.path.clone();
    match error.span() {
        Some(span) => ConfigError::Place {
            path,
            place: Place::of(&source.text, span.start),
            what: sentence(error),
        },
        None => ConfigError::Key {
            path,
            what: sentence(error),
        },
    }
}

/// The library's message on one line, with what to do about the two commonest mistakes.
fn sentence(error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', ", ");
    if message.starts_with("unknown field") {
        format!("{message}; correct or remove the key")
    } else if message.starts_with("missing field") {
        format!("{message}; add it (server.example.toml shows every key)")
    } else {
        message
    }
}
