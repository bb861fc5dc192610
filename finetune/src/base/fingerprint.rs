//! What makes two base models the same.

use super::HashProgress;
use crate::error::LoadError;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

const CHUNK_BYTES: usize = 4 << 20;

/// SHA-256 of a file, or over the lines `NAME\0HEX\n` of a folder's `config.json` and `*.safetensors`, sorted by name.
pub(super) fn of(
    path: &Path,
    folder: bool,
    observe: &mut dyn FnMut(HashProgress),
) -> Result<[u8; 32], LoadError> {
    let files = if folder {
        model_files(path)?
    } else {
        vec![path.to_owned()]
    };
    let mut progress = HashProgress { done: 0, total: 0 };
    for file in &files {
        progress.total += file
            .metadata()
            .map_err(|e| LoadError::io("open", file, e))?
            .len();
    }
    if !folder {
        return hash_file(path, &mut progress, observe);
    }
    let mut listing = String::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        listing.push_str(&name);
        listing.push('\0');
        for byte in hash_file(file, &mut progress, observe)? {
            write!(listing, "{byte:02x}").expect("writing to a String cannot fail");
        }
        listing.push('\n');
    }
    Ok(Sha256::digest(listing.as_bytes()).into())
}

fn model_files(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let error = |e| LoadError::io("list", folder, e);
    let mut files = vec![folder.join("config.json")];
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn hash_file(
    path: &Path,
    progress: &mut HashProgress,
    observe: &mut dyn FnMut(HashProgress),
) -> Result<[u8; 32], LoadError> {
    let mut file = File::open(path).map_err(|e| LoadError::io("open", path, e))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0u8; CHUNK_BYTES];
    loop {
        let count = file
            .read(&mut chunk)
            .map_err(|e| LoadError::io("read", path, e))?;
        if count == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(&chunk[..count]);
        progress.done += count as u64;
        observe(*progress);
    }
}
