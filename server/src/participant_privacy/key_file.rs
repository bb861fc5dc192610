//! The key of one round's noise on disk: from the operating system before the round is merged, until its adapter is there.
//!
//! It has a file of its own, as a database keeps what was removed in its free pages. In it are the round, a little-endian u32, and
//! 32 bytes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use aggregation::privacy::NoiseKey;
use protocol::Round;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::durable::sync_folder_of;
use crate::error::ServerError;

const ROUND_BYTES: usize = 4;
const KEY_BYTES: usize = 32;

/// Where the key is, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct NoiseKeyFile(PathBuf);

impl NoiseKeyFile {
    /// The file at this place.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The key of this round, if it was drawn.
    pub(super) fn of(&self, round: Round) -> Result<Option<NoiseKey>, ServerError> {
        let read = || -> io::Result<(Round, NoiseKey)> {
            let mut file = File::open(&self.0)?;
            let (mut of, mut key) = ([0; ROUND_BYTES], [0; KEY_BYTES]);
            file.read_exact(&mut of)?;
            file.read_exact(&mut key)?;
            Ok((Round(u32::from_le_bytes(of)), NoiseKey::take(&mut key)))
        };
        match read() {
            Ok((of, key)) => Ok((of == round).then_some(key)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ServerError::Read {
                path: self.0.clone(),
                source,
            }),
        }
    }

    /// Draws the key of this round; it is on disk when this returns. One of an earlier round has served.
    pub(super) fn draw(&self, round: Round) -> Result<NoiseKey, ServerError> {
        self.wipe()?;
        let mut key = [0; KEY_BYTES];
        let drawn = SystemRandom::new().fill(&mut key);
        drawn.map_err(|_| ServerError::Internal {
            what: "the operating system gives no randomness for the privacy noise".to_owned(),
        })?;
        let written = self.write(round, &key);
        let key = NoiseKey::take(&mut key);
        written.map_err(ServerError::write(&self.0))?;
        Ok(key)
    }

    /// Overwrites and removes a key that has served, if there is one.
    pub(crate) fn wipe(&self) -> Result<(), ServerError> {
        let wipe = || -> io::Result<()> {
            let mut file = match OpenOptions::new().write(true).open(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                opened => opened?,
            };
            file.write_all(&[0; ROUND_BYTES + KEY_BYTES])?;
            file.sync_all()?;
            fs::remove_file(&self.0)?;
            sync_folder_of(&self.0)
        };
        wipe().map_err(ServerError::write(&self.0))
    }

    /// Durably, whole or not at all, and for nobody else's eyes.
    fn write(&self, round: Round, key: &[u8; KEY_BYTES]) -> io::Result<()> {
        let part = self.0.with_added_extension("part");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let mut file = options.open(&part)?;
        file.write_all(&round.0.to_le_bytes())?;
        file.write_all(key)?;
        file.sync_all()?;
        fs::rename(&part, &self.0)?;
        sync_folder_of(&self.0)
    }
}
