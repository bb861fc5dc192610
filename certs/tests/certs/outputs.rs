//! What a command may write over: a file of its own kind, and no other.

use std::fs;
use std::path::Path;

use crate::{INIT, REQUEST, SIGN, fails, passes};

const ELSEWHERE: &str = "move it away or name another place with --out";

/// Has an authority, and hospital-a with a request and a certificate.
fn federation(at: &Path) {
    passes(at, INIT);
    passes(at, REQUEST);
    passes(at, SIGN);
}

/// Runs a command that must be refused with these words, and must change neither `file` nor the authority's index.
fn spares(at: &Path, file: &str, command: &str, words: &[&str]) {
    let files = [file, "authority/index.jsonl"].map(|name| at.join(name));
    let before = files.each_ref().map(|file| fs::read(file).ok());
    let refused = fails(at, command, 78);
    for &word in [file].iter().chain(words) {
        assert!(
            refused.contains(word),
            "{word} is not in what {command} said: {refused}"
        );
    }
    let after = files.each_ref().map(|file| fs::read(file).ok());
    assert!(before == after, "{command} changed {file} or the index");
}

#[test]
fn sign_and_renew_replace_no_file_of_another_kind() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    federation(at);
    let own = fs::read_to_string(at.join("hospital-a.crt")).unwrap();
    let key = fs::read_to_string(at.join("hospital-a.key")).unwrap();
    fs::write(at.join("both.pem"), format!("{own}{key}")).unwrap();
    fs::write(at.join("twice.pem"), format!("{own}{own}")).unwrap();
    fs::write(at.join("noted.pem"), format!("{own}keep this\n")).unwrap();
    fs::write(at.join("notes.txt"), "what nobody wrote down elsewhere").unwrap();
    fs::write(at.join("weights.bin"), vec![0xff; 100_000]).unwrap();
    fs::write(at.join("empty"), "").unwrap();
    fs::copy(at.join("authority/ca.crt"), at.join("ca.crt")).unwrap();
    fs::copy(at.join("authority/crl.pem"), at.join("crl.pem")).unwrap();
    fs::create_dir(at.join("folder")).unwrap();
    for (file, is) in [
        ("hospital-a.key", "is a private key"),
        (
            "hospital-a.csr",
            "is the request of foedus://north-sea/participant/hospital-a",
        ),
        ("both.pem", "is a file with a private key"),
        ("twice.pem", "is a file of several PEM blocks"),
        ("noted.pem", "is no plain PEM file"),
        ("notes.txt", "is no plain PEM file"),
        ("weights.bin", "is no plain PEM file"),
        ("empty", "is no plain PEM file"),
        ("ca.crt", "is the certificate of an authority"),
        ("crl.pem", "is a revocation list"),
        ("folder", "is a folder"),
    ] {
        for command in [SIGN, "renew hospital-a.crt"] {
            spares(
                at,
                file,
                &format!("{command} --out {file}"),
                &[is, ELSEWHERE],
            );
        }
    }
    spares(
        at,
        "both.pem",
        "renew both.pem",
        &["a private key", ELSEWHERE],
    );
    assert!(at.join("folder").is_dir());
}

#[test]
fn a_certificate_takes_the_place_of_one_of_the_same_party_only() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    federation(at);
    passes(
        at,
        "request --federation north-sea --role participant --name hospital-b",
    );
    let own = fs::read(at.join("hospital-a.crt")).unwrap();
    passes(at, "renew hospital-a.crt");
    let renewed = fs::read(at.join("hospital-a.crt")).unwrap();
    passes(at, SIGN);
    let signed = fs::read(at.join("hospital-a.crt")).unwrap();
    assert!(own != renewed && renewed != signed);
    passes(at, &format!("{SIGN} --out new.crt"));
    passes(at, "renew hospital-a.crt --out new.crt");
    let other = "sign hospital-b.csr --role participant --name hospital-b";
    spares(
        at,
        "hospital-a.crt",
        &format!("{other} --out hospital-a.crt"),
        &[
            "is the certificate of foedus://north-sea/participant/hospital-a",
            ELSEWHERE,
        ],
    );
}

#[test]
fn sign_and_renew_never_touch_the_authoritys_own_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    federation(at);
    // Also where one of them is missing or has become a certificate.
    fs::rename(at.join("authority/crl.pem"), at.join("crl.pem")).unwrap();
    fs::copy(at.join("hospital-a.crt"), at.join("authority/lock")).unwrap();
    for name in ["ca.crt", "ca.key", "crl.pem", "index.jsonl", "lock"] {
        for command in [SIGN, "renew hospital-a.crt"] {
            for folder in ["authority", "authority/../authority"] {
                let file = format!("{folder}/{name}");
                let words = [
                    "is one of the authority's own files",
                    "name another place with --out",
                ];
                spares(at, &file, &format!("{command} --out {file}"), &words);
            }
        }
    }
    passes(at, "list");
}

#[test]
#[cfg(unix)]
fn links_are_judged_by_what_they_lead_to() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    federation(at);
    for (link, to, is) in [
        ("to-key", "hospital-a.key", "is a private key"),
        (
            "to-authority",
            "authority/ca.crt",
            "is the certificate of an authority",
        ),
        ("to-nothing", "not-there", "is a link to nothing"),
        ("to-device", "/dev/null", "is neither a file nor a folder"),
    ] {
        std::os::unix::fs::symlink(to, at.join(link)).unwrap();
        spares(at, link, &format!("{SIGN} --out {link}"), &[is, ELSEWHERE]);
        assert!(at.join(link).is_symlink());
    }
}

#[test]
fn a_certificate_for_a_folder_that_is_not_there_is_not_signed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    federation(at);
    spares(
        at,
        "elsewhere/hospital-a.crt",
        &format!("{SIGN} --out elsewhere/hospital-a.crt"),
        &["cannot write"],
    );
}

#[test]
fn a_request_replaces_an_earlier_one_of_the_same_party_only() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    passes(at, INIT);
    passes(at, REQUEST);
    let earlier = fs::read(at.join("hospital-a.csr")).unwrap();
    fs::rename(at.join("hospital-a.key"), at.join("earlier.key")).unwrap();
    passes(at, REQUEST);
    assert_ne!(fs::read(at.join("hospital-a.csr")).unwrap(), earlier);

    fs::remove_file(at.join("hospital-a.key")).unwrap();
    fs::rename(at.join("earlier.key"), at.join("hospital-a.csr")).unwrap();
    spares(
        at,
        "hospital-a.csr",
        REQUEST,
        &["is a private key", ELSEWHERE],
    );
    assert!(!at.join("hospital-a.key").exists());
}
