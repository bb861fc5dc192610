//! An authority on disk: `ca.crt`, `ca.key`, `crl.pem`, `index.jsonl`, in a folder for its owner only.
//!
//! Every change is in the index before it leaves the folder: a certificate that somebody holds is
//! always one that can be revoked. A lock on the folder makes two operators take turns.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::authority::Authority;
use crate::error::IssueError;
use crate::files::{self, Readers, failed};
use crate::issued::{self, Issued};
use crate::terms::Terms;

const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
const REVOCATIONS: &str = "crl.pem";
const INDEX: &str = "index.jsonl";
const LOCK: &str = "lock";

/// An authority and the folder that it is kept in, locked.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    authority: Authority,
    _lock: File,
}

impl Folder {
    /// Stores a new authority at `path`, which must hold none.
    ///
    /// # Errors
    /// [`IssueError::Exists`] if there is one already; [`IssueError::File`] from the system.
    pub fn create(path: &Path, authority: Authority, now: Timestamp) -> Result<Self, IssueError> {
        private_folder(path)?;
        let lock = lock(path)?;
        for name in [KEY, CERTIFICATE, REVOCATIONS, INDEX] {
            let file = path.join(name);
            if file.exists() {
                return Err(IssueError::Exists { path: file });
            }
        }
        files::create(&path.join(KEY), &authority.key_pem(), Readers::Owner)?;
        files::create(&path.join(INDEX), "", Readers::Owner)?;
        let list = authority.crl_pem(now)?;
        files::create(&path.join(REVOCATIONS), &list, Readers::Everybody)?;
        // Last, so that a folder with a certificate is complete.
        let certificate = authority.certificate_pem();
        files::create(&path.join(CERTIFICATE), certificate, Readers::Everybody)?;
        Ok(Self {
            path: path.to_owned(),
            authority,
            _lock: lock,
        })
    }

    /// Opens the authority stored at `path`.
    ///
    /// # Errors
    /// [`IssueError::Authority`] if there is none or its files are broken; [`IssueError::File`]
    /// from the system.
    pub fn open(path: &Path) -> Result<Self, IssueError> {
        let unusable = |what: String| IssueError::Authority {
            path: path.to_owned(),
            what,
        };
        if !path.join(CERTIFICATE).is_file() {
            let what = "there is no ca.crt in it; foedus-certs init makes one".to_owned();
            return Err(unusable(what));
        }
        let lock = lock(path)?;
        let certificate = files::read(&path.join(CERTIFICATE))?;
        if let Some(what) = files::shared(&path.join(KEY))? {
            return Err(unusable(what));
        }
        let key = files::read(&path.join(KEY))?;
        let index = files::read(&path.join(INDEX))?;
        let issued = issued::from_lines(&index)
            .map_err(|what| unusable(format!("its {INDEX} is broken, {what}")))?;
        let authority =
            Authority::restore(certificate.to_string(), &key, issued).map_err(unusable)?;
        Ok(Self {
            path: path.to_owned(),
            authority,
            _lock: lock,
        })
    }

    /// Returns the authority.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns where the revocation list is.
    pub fn revocations(&self) -> PathBuf {
        self.path.join(REVOCATIONS)
    }

    /// Signs a request and returns the certificate in PEM.
    ///
    /// # Errors
    /// As [`Authority::sign`]; [`IssueError::File`] if the index cannot be written, and then there
    /// is no certificate either.
    pub fn sign(
        &mut self,
        request_pem: &str,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<String, IssueError> {
        let certificate = self.authority.sign(request_pem, terms, now)?;
        self.save_index()?;
        Ok(certificate)
    }

    /// Renews a certificate, as [`Authority::renew`] does.
    ///
    /// # Errors
    /// As [`Authority::renew`]; [`IssueError::File`] if the index cannot be written, and then there is no certificate either.
    pub fn renew(
        &mut self,
        certificate_pem: &str,
        days: u64,
        now: Timestamp,
    ) -> Result<String, IssueError> {
        let certificate = self.authority.renew(certificate_pem, days, now)?;
        self.save_index()?;
        Ok(certificate)
    }

    /// Revokes certificates, as [`Authority::revoke`] does, and writes the new list.
    ///
    /// # Errors
    /// As [`Authority::revoke`]; [`IssueError::File`] if index or list cannot be written.
    pub fn revoke(&mut self, what: &str, now: Timestamp) -> Result<Vec<Issued>, IssueError> {
        let revoked = self.authority.revoke(what, now)?;
        self.save_index()?;
        self.renew_list(now)?;
        Ok(revoked)
    }

    /// Signs the revocation list again, so that it counts as fresh.
    ///
    /// # Errors
    /// [`IssueError::File`] if it cannot be written.
    pub fn renew_list(&self, now: Timestamp) -> Result<(), IssueError> {
        let list = self.authority.crl_pem(now)?;
        files::replace(&self.revocations(), &list, Readers::Everybody)
    }

    fn save_index(&self) -> Result<(), IssueError> {
        let path = self.path.join(INDEX);
        let lines = issued::to_lines(self.authority.issued())
            .map_err(|error| failed("write", &path, io::Error::other(error)))?;
        files::replace(&path, &lines, Readers::Owner)
    }
}

fn private_folder(path: &Path) -> Result<(), IssueError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder
        .create(path)
        .map_err(|cause| failed("write", path, cause))
}

fn lock(folder: &Path) -> Result<File, IssueError> {
    let path = folder.join(LOCK);
    let open = File::options().create(true).append(true).open(&path);
    open.and_then(|file| file.lock().map(|()| file))
        .map_err(|cause| failed("lock", &path, cause))
}
