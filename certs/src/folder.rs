//! An authority on disk: `ca.crt`, `ca.key`, `crl.pem`, `index.jsonl`, in a folder for its owner only.
//!
//! Every change is in the index before it leaves the folder: a certificate that somebody holds is
//! always one that can be revoked. A lock on the folder makes two operators take turns. The revocation list follows the index: what a
//! change that failed halfway left out of it, the next one puts in.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::authority::Authority;
use crate::error::IssueError;
use crate::files::{self, Readers, failed};
use crate::inspect;
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
        files::private_folder(path)?;
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

    /// Refuses `path` for what is written for a party if it has the name of one of the authority's own files, whether or not that
    /// is there now.
    ///
    /// # Errors
    /// [`IssueError::AuthoritysOwn`] if it has; [`IssueError::File`] if its folder cannot be found.
    pub(crate) fn spares(&self, path: &Path) -> Result<(), IssueError> {
        let whole = |folder: &Path| {
            folder
                .canonicalize()
                .map_err(|cause| failed("write", path, cause))
        };
        let own = [CERTIFICATE, KEY, REVOCATIONS, INDEX, LOCK].map(OsStr::new);
        let named = path.file_name().is_some_and(|name| own.contains(&name));
        if named && whole(files::folder_of(path))? == whole(&self.path)? {
            return Err(IssueError::AuthoritysOwn {
                path: path.to_owned(),
            });
        }
        Ok(())
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

    /// Revokes certificates, as [`Authority::revoke`] does, and writes the new list. Returns those that the list did not have before:
    /// also ones that were revoked earlier, if what failed then was writing the list.
    ///
    /// # Errors
    /// As [`Authority::revoke`], with [`IssueError::AlreadyRevoked`] only if the list lacks nobody; [`IssueError::File`] if the index
    /// cannot be written, and then nothing is revoked; [`IssueError::Unlisted`] if the list cannot be.
    pub fn revoke(&mut self, what: &str, now: Timestamp) -> Result<Vec<Issued>, IssueError> {
        let mut unlisted = self.unlisted();
        match self.authority.revoke(what, now) {
            Ok(revoked) => {
                self.save_index()?;
                unlisted.extend(revoked);
            }
            Err(IssueError::AlreadyRevoked { .. }) if !unlisted.is_empty() => {}
            Err(error) => return Err(error),
        }
        let written = self.renew_list(now);
        written.map_err(|cause| IssueError::Unlisted {
            cause: Box::new(cause),
        })?;
        Ok(unlisted)
    }

    /// Returns what is revoked and not in the revocation list on disk, so that servers still let it in. A list that cannot be read
    /// names nobody.
    pub fn unlisted(&self) -> Vec<Issued> {
        let list = files::read(&self.revocations()).ok();
        let listed = list.and_then(|pem| inspect::revoked_serials(&pem));
        let listed = listed.unwrap_or_default();
        let issued = self.authority.issued().iter();
        let unlisted =
            issued.filter(|entry| entry.revoked.is_some() && !listed.contains(&entry.serial));
        unlisted.cloned().collect()
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

fn lock(folder: &Path) -> Result<File, IssueError> {
    let path = folder.join(LOCK);
    let open = File::options().create(true).append(true).open(&path);
    open.and_then(|file| file.lock().map(|()| file))
        .map_err(|cause| failed("lock", &path, cause))
}
