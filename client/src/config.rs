//! The client's configuration file.
//!
//! Two stages: `RawConfig` is the TOML as typed, [`Config`] is checked and has its paths resolved; nothing downstream
//! checks again. What all participants must agree on (rank, learning rate, steps) is not here: it comes in the server's
//! signed run plan. Secrets are paths. `client.example.toml` shows every key with its default.

mod error;
mod places;
mod privacy;
mod quantity;
mod raw;
mod within_policy;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use finetune::{device::DeviceChoice, model::Checkpointing, precision::BasePrecision};
use protocol::{participant::Patience, quic::TlsFiles};
use serde::Deserialize;

pub use self::error::ConfigError;
pub(crate) use self::error::place;
pub use self::quantity::Bytes;
use self::raw::RawConfig;
use crate::{privacy::PrivacySettings, telemetry::LogFormat};

/// Which numbers may leave the site beside the update and its weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Share {
    /// The mean training loss of each round. Default false.
    pub train_loss: bool,
}

/// How the program logs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Text for people or JSON for machines. Default text.
    pub format: LogFormat,
    /// What is logged, in the syntax of `RUST_LOG`. Default "info".
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".to_owned(),
        }
    }
}

/// The checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The server as "host:port".
    pub server: String,
    /// The base model: a Hugging Face folder or a GGUF file.
    pub model: PathBuf,
    /// The site's training text, one JSON record a line.
    pub data: PathBuf,
    /// The folder that the run's final adapter is written to.
    pub out: PathBuf,
    /// The file that keeps a finished update over the death of the process.
    pub state: PathBuf,
    /// How often a round's training is kept beside it. Default one minute.
    pub checkpoint_every: Duration,
    /// The egress ledger: what this site has sent.
    pub ledger: PathBuf,
    /// The site's policy, if there is one.
    pub policy: Option<PathBuf>,
    /// The device to train on.
    pub device: DeviceChoice,
    /// How the base is kept there.
    pub base_precision: BasePrecision,
    /// What training keeps between forward and backward.
    pub checkpointing: Checkpointing,
    /// Certificate, key, authority and revocation list.
    pub tls: TlsFiles,
    /// What may leave the site.
    pub share: Share,
    /// What private training may cost, and where it is counted.
    pub privacy: PrivacySettings,
    /// Whether its ledger was named, and is not the one that the data leads to.
    pub privacy_ledger_named: bool,
    /// How long to wait for a server that is away.
    pub patience: Patience,
    /// The largest transfer that is taken in.
    pub transfer_max: Bytes,
    /// Logging.
    pub log: Log,
}

impl Config {
    /// Reads and checks a configuration file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// [`ConfigError`] with the file, and line and column or key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Checks the text of a configuration file that was read from `path`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            what: place(text, &error),
        })?;
        Self::check(raw, path)
    }

    /// Checks that the files which the configuration names are there.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] names the first that is not.
    pub fn check_files(&self, path: &Path) -> Result<(), ConfigError> {
        let tls = &self.tls;
        let mut named = vec![
            ("model", &self.model),
            ("data", &self.data),
            ("tls.certificate", &tls.certificate),
            ("tls.key", &tls.key),
            ("tls.authority", &tls.authority),
        ];
        named.extend(self.policy.as_ref().map(|file| ("policy", file)));
        named.extend(
            tls.revocations
                .as_ref()
                .map(|file| ("tls.revocations", file)),
        );
        for (key, file) in named {
            if !file.exists() {
                let (path, found) = (path.to_owned(), file.clone());
                return Err(ConfigError::Missing { path, key, found });
            }
        }
        Ok(())
    }

    fn check(raw: RawConfig, path: &Path) -> Result<Self, ConfigError> {
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        let refuse = |key, found: String, rule: String| {
            Err(ConfigError::Value {
                path: path.to_owned(),
                key,
                found,
                rule,
            })
        };
        if !is_address(&raw.server) {
            let rule = "write it as \"host:port\", such as \"foedus.example.org:4433\"".to_owned();
            return refuse("server", format!("{:?}", raw.server), rule);
        }
        let device = named(raw.device.as_deref(), "device", path)?;
        let base_precision = named(raw.base_precision.as_deref(), "base_precision", path)?;
        let checkpointing = named(
            raw.activation_checkpointing.as_deref(),
            "activation_checkpointing",
            path,
        )?;
        let patience = Patience {
            first_pause: raw.connection.first_pause.0,
            longest_pause: raw.connection.longest_pause.0,
            give_up_after: raw.connection.give_up_after.0,
        };
        if patience.first_pause.is_zero() || patience.longest_pause < patience.first_pause {
            let rule = "must be above zero and at most connection.longest_pause".to_owned();
            return refuse(
                "connection.first_pause",
                format!("{:?}", patience.first_pause),
                rule,
            );
        }
        if let Err(reason) = raw.log.filter.parse::<tracing_subscriber::EnvFilter>() {
            return refuse(
                "log.filter",
                format!("{:?}", raw.log.filter),
                reason.to_string(),
            );
        }
        let data = folder.join(raw.data);
        // Who writes the section means to bound what training costs, and that of a plan without privacy has no bound.
        let stands = raw.privacy.is_some().then_some(true);
        let mut privacy = raw.privacy.unwrap_or_default().check(&data, folder, path)?;
        privacy.required = privacy.required.or(stands);
        let beside_out = |named: Option<PathBuf>, extension: &str| {
            folder.join(named.unwrap_or_else(|| raw.out.with_added_extension(extension)))
        };
        // One that is named as it would be without a name is no decision.
        let privacy_ledger_named = privacy.ledger != data.with_added_extension("privacy");
        Ok(Self {
            server: raw.server,
            model: folder.join(raw.model),
            data,
            state: beside_out(raw.state, "state"),
            checkpoint_every: raw.checkpoint_every.0,
            ledger: beside_out(raw.ledger, "ledger"),
            out: folder.join(raw.out),
            policy: raw.policy.map(|file| folder.join(file)),
            device,
            base_precision,
            checkpointing,
            tls: raw.tls.resolved(folder),
            share: raw.share,
            privacy,
            privacy_ledger_named,
            patience,
            transfer_max: raw.connection.transfer_max,
            log: raw.log,
        })
    }
}

/// The largest transfer that is taken in unless the configuration says otherwise: an adapter of 512 million values.
pub const TRANSFER_MAX: Bytes = Bytes(2 << 30);

/// How often a round's training is kept unless the configuration says otherwise.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// Reads a value that has a name; without one it is the default.
fn named<T>(written: Option<&str>, key: &'static str, path: &Path) -> Result<T, ConfigError>
where
    T: std::str::FromStr<Err: std::fmt::Display> + Default,
{
    let Some(written) = written else {
        return Ok(T::default());
    };
    written
        .parse()
        .map_err(|reason: T::Err| ConfigError::Value {
            path: path.to_owned(),
            key,
            found: format!("{written:?}"),
            rule: reason.to_string(),
        })
}

fn default_out() -> PathBuf {
    PathBuf::from("adapter")
}

/// Whether the text is a host, a colon and a port. Whether the host exists is found out when connecting.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(char::is_whitespace)
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}
