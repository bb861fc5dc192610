//! The files of an identity, looked at again while a program runs; and how long a certificate still holds.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::material::TlsMaterial;
use super::rejection::Rejection;
use super::tls_files::TlsFiles;

/// How long before its end a certificate is warned of.
pub const EXPIRY_WARNING: Duration = Duration::from_secs(30 * 24 * 3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Returns the whole days that are left of a certificate at `now`, if they are few.
pub fn days_left(expires: SystemTime, now: SystemTime) -> Option<u64> {
    let left = expires.duration_since(now).unwrap_or_default();
    (left < EXPIRY_WARNING).then(|| left.as_secs() / DAY.as_secs())
}

/// What tells one version of a file from another, as the system has it; none if the file is not there.
type Stamp = Option<Version>;

/// When a file was written, its length, which file it is, and when any of this or its permissions changed.
#[derive(Debug, Eq, PartialEq)]
struct Version {
    written: SystemTime,
    length: u64,
    file: u64,
    changed: (i64, i64),
}

/// Files that cannot be used.
#[derive(Debug)]
struct Unusable {
    reason: String,
    told: SystemTime,
}

/// The files of one party's identity, and the version of them that was seen last.
#[derive(Debug)]
pub struct IdentityWatch {
    files: TlsFiles,
    current: TlsMaterial,
    /// None before the first look: the files may have been replaced since they were read.
    seen: Vec<Stamp>,
    /// Why they could not be used at the last look.
    unusable: Option<Unusable>,
    warned: SystemTime,
}

impl IdentityWatch {
    /// Begins to watch the files that `material` was read from at `now`.
    pub fn new(files: TlsFiles, material: &TlsMaterial, now: SystemTime) -> Self {
        Self {
            files,
            current: material.clone(),
            seen: Vec::new(),
            unusable: None,
            warned: now,
        }
    }

    /// Reads the files again if one was replaced: none if all say what they said before.
    ///
    /// A certificate for another key is taken, one for another party is not. Certificate and key are two files: between the
    /// writing of one and the other they do not fit. A list is taken though our own certificate is over or in it, but not one
    /// that is older than the list in use.
    ///
    /// Files that cannot be used are read again at every look, since much of what may be in the way changes without them: a
    /// date, a disk, a folder's permissions. When they can be used again, that is told also if they say what they said before.
    ///
    /// # Errors
    /// Why they cannot be used, once for each reason and once a day; what was read before then stays in use.
    pub fn look(&mut self, now: SystemTime) -> Option<Result<TlsMaterial, String>> {
        let found = stamps(&self.files);
        if found == self.seen && self.unusable.is_none() {
            return None;
        }
        self.seen = found;
        match self.read(now) {
            Ok(material) => {
                let is_usable_again = self.unusable.take().is_some();
                if material.is_same_as(&self.current) && !is_usable_again {
                    return None;
                }
                self.current = material.clone();
                Some(Ok(material))
            }
            Err(reason) => self.tell(reason, now).map(Err),
        }
    }

    /// Takes note of why the files cannot be used; gives it if it is to be told.
    fn tell(&mut self, reason: String, now: SystemTime) -> Option<String> {
        let is_told = self
            .unusable
            .as_ref()
            .is_some_and(|before| before.reason == reason && !has_passed(DAY, before.told, now));
        if is_told {
            return None;
        }
        self.unusable = Some(Unusable {
            reason: reason.clone(),
            told: now,
        });
        Some(reason)
    }

    /// Whether a day has passed since this was true, or since the watch began.
    pub fn is_new_day(&mut self, now: SystemTime) -> bool {
        let passed = has_passed(DAY, self.warned, now);
        if passed {
            self.warned = now;
        }
        passed
    }

    fn read(&self, now: SystemTime) -> Result<TlsMaterial, String> {
        let material = self.files.load().map_err(|error| error.to_string())?;
        let (found, own) = (material.identity(), self.current.identity());
        if found != own {
            return Err(format!(
                "the certificate is that of {found}, and this is {own}"
            ));
        }
        if let Some(what) = material
            .revocations()
            .older_than(self.current.revocations())
        {
            return Err(what);
        }
        match self.obstacle(&material, now) {
            None => Ok(material),
            Some(rejection) => Err(rejection.to_string()),
        }
    }

    /// What is in the way of using `material` at `now`.
    ///
    /// That our certificate is over or revoked is not, if it is the one in use: nothing is better without the rest of the files, and a
    /// list that the authority signed holds for others all the same.
    fn obstacle(&self, material: &TlsMaterial, now: SystemTime) -> Option<Rejection> {
        let role = self.current.identity().role();
        let rejection = material.check(role, now).err()?;
        let is_as_before = match rejection {
            Rejection::Expired { .. } | Rejection::Revoked => true,
            Rejection::AuthorityExpired => {
                self.current.check(role, now) == Err(Rejection::AuthorityExpired)
            }
            _ => false,
        };
        if !is_as_before || material.chain() != self.current.chain() {
            return Some(rejection);
        }
        match material.check_undated(role) {
            Ok(()) | Err(Rejection::Revoked) => None,
            Err(rejection) => Some(rejection),
        }
    }
}

/// Whether it is so long after `since`. A clock that was set back counts: better a warning too many.
fn has_passed(time: Duration, since: SystemTime, now: SystemTime) -> bool {
    now.duration_since(since)
        .map_or(true, |passed| time <= passed)
}

fn stamps(files: &TlsFiles) -> Vec<Stamp> {
    let paths = [&files.certificate, &files.key, &files.authority];
    paths
        .into_iter()
        .chain(&files.revocations)
        .map(|path| stamp(path))
        .collect()
}

#[cfg(unix)]
fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = fs::metadata(path).ok()?;
    Some(Version {
        written: metadata.modified().ok()?,
        length: metadata.len(),
        file: metadata.ino(),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

#[cfg(not(unix))]
fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some(Version {
        written: metadata.modified().ok()?,
        length: metadata.len(),
        file: 0,
        changed: (0, 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_from_thirty_days_before_its_end() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        assert_eq!(days_left(now + 31 * DAY, now), None);
        assert_eq!(days_left(now + 30 * DAY, now), None);
        assert_eq!(days_left(now + 29 * DAY, now), Some(29));
        assert_eq!(days_left(now - DAY, now), Some(0));
    }
}
