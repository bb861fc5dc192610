//! The files that our own side of mutual authentication is read from, as a configuration names them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::material::{MaterialError, TlsMaterial};

/// Where a party keeps its TLS material, all PEM.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Our certificate, followed by intermediate ones if there are any.
    pub certificate: PathBuf,
    /// Our private key, PKCS #8.
    pub key: PathBuf,
    /// The federation's authority.
    pub authority: PathBuf,
    /// The authority's revocation list; without one, revocation is not checked.
    pub revocations: Option<PathBuf>,
}

impl TlsFiles {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// [`MaterialError`] names the file.
    pub fn load(&self) -> Result<TlsMaterial, MaterialError> {
        let certificate = read(&self.certificate)?;
        refuse_shared(&self.key)?;
        let key = read(&self.key)?;
        let authority = read(&self.authority)?;
        let revocations = self.revocations.as_deref().map(read).transpose()?;
        let list = revocations.as_deref().map(String::as_str);
        TlsMaterial::from_pem(&certificate, &key, &authority, list)
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, MaterialError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(cause) => Err(MaterialError::Read {
            path: path.to_owned(),
            cause,
        }),
    }
}

#[cfg(unix)]
fn refuse_shared(key: &Path) -> Result<(), MaterialError> {
    use std::os::unix::fs::PermissionsExt;
    let path = key.to_owned();
    match fs::metadata(key) {
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            let mode = found.permissions().mode() & 0o777;
            Err(MaterialError::SharedKey { path, mode })
        }
        Ok(_) => Ok(()),
        Err(cause) => Err(MaterialError::Read { path, cause }),
    }
}

#[cfg(not(unix))]
fn refuse_shared(_key: &Path) -> Result<(), MaterialError> {
    Ok(())
}
