//! A configuration that cannot be used, in sentences that name the file, the key and what to do.

use std::path::PathBuf;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The file is not TOML, or a key is unknown, missing or of the wrong kind.
    #[error("{} {what}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        what: String,
    },
    /// A value has the right kind and makes no sense.
    #[error("{}: {key} is {found}: {rule}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key with its section.
        key: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        rule: String,
    },
    /// A file that the configuration names is not there.
    #[error("{}: {key} names {}, which is not there", path.display(), found.display())]
    Missing {
        /// The configuration file.
        path: PathBuf,
        /// The key with its section.
        key: &'static str,
        /// The missing file.
        found: PathBuf,
    },
    /// What a run writes could not be written where the configuration wants it.
    #[error(
        "{}: {key} names {}, but {} cannot be written: {cause}; let the user that runs the client write there, or name a place, with its \
         whole path if it is not beside this file, where it may",
        path.display(),
        place.display(),
        found.display()
    )]
    Unwritable {
        /// The configuration file.
        path: PathBuf,
        /// The key with its section.
        key: &'static str,
        /// What the key names, or what is meant without it.
        place: PathBuf,
        /// It, or the nearest folder above it that is there.
        found: PathBuf,
        /// The operating system's reason.
        cause: std::io::Error,
    },
}

/// Writes an error of the TOML parser as "line 3, column 5: reason".
pub(crate) fn place(text: &str, error: &toml::de::Error) -> String {
    let reason = error.message().trim_end().replace('\n', "; ");
    let Some(span) = error.span() else {
        return reason;
    };
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |last| last.chars().count())
        + 1;
    format!("line {line}, column {column}: {reason}")
}
