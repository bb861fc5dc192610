//! Files that a command writes its result to: new ones, or earlier results of the same command.

use std::{io::ErrorKind, path::Path};

use anyhow::Context as _;

use super::{failure::Failure, open};
use crate::durable;

/// A kind of file, told by its contents.
pub(super) struct Kind {
    /// What it is called in a refusal.
    pub(super) name: &'static str,
    /// Whether these are the contents of one.
    pub(super) is: fn(&[u8]) -> bool,
}

impl Kind {
    /// Finds out before any work is done whether the file can be written, and that nothing else is lost by it.
    pub(super) fn prepare(&self, file: &Path) -> Result<(), Failure> {
        self.check(file)?;
        open::place(file)
    }

    /// Writes the whole file or leaves what was there.
    pub(super) fn write(&self, file: &Path, bytes: &[u8]) -> Result<(), Failure> {
        self.check(file)?;
        let written = if is_special(file) {
            std::fs::write(file, bytes)
        } else {
            durable::replace(file, bytes)
        };
        Ok(written.with_context(|| format!("cannot write {}", file.display()))?)
    }

    fn check(&self, file: &Path) -> Result<(), Failure> {
        if is_special(file) {
            return Ok(());
        }
        match std::fs::read(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            // What cannot be replaced is said when it is tried.
            Ok(bytes) if bytes.is_empty() || (self.is)(&bytes) => Ok(()),
            Ok(_) => Err(Failure::usage(format!(
                "{} is there already, is no {}, and is left as it is: choose another file",
                file.display(),
                self.name
            ))),
            Err(error) => {
                let what = || format!("cannot look at what {} is", file.display());
                Err(anyhow::Error::from(error).context(what()).into())
            }
        }
    }
}

/// Whether it is a pipe or a device: something that is written to and not replaced.
fn is_special(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|found| !found.is_file() && !found.is_dir())
}
