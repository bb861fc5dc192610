//! The bytes of accepted updates, kept until their round's adapter is safe: a file each, named by the transfer.
//!
//! A file is whole and synced before the journal says that its update counts. Files that the journal does not know are left
//! over from a crash and removed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use protocol::Digest;
use protocol::message::TransferHeader;

use crate::error::ServerError;

/// The folder of kept updates.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
}

impl Spool {
    /// Opens the folder and removes what is not among the updates that count.
    pub(crate) fn open(folder: &Path, counted: &[TransferHeader]) -> Result<Self, ServerError> {
        let spool = Self {
            folder: folder.to_owned(),
        };
        let counted: BTreeSet<_> = counted.iter().map(|header| spool.path(header)).collect();
        let tidy = || -> io::Result<()> {
            fs::create_dir_all(folder)?;
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if !counted.contains(&path) {
                    fs::remove_file(path)?;
                }
            }
            Ok(())
        };
        tidy().map_err(ServerError::write(folder))?;
        Ok(spool)
    }

    /// Keeps the bytes of an update; they are on disk when this returns.
    pub(crate) fn keep(&self, header: &TransferHeader, bytes: &[u8]) -> Result<(), ServerError> {
        let path = self.path(header);
        let temporary = path.with_extension("part");
        let keep = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            crate::record::sync_folder(&self.folder)
        };
        keep().map_err(ServerError::write(&path))
    }

    /// Reads an update that counts.
    pub(crate) fn read(&self, header: &TransferHeader) -> Result<Vec<u8>, ServerError> {
        let path = self.path(header);
        let lost = |what: String| ServerError::UpdateLost {
            path: path.clone(),
            what,
        };
        let bytes = fs::read(&path).map_err(|error| lost(error.to_string()))?;
        if bytes.len() as u64 == header.bytes && Digest::of(&bytes) == header.sha256 {
            Ok(bytes)
        } else {
            Err(lost(
                "the bytes are not those that were accepted".to_owned(),
            ))
        }
    }

    /// Removes everything: the round's adapter is safe.
    pub(crate) fn clear(&self) -> Result<(), ServerError> {
        Self::open(&self.folder, &[]).map(drop)
    }

    fn path(&self, header: &TransferHeader) -> PathBuf {
        self.folder.join(format!("{}.update", header.id))
    }
}

#[cfg(test)]
mod tests {
    use protocol::Round;
    use protocol::message::Content;

    use super::*;

    fn header(bytes: &[u8]) -> TransferHeader {
        let sender = "north".parse().unwrap();
        TransferHeader::update(&sender, Round(1), Digest([1; 32]), Content::of(bytes))
    }

    #[test]
    fn what_is_kept_reads_back_and_only_what_counts_outlives_a_restart() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("updates");
        let spool = Spool::open(&folder, &[]).unwrap();
        let (counted, stray) = (header(b"counted"), header(b"stray"));
        spool.keep(&counted, b"counted").unwrap();
        spool.keep(&stray, b"stray").unwrap();
        fs::write(folder.join("half.part"), b"ha").unwrap();
        let spool = Spool::open(&folder, &[counted]).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert_eq!(spool.read(&counted).unwrap(), b"counted");
        spool.clear().unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn a_lost_or_changed_update_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), &[]).unwrap();
        let header = header(b"counted");
        let missing = spool.read(&header).unwrap_err();
        assert!(
            matches!(missing, ServerError::UpdateLost { .. }),
            "{missing}"
        );
        spool.keep(&header, b"counted").unwrap();
        fs::write(spool.path(&header), b"c0unted").unwrap();
        let changed = spool.read(&header).unwrap_err().to_string();
        assert!(changed.contains(&header.id.to_string()), "{changed}");
        assert!(
            changed.contains("not those that were accepted"),
            "{changed}"
        );
    }
}
