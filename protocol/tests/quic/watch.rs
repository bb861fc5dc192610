//! The files of an identity that are replaced, spoiled and put right while a program looks at them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use certs::throwaway::{Federation, Material};
use jiff::Timestamp;
use protocol::identity::Role;
use protocol::quic::{IdentityWatch, TlsFiles};
use tempfile::TempDir;

use crate::party::federation;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A participant's files in a folder of their own, and who looks at them.
struct Watched {
    federation: Federation,
    _folder: TempDir,
    files: TlsFiles,
    watch: IdentityWatch,
    now: SystemTime,
}

impl Watched {
    fn new() -> Self {
        let (federation, folder) = (federation(), tempfile::tempdir().unwrap());
        federation.write(folder.path()).unwrap();
        let file = |name: &str| folder.path().join(name);
        let files = TlsFiles {
            certificate: file("hospital-a.crt"),
            key: file("hospital-a.key"),
            authority: file("ca.crt"),
            revocations: Some(file("crl.pem")),
        };
        let now = SystemTime::now();
        let mut watch = IdentityWatch::new(files.clone(), &files.load().unwrap(), now);
        assert!(watch.look(now).is_none(), "nothing was replaced");
        Self {
            federation,
            _folder: folder,
            files,
            watch,
            now,
        }
    }

    fn list(&self) -> &Path {
        self.files.revocations.as_deref().unwrap()
    }

    fn put(&self, own: &Material) {
        fs::write(&self.files.key, own.key.as_str()).unwrap();
        fs::write(&self.files.certificate, &own.certificate).unwrap();
    }

    /// What a look so much later finds: the serial number in use, or why there is none.
    fn look(&mut self, later: Duration) -> Option<Result<String, String>> {
        let found = self.watch.look(self.now + later)?;
        Some(found.map(|material| material.serial().to_owned()))
    }

    fn complaint(&mut self, later: Duration) -> String {
        self.look(later).expect("it is told").unwrap_err()
    }
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_that_is_made_private_after_the_look_is_taken() {
    let mut watched = Watched::new();
    allow(&watched.files.key, 0o644);
    let list = watched.federation.revoke("hospital-b").unwrap();
    fs::write(watched.list(), list).unwrap();
    let reason = watched.complaint(Duration::ZERO);
    assert!(reason.contains("chmod 600"), "{reason}");
    allow(&watched.files.key, 0o600);
    assert!(matches!(watched.look(Duration::ZERO), Some(Ok(_))));
    assert_eq!(watched.look(Duration::ZERO), None);
}

#[test]
fn a_certificate_whose_time_comes_later_is_taken_then() {
    let mut watched = Watched::new();
    let starts = Timestamp::now() + DAY;
    let role = Role::Participant;
    let early = watched.federation.issue(role, "hospital-a", starts, DAY);
    watched.put(&early.unwrap());
    let reason = watched.complaint(Duration::ZERO);
    assert!(reason.contains("is not valid before"), "{reason}");
    assert_eq!(watched.look(DAY / 2), None);
    assert!(matches!(watched.look(DAY + DAY / 2), Some(Ok(_))));
}

#[test]
fn what_cannot_be_used_is_told_once_for_each_reason_and_once_a_day() {
    let mut watched = Watched::new();
    fs::write(watched.list(), "no list").unwrap();
    let reason = watched.complaint(Duration::ZERO);
    assert!(reason.contains("revocations"), "{reason}");
    fs::write(watched.list(), "still no list").unwrap();
    assert_eq!(watched.look(DAY / 2), None);
    assert_eq!(watched.complaint(DAY), reason);
    assert_eq!(watched.look(DAY + DAY / 2), None);
    fs::remove_file(watched.list()).unwrap();
    let reason = watched.complaint(DAY + DAY / 2);
    assert!(reason.contains("cannot read"), "{reason}");
}

#[test]
fn files_that_are_put_back_are_told_to_be_usable_again() {
    let mut watched = Watched::new();
    let before = fs::read(watched.list()).unwrap();
    fs::write(watched.list(), "no list").unwrap();
    watched.complaint(Duration::ZERO);
    fs::write(watched.list(), before).unwrap();
    let serial = watched.files.load().unwrap().serial().to_owned();
    assert_eq!(watched.look(Duration::ZERO), Some(Ok(serial)));
    assert_eq!(watched.look(Duration::ZERO), None);
}

#[test]
fn a_list_is_taken_though_our_own_certificate_is_over_or_revoked() {
    let mut watched = Watched::new();
    let starts = Timestamp::now() - Duration::from_secs(60);
    let role = Role::Participant;
    let own = watched.federation.issue(role, "hospital-a", starts, DAY);
    watched.put(&own.unwrap());
    let serial = watched.look(Duration::ZERO).unwrap().unwrap();
    // Over, then the authority as well, then revoked.
    for (revoked, later) in [
        ("hospital-b", 2 * DAY),
        ("server", 8 * DAY),
        ("hospital-a", DAY / 2),
    ] {
        let list = watched.federation.revoke(revoked).unwrap();
        fs::write(watched.list(), list).unwrap();
        assert_eq!(watched.look(later), Some(Ok(serial.clone())), "{revoked}");
    }
}

#[test]
fn a_list_of_another_authority_is_refused_though_our_own_certificate_is_over() {
    let mut watched = Watched::new();
    let other = federation();
    fs::write(watched.list(), &other.server().revocations).unwrap();
    let reason = watched.complaint(8 * DAY);
    assert!(reason.contains("revocation list"), "{reason}");
}

#[test]
fn another_certificate_that_is_over_is_refused() {
    let mut watched = Watched::new();
    let starts = Timestamp::now() - 2 * DAY;
    let role = Role::Participant;
    let old = watched.federation.issue(role, "hospital-a", starts, DAY);
    watched.put(&old.unwrap());
    let reason = watched.complaint(Duration::ZERO);
    assert!(reason.contains("expired"), "{reason}");
}

#[test]
fn a_list_that_is_older_than_the_one_in_use_is_refused_with_both_numbers() {
    let mut watched = Watched::new();
    let now = Timestamp::now();
    let numbers = [now.as_second() + 120, now.as_second() + 60];
    let [newer, older] = numbers.map(|number| {
        let then = Timestamp::from_second(number).unwrap();
        watched.federation.revocations(then).unwrap()
    });
    fs::write(watched.list(), &newer).unwrap();
    assert!(matches!(watched.look(Duration::ZERO), Some(Ok(_))));
    fs::write(watched.list(), &older).unwrap();
    let reason = watched.complaint(Duration::ZERO);
    for number in numbers {
        assert!(reason.contains(&number.to_string()), "{reason}");
    }
    // Beside the newer one it takes nothing away.
    fs::write(watched.list(), [older, newer].concat()).unwrap();
    assert!(matches!(watched.look(Duration::ZERO), Some(Ok(_))));
}
