//! The files of an identity, looked at again while a program runs; and how long a certificate still holds.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::material::{TlsFiles, TlsMaterial};

/// How long before its end a certificate is warned of.
pub const EXPIRY_WARNING: Duration = Duration::from_secs(30 * 24 * 3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Returns the whole days that are left of a certificate at `now`, if they are few.
pub fn days_left(expires: SystemTime, now: SystemTime) -> Option<u64> {
    let left = expires.duration_since(now).unwrap_or_default();
    (left < EXPIRY_WARNING).then(|| left.as_secs() / DAY.as_secs())
}

/// What tells one version of a file from another: when it was written, its length, and which file it is.
type Stamp = Option<(SystemTime, u64, u64)>;

/// The files of one party's identity, and the version of them that was seen last.
#[derive(Debug)]
pub struct IdentityWatch {
    files: TlsFiles,
    current: TlsMaterial,
    /// None before the first look: the files may have been replaced since they were read.
    seen: Vec<Stamp>,
    warned: SystemTime,
}

impl IdentityWatch {
    /// Begins to watch the files that `material` was read from at `now`.
    pub fn new(files: TlsFiles, material: &TlsMaterial, now: SystemTime) -> Self {
        Self {
            files,
            current: material.clone(),
            seen: Vec::new(),
            warned: now,
        }
    }

    /// Reads the files again if one was replaced: none if all say what they said before.
    ///
    /// A certificate for another key is taken, one for another party is not. Certificate and key are two files: between the
    /// writing of one and the other they do not fit, and are read again when the other has come.
    ///
    /// # Errors
    /// Why they cannot be used; what was read before then stays in use.
    pub fn look(&mut self, now: SystemTime) -> Option<Result<TlsMaterial, String>> {
        let found = stamps(&self.files);
        if found == self.seen {
            return None;
        }
        self.seen = found;
        match self.read(now) {
            Ok(material) if material.is_same_as(&self.current) => None,
            Ok(material) => {
                self.current = material.clone();
                Some(Ok(material))
            }
            Err(what) => Some(Err(what)),
        }
    }

    /// Whether a day has passed since this was true, or since the watch began.
    pub fn is_new_day(&mut self, now: SystemTime) -> bool {
        // A clock that was set back counts as a day: better a warning too many.
        let passed = now
            .duration_since(self.warned)
            .map_or(true, |time| DAY <= time);
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
        let checked = material.check(own.role(), now);
        checked.map_err(|rejection| rejection.to_string())?;
        Ok(material)
    }
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
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

#[cfg(not(unix))]
fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), 0))
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
