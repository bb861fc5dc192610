//! The program: its commands, their exit codes, and the files that they leave.

use std::fs;

#[cfg(unix)]
use crate::mode;
use crate::{INIT, REQUEST, SIGN, fails, hides, passes, run};

#[test]
fn a_federation_is_made_signed_shown_and_revoked_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    passes(at, INIT);
    passes(at, REQUEST);
    passes(at, SIGN);
    passes(
        at,
        "request --federation north-sea --role server --name hub",
    );
    passes(
        at,
        "sign hub.csr --role server --name hub --host fl.example.org --host 10.0.0.7",
    );

    let shown = passes(at, "show hub.crt");
    for expected in [
        "foedus://north-sea/server/hub",
        "fl.example.org",
        "10.0.0.7",
        "(364 days left)",
        "Ed25519",
    ] {
        assert!(shown.contains(expected), "{expected} is not in:\n{shown}");
    }
    assert!(passes(at, "show hospital-a.csr").contains("yes, the request is signed"));
    assert!(passes(at, "show authority/crl.pem").contains("0 revoked"));
    let key = fs::read_to_string(at.join("hub.key")).unwrap();
    hides(&passes(at, "show hub.key"), &key);

    let revoked = passes(at, "revoke hospital-a");
    let serial = revoked.split_whitespace().nth(1).unwrap();
    let list = passes(at, "show authority/crl.pem");
    assert!(
        list.contains(serial) && list.contains("1 revoked"),
        "{list}"
    );
    let listed = passes(at, "list");
    assert!(
        listed.contains("revoked") && listed.contains("valid until"),
        "{listed}"
    );
    assert!(fails(at, "revoke hospital-a", 1).contains("revoked already"));
    passes(at, "renew");
    assert!(passes(at, "show authority/crl.pem").contains("1 revoked"));
}

#[test]
fn a_revocation_that_failed_halfway_is_warned_about_and_repeated_until_the_list_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    passes(at, INIT);
    passes(at, REQUEST);
    passes(at, SIGN);
    // A folder in the place of the list: that stops the superuser too.
    let (list, aside) = (at.join("authority/crl.pem"), at.join("crl.pem"));
    fs::rename(&list, &aside).unwrap();
    fs::create_dir_all(list.join("in-the-way")).unwrap();
    let failed = fails(at, "revoke hospital-a", 78);
    assert!(
        failed.contains("crl.pem") && failed.contains("repeat the command"),
        "{failed}"
    );
    fs::remove_dir_all(&list).unwrap();
    fs::rename(&aside, &list).unwrap();
    assert!(passes(at, "show authority/crl.pem").contains("0 revoked"));

    let listed = run(at, "list");
    let warned = String::from_utf8(listed.stderr).unwrap();
    assert!(
        warned.contains("is revoked, and authority/crl.pem does not say so"),
        "{warned}"
    );
    let repeated = passes(at, "revoke hospital-a");
    assert!(
        repeated.contains("already, and the list did not have it"),
        "{repeated}"
    );
    assert!(passes(at, "show authority/crl.pem").contains("1 revoked"));
    assert!(fails(at, "revoke hospital-a", 1).contains("revoked already"));
    assert!(run(at, "list").stderr.is_empty());
}

#[test]
fn a_request_makes_the_folder_that_it_is_to_lie_in() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    passes(at, &format!("{REQUEST} --out next/keys"));
    for name in ["hospital-a.key", "hospital-a.csr"] {
        assert!(at.join("next/keys").join(name).is_file(), "{name}");
    }
    #[cfg(unix)]
    assert_eq!(mode(&at.join("next")), 0o700);
}

#[test]
#[cfg(unix)]
fn private_keys_are_for_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    passes(at, INIT);
    passes(at, REQUEST);
    assert_eq!(mode(&at.join("authority")), 0o700);
    assert_eq!(mode(&at.join("authority/ca.key")), 0o600);
    assert_eq!(mode(&at.join("hospital-a.key")), 0o600);
}

#[test]
#[cfg(unix)]
fn authoritys_key_that_others_may_use_is_refused_with_the_command_to_run() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    passes(at, INIT);
    let key = at.join("authority/ca.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = fails(at, "list", 78);
    assert!(
        refused.contains("mode 640") && refused.contains("chmod 600"),
        "{refused}"
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    passes(at, "list");
}

#[test]
fn keys_and_authorities_are_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    passes(at, INIT);
    passes(at, REQUEST);
    let before = fs::read(at.join("hospital-a.key")).unwrap();
    let authority = fs::read(at.join("authority/ca.key")).unwrap();
    assert!(fails(at, REQUEST, 78).contains("hospital-a.key is there already"));
    assert!(fails(at, INIT, 78).contains("ca.key is there already"));
    assert_eq!(fs::read(at.join("hospital-a.key")).unwrap(), before);
    assert_eq!(fs::read(at.join("authority/ca.key")).unwrap(), authority);
    let left: Vec<_> = fs::read_dir(at)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().starts_with('.')),
        "{left:?}"
    );
}

#[test]
fn wrong_usage_files_and_requests_end_with_their_codes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fails(at, "", 64);
    fails(at, "init", 64);
    fails(at, "init --federation North", 64);
    fails(at, "request --federation a --role operator --name b", 64);
    fails(at, "init --federation a --days 0", 64);
    assert!(fails(at, "list", 78).contains("foedus-certs init"));
    fails(at, "show nothing.crt", 78);
    passes(at, INIT);
    passes(at, REQUEST);
    fails(at, "sign hospital-a.csr --role server --name hospital-a", 1);
    fails(
        at,
        "sign hospital-a.csr --role participant --name hospital-b",
        1,
    );
    fails(at, &format!("{SIGN} --host 10.0.0.1"), 64);
    fails(
        at,
        "sign hospital-a.key --role participant --name hospital-a",
        1,
    );
    fails(at, "revoke nobody", 1);
    fs::write(at.join("authority/index.jsonl"), "{\"serial\":\n").unwrap();
    assert!(fails(at, SIGN, 78).contains("line 1"));
}

#[test]
fn help_teaches_the_first_steps() {
    let folder = tempfile::tempdir().unwrap();
    let help = passes(folder.path(), "--help");
    for expected in [
        "How a federation starts",
        "revocations = \"crl.pem\"",
        "Exit codes",
    ] {
        assert!(help.contains(expected), "{help}");
    }
}
