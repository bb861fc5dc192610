//! What a run starts from that cannot be used, and where its results cannot be.

use std::path::PathBuf;

use aggregation::ewc::AnchorError;
use aggregation::peft::PeftError;
use protocol::Digest;

use super::folder::{CONFIG_FILE, MODEL_FILE, SIDECAR_FILE};

/// What a run starts from cannot be used, or its results could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file cannot be read.
    #[error(
        "cannot read {}: {source}; `foedus-client adapter new` makes a start folder, `foedus-client fisher` an anchor",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The run's results could not be written.
    #[error(
        "nothing can be written in {}, so the run's results cannot be in {}: {source}; name a folder, with its whole path if it is not \
         beside the configuration, in which the user that runs the server may write",
        folder.display(),
        results.display()
    )]
    Unwritable {
        /// The folder of the run.
        results: PathBuf,
        /// It, or the nearest one above it that is there.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or the adapter in it is larger than the server takes.
    #[error("{} has {found} bytes, the limit is {limit}; raise limits.adapter_max if that is meant", path.display())]
    TooLarge {
        /// The file or folder.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The folder holds no adapter that can be used.
    #[error("{} is no usable start folder: {source}", folder.display())]
    Peft {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with which file.
        source: PeftError,
    },
    /// The adapter is one that no client would lay out.
    #[error(
        "{} is no usable start folder: {what}; a run adapts the same projections in every layer of the base model: `foedus-client adapter \
         new` makes such a folder",
        folder.display()
    )]
    Layers {
        /// The folder.
        folder: PathBuf,
        /// Which layer is not as the others.
        what: String,
    },
    /// The folder was made for another base model than the configuration names.
    #[error("{} was made for the base model {found}, and run.base is {expected}", folder.display())]
    OtherBase {
        /// The folder.
        folder: PathBuf,
        /// The fingerprint in its foedus.json.
        found: Digest,
        /// The fingerprint configured.
        expected: Digest,
    },
    /// The anchor cannot be used for this adapter.
    #[error("{} is no usable anchor for this run: {source}", path.display())]
    Anchor {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: AnchorError,
    },
}

impl StartError {
    /// Gives the configuration key to look at.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Read { path, .. } | Self::TooLarge { path, .. } => {
                let of_folder = [CONFIG_FILE, MODEL_FILE, SIDECAR_FILE];
                let is_start = of_folder.iter().any(|name| path.ends_with(name)) || path.is_dir();
                if is_start { "run.start" } else { "ewc.anchor" }
            }
            Self::Unwritable { .. } => "run.out",
            Self::Peft { .. } | Self::Layers { .. } => "run.start",
            Self::OtherBase { .. } => "run.base",
            Self::Anchor { .. } => "ewc.anchor",
        }
    }
}
