//! A read-only file in memory, without reading it.
//!
//! One of the three modules with unsafe code: mapping is unsafe because another process may change or truncate the file
//! while it is mapped; reads would then see other bytes or end the process with SIGBUS. Model files are written once
//! and replaced by rename, all parsers check every bound against the mapped length, and every number read from the
//! bytes is treated as hostile, so changed bytes cost a wrong model at worst. The gain: a base model of many gigabytes
//! opens in milliseconds, and only the tensor in hand is in memory twice.

use crate::error::LoadError;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A file mapped into memory.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    map: memmap2::Mmap,
}

impl MappedFile {
    /// Maps a file; it must not be changed in place while this value lives.
    ///
    /// # Errors
    /// [`LoadError::Io`] with the path if it cannot be opened, is no regular file, or cannot be mapped.
    #[expect(unsafe_code, reason = "mapping is; see the module's text")]
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let file = File::open(path).map_err(|e| LoadError::io("open", path, e))?;
        let kind = file
            .metadata()
            .map_err(|e| LoadError::io("open", path, e))?;
        if !kind.is_file() {
            let reason = std::io::Error::other("it is not a regular file");
            return Err(LoadError::io("open", path, reason));
        }
        // SAFETY: the mapping is read-only and private to this value; see the module's text for writers elsewhere.
        let map =
            unsafe { memmap2::Mmap::map(&file) }.map_err(|e| LoadError::io("map", path, e))?;
        Ok(Self {
            path: path.to_owned(),
            map,
        })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The file's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_file_maps_to_no_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(MappedFile::open(file.path()).unwrap().bytes().is_empty());
    }

    #[test]
    fn missing_file_and_folder_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = MappedFile::open(&folder.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
        assert!(MappedFile::open(folder.path()).is_err());
    }
}
