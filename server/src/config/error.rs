//! What can be wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

use toml::de::DeTable;

/// A configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "cannot read the configuration {}: {source}; copy server.example.toml and edit its required keys", path.display()
    )]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// Why the system refused.
        source: std::io::Error,
    },
    /// A place in the file is wrong.
    #[error("{}:{place}: {what}", path.display())]
    Place {
        /// The file.
        path: PathBuf,
        /// Line and column.
        place: Place,
        /// What is wrong there and what to do.
        what: String,
    },
    /// A key is wrong whose value does not stand in the file: it was given by `--set`, or is missing.
    #[error("{}: {what}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Which key, what is wrong with it and what to do.
        what: String,
    },
    /// An argument of `--set` cannot be read.
    #[error("--set {given}: {what}")]
    Setting {
        /// The argument.
        given: String,
        /// What is wrong with it.
        what: String,
    },
}

/// A position in a text file, both numbers counted from 1, the column in characters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl Place {
    /// Finds the position of a byte of `text`.
    pub(super) fn of(text: &str, byte: usize) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// Finds where the value of a dotted key stands, if the file gives one; else where its section begins.
    pub(super) fn of_key(text: &str, key: &str) -> Option<Self> {
        let parsed = DeTable::parse(text).ok()?;
        let (section, name) = match key.split_once('.') {
            Some((section, name)) => (section, Some(name)),
            None => (key, None),
        };
        let value = parsed.get_ref().get(section)?;
        let inner = name.and_then(|name| value.get_ref().as_table()?.get(name));
        match (name, inner) {
            (_, Some(found)) => Some(Self::of(text, found.span().start)),
            (None, None) => Some(Self::of(text, value.span().start)),
            (Some(_), None) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One value of the configuration breaks a rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct ValueError {
    /// The key, with its section: `cohort.quorum`.
    pub key: String,
    /// The rule, what was found and what to do.
    pub what: String,
}

impl ValueError {
    pub(crate) fn new(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            what: what.into(),
        }
    }
}
