//! A file with a line of JSON for each round, which only grows.
//!
//! What it must say is in the journal, so a line is not synced by itself: one that a crash kept from being written is added at
//! the next start, and the last ones are synced before the journal calls the run finished.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::durable::sync_folder_of;
use crate::error::ServerError;

/// The file, open for more.
#[derive(Debug)]
pub(crate) struct LineFile {
    path: PathBuf,
    file: File,
}

impl LineFile {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: PathBuf) -> Result<Self, ServerError> {
        let file = open(&path).map_err(ServerError::write(&path))?;
        Ok(Self { path, file })
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> Result<bool, ServerError> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(ServerError::write(&self.path))?.len() == 0)
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many whole lines are in it.
    pub(crate) fn count(&self) -> Result<usize, ServerError> {
        let bytes = fs::read(&self.path).map_err(ServerError::read(&self.path))?;
        Ok(bytes.iter().filter(|&&byte| byte == b'\n').count())
    }

    /// Makes the file say these lines and no others.
    pub(crate) fn restore<T: Serialize>(&mut self, values: &[T]) -> Result<(), ServerError> {
        let lines = values.iter().map(line);
        let lines = lines.collect::<Result<Vec<_>, _>>()?.concat();
        let restore = || -> io::Result<File> {
            if fs::read(&self.path)? != lines {
                let temporary = self.path.with_extension("part");
                let mut file = File::create(&temporary)?;
                file.write_all(&lines)?;
                file.sync_all()?;
                fs::rename(&temporary, &self.path)?;
                sync_folder_of(&self.path)?;
            }
            open(&self.path)
        };
        self.file = restore().map_err(ServerError::write(&self.path))?;
        Ok(())
    }

    /// Adds a line.
    pub(crate) fn append<T: Serialize>(&self, value: &T) -> Result<(), ServerError> {
        let line = line(value)?;
        let written = (&self.file).write_all(&line);
        written.map_err(ServerError::write(&self.path))
    }

    /// Makes all lines durable.
    pub(crate) fn sync(&self) -> Result<(), ServerError> {
        self.file.sync_all().map_err(ServerError::write(&self.path))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn line<T: Serialize>(value: &T) -> Result<Vec<u8>, ServerError> {
    let mut line = serde_json::to_vec(value).map_err(|error| ServerError::Internal {
        what: format!("a round's line is not JSON: {error}"),
    })?;
    line.push(b'\n');
    Ok(line)
}
