//! What makes two base models the same.

use super::HashProgress;
use crate::error::LoadError;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

const CHUNK_BYTES: usize = 4 << 20;

/// SHA-256 of a GGUF file.
pub(super) fn of_file(
    path: &Path,
    observe: &mut dyn FnMut(HashProgress),
) -> Result<[u8; 32], LoadError> {
    let mut progress = HashProgress {
        done: 0,
        total: bytes(path)?,
    };
    hash_file(path, &mut progress, observe)
}

/// SHA-256 over the lines `NAME\0HEX\n` of a folder's `config.json` and of the shards that are loaded, sorted by name, and then of its
/// `tokenizer`: institutions whose texts become other tokens do not train the same model.
///
/// Other files of the folder change nothing: neither the model's weights once more in another form, nor an adapter that was saved there.
pub(super) fn of_folder(
    files: &[PathBuf],
    tokenizer: Option<[u8; 32]>,
    observe: &mut dyn FnMut(HashProgress),
) -> Result<[u8; 32], LoadError> {
    let mut files = files.to_vec();
    files.sort();
    let mut progress = HashProgress { done: 0, total: 0 };
    for file in &files {
        progress.total += bytes(file)?;
    }
    let mut listing = String::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        listing.push_str(&name);
        listing.push('\0');
        listing.push_str(&hex::encode(hash_file(file, &mut progress, observe)?));
        listing.push('\n');
    }
    if let Some(tokenizer) = tokenizer {
        listing.push_str(&format!("tokenizer\0{}\n", hex::encode(tokenizer)));
    }
    Ok(Sha256::digest(listing.as_bytes()).into())
}

fn bytes(file: &Path) -> Result<u64, LoadError> {
    let about = file.metadata();
    Ok(about.map_err(|e| LoadError::io("open", file, e))?.len())
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
