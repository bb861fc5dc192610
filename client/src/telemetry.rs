//! Logs on stderr, as text for people or JSON for machines.
//!
//! Only programs install it; a library never does, so that the simulator can run many participants in one process.

use std::{fmt, io::IsTerminal, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error as _};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!(
                "unknown log format {name:?}: use \"text\" or \"json\""
            )),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl<'de> Deserialize<'de> for LogFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// Installs the program's log. `RUST_LOG`, if set, wins over `filter`.
///
/// # Errors
/// A sentence, if the filter cannot be read or a log is already installed.
pub fn install<W>(format: LogFormat, filter: &str, writer: W) -> Result<(), String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let wanted = std::env::var("RUST_LOG").unwrap_or_else(|_| filter.to_owned());
    let filter = EnvFilter::try_new(&wanted)
        .map_err(|reason| format!("the log filter {wanted:?} cannot be read: {reason}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Or a log that cannot be written would be complained of where it cannot be written either, by a panic.
        .log_internal_errors(false)
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal());
    let installed = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|reason| format!("the log cannot be installed: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_round_trip_and_strangers_are_named() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("xml".parse::<LogFormat>().unwrap_err().contains("\"xml\""));
    }
}
