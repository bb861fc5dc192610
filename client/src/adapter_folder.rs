//! An adapter on disk: the folder that Hugging Face PEFT reads, with our `foedus.json` beside it.
//!
//! The formats are `aggregation::peft`'s; this is only the reading and writing. A folder appears whole or not at all: it is
//! written under another name and renamed. It takes the place of an earlier adapter and of nothing else ([`check_place`]).

mod place;
#[cfg(test)]
mod tests;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use aggregation::{
    Adapter,
    peft::{self, PeftConfig, PeftError, Sidecar},
};

pub use self::place::{check_place, prepare};

/// An adapter with what its folder says about it.
#[derive(Clone, Debug)]
pub struct AdapterFolder {
    /// The factors.
    pub adapter: Adapter,
    /// PEFT's own configuration.
    pub config: PeftConfig,
    /// The base model it belongs to, if Foedus wrote the folder.
    pub sidecar: Option<Sidecar>,
}

/// An adapter's folder that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The operating system refused.
    #[error("cannot {verb} {}: {source}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The files are there and hold no adapter that we can use.
    #[error("{} holds no usable adapter: {source}", path.display())]
    Peft {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: PeftError,
    },
    /// `foedus.json` cannot be read.
    #[error("{} cannot be read: {what}", path.display())]
    Sidecar {
        /// The file.
        path: PathBuf,
        /// The reason.
        what: String,
    },
    /// The adapter was made for another base model.
    #[error(
        "the adapter in {} was made for base model {wanted}, but the model given has fingerprint {found}",
        path.display()
    )]
    OtherBase {
        /// The folder.
        path: PathBuf,
        /// Name and fingerprint in `foedus.json`.
        wanted: String,
        /// The given model's fingerprint.
        found: String,
    },
    /// The place has no name that a folder could be renamed to.
    #[error(
        "an adapter cannot be written to {path:?}: it is put in its place by renaming a folder, and this names none; write a name, such \
         as results/adapter"
    )]
    Nameless {
        /// What was given.
        path: PathBuf,
    },
    /// Something else than an adapter lies in the folder, or is to lie there.
    #[error(
        "an adapter cannot be written to {}: it takes the place of the whole folder, and {} belongs there, too; name a new folder, or one \
         that holds nothing but an earlier adapter",
        path.display(), found.display()
    )]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is not an adapter's.
        found: PathBuf,
    },
    /// The adapter is written and could not be put in its place.
    #[error("{why}; the new adapter is whole in {}: move it to where it belongs", made.display())]
    NotInPlace {
        /// The folder that it is in.
        made: PathBuf,
        /// The reason.
        why: Box<Self>,
    },
}

impl AdapterFolder {
    /// Reads a folder; `foedus.json` may be missing, as it is in a folder that PEFT wrote.
    ///
    /// # Errors
    /// [`FolderError`] with the file to blame.
    pub fn read(folder: &Path) -> Result<Self, FolderError> {
        let config_json = read(&folder.join(CONFIG_FILE))?;
        let safetensors = read(&folder.join(TENSORS_FILE))?;
        let (adapter, config) =
            peft::load(&config_json, &safetensors).map_err(|source| FolderError::Peft {
                path: folder.to_owned(),
                source,
            })?;
        let path = folder.join(SIDECAR_FILE);
        let sidecar = if path.exists() {
            let read = Sidecar::from_json(&read(&path)?);
            Some(read.map_err(|what| FolderError::Sidecar {
                path,
                what: what.to_string(),
            })?)
        } else {
            None
        };
        Ok(Self {
            adapter,
            config,
            sidecar,
        })
    }

    /// Refuses an adapter whose `foedus.json` names another base model than the one given.
    ///
    /// # Errors
    /// [`FolderError::OtherBase`].
    pub fn check_base(&self, folder: &Path, fingerprint: &[u8; 32]) -> Result<(), FolderError> {
        let Some(sidecar) = &self.sidecar else {
            return Ok(());
        };
        if sidecar.base_fingerprint == *fingerprint {
            return Ok(());
        }
        Err(FolderError::OtherBase {
            path: folder.to_owned(),
            wanted: format!(
                "{} ({})",
                sidecar.base_name,
                hex::encode(sidecar.base_fingerprint)
            ),
            found: hex::encode(fingerprint),
        })
    }
}

/// Writes an adapter's folder. It takes the place of an earlier adapter.
///
/// # Errors
/// [`FolderError`] with the file to blame; what was in the folder is then still there.
pub fn write(
    folder: &Path,
    adapter: &Adapter,
    dropout: f64,
    sidecar: &Sidecar,
) -> Result<(), FolderError> {
    let folder = place::named(folder)?;
    let files = peft::save(adapter, &sidecar.base_name, dropout);
    let (fresh, old) = (place::aside(&folder, "new")?, place::aside(&folder, "old")?);
    attempt("make", &fresh, fs::create_dir_all(&fresh))?;
    save(&fresh.join(CONFIG_FILE), &files.config_json)?;
    save(&fresh.join(TENSORS_FILE), &files.safetensors)?;
    save(&fresh.join(SIDECAR_FILE), &sidecar.to_json())?;
    place::take(&fresh, &folder, &old)
}

/// PEFT's configuration file.
const CONFIG_FILE: &str = "adapter_config.json";
/// PEFT's tensor file.
const TENSORS_FILE: &str = "adapter_model.safetensors";
/// Our own file.
const SIDECAR_FILE: &str = "foedus.json";
/// All that is in an adapter's folder.
const FILES: [&str; 3] = [CONFIG_FILE, TENSORS_FILE, SIDECAR_FILE];

fn read(path: &Path) -> Result<Vec<u8>, FolderError> {
    attempt("read", path, fs::read(path))
}

fn save(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let write = || {
        let mut file = fs::File::create(path)?;
        file.write_all(bytes)?;
        // The rename that follows must not become durable before the bytes are.
        file.sync_all()
    };
    attempt("write", path, write())
}

fn attempt<T>(
    verb: &'static str,
    path: &Path,
    outcome: std::io::Result<T>,
) -> Result<T, FolderError> {
    outcome.map_err(|source| FolderError::Io {
        verb,
        path: path.to_owned(),
        source,
    })
}
