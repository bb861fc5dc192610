//! The configuration as typed, before anything in it is checked.

use std::path::{Path, PathBuf};

use protocol::{participant::Patience, quic::TlsFiles};
use serde::Deserialize;

use super::{
    Bytes, CHECKPOINT_EVERY, Log, Share, TRANSFER_MAX, default_out, privacy::RawPrivacy,
    quantity::WrittenDuration,
};

/// The configuration as typed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) server: String,
    pub(super) model: PathBuf,
    pub(super) data: PathBuf,
    #[serde(default = "default_out")]
    pub(super) out: PathBuf,
    #[serde(default)]
    pub(super) state: Option<PathBuf>,
    #[serde(default = "checkpoint_every")]
    pub(super) checkpoint_every: WrittenDuration,
    #[serde(default)]
    pub(super) ledger: Option<PathBuf>,
    #[serde(default)]
    pub(super) policy: Option<PathBuf>,
    #[serde(default)]
    pub(super) device: Option<String>,
    #[serde(default)]
    pub(super) base_precision: Option<String>,
    #[serde(default)]
    pub(super) activation_checkpointing: Option<String>,
    pub(super) tls: RawTls,
    #[serde(default)]
    pub(super) share: Share,
    #[serde(default)]
    pub(super) privacy: Option<RawPrivacy>,
    #[serde(default)]
    pub(super) connection: RawConnection,
    #[serde(default)]
    pub(super) log: Log,
}

fn checkpoint_every() -> WrittenDuration {
    WrittenDuration(CHECKPOINT_EVERY)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) authority: PathBuf,
    #[serde(default)]
    pub(super) revocations: Option<PathBuf>,
}

impl RawTls {
    pub(super) fn resolved(self, folder: &Path) -> TlsFiles {
        TlsFiles {
            certificate: folder.join(self.certificate),
            key: folder.join(self.key),
            authority: folder.join(self.authority),
            revocations: self.revocations.map(|file| folder.join(file)),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawConnection {
    pub(super) first_pause: WrittenDuration,
    pub(super) longest_pause: WrittenDuration,
    pub(super) give_up_after: WrittenDuration,
    pub(super) transfer_max: Bytes,
}

impl Default for RawConnection {
    fn default() -> Self {
        let Patience {
            first_pause,
            longest_pause,
            give_up_after,
        } = Patience::default();
        Self {
            first_pause: WrittenDuration(first_pause),
            longest_pause: WrittenDuration(longest_pause),
            give_up_after: WrittenDuration(give_up_after),
            transfer_max: TRANSFER_MAX,
        }
    }
}
