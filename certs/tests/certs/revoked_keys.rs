//! A key of which a certificate was revoked gets no new one.

use std::fs;
use std::time::Duration;

use protocol::identity::Role;

use crate::{INIT, REQUEST, SIGN, authority, fails, now, passes, request, terms};

/// A folder with an authority and the certificate of one participant.
fn signed_once() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for command in [INIT, REQUEST, SIGN] {
        passes(folder.path(), command);
    }
    folder
}

#[test]
fn a_revoked_key_is_not_signed_again_and_the_earlier_certificate_is_named() {
    let folder = signed_once();
    let at = folder.path();
    let revoked = passes(at, "revoke hospital-a");
    let serial = revoked.split_whitespace().nth(1).unwrap();
    let files = ["hospital-a.crt", "authority/index.jsonl"].map(|name| at.join(name));
    let before = files.each_ref().map(|file| fs::read(file).unwrap());

    let refused = fails(at, SIGN, 1);
    let listed = passes(at, "list");
    let day = listed.split_whitespace().nth(2).unwrap();
    for expected in [
        serial,
        day,
        "foedus://north-sea/participant/hospital-a",
        "is not signed again: make a new key with foedus-certs request",
    ] {
        assert!(refused.contains(expected), "{expected} is not in {refused}");
    }
    assert_eq!(before, files.each_ref().map(|file| fs::read(file).unwrap()));

    passes(at, &format!("{REQUEST} --out next"));
    passes(
        at,
        "sign next/hospital-a.csr --role participant --name hospital-a",
    );
}

#[test]
fn a_revoked_key_is_not_renewed_through_another_certificate_of_it() {
    let mut authority = authority();
    let request = request("north-sea", Role::Participant, "a");
    let terms = terms(Role::Participant, "a");
    let first = authority
        .sign(request.request_pem(), &terms, now())
        .unwrap();
    let second = authority.renew(&first, 365, now()).unwrap();
    let serial = authority.issued()[0].serial.clone();
    let day = now() + Duration::from_secs(24 * 3600);
    authority.revoke(&serial, day).unwrap();
    for error in [
        authority.sign(request.request_pem(), &terms, day),
        authority.renew(&second, 365, day),
    ] {
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains(&serial) && text.contains("2026-03-02"),
            "{text}"
        );
    }
    assert_eq!(authority.issued().len(), 2);
}

/// Drops what an earlier program did not write from the index.
fn without_keys(index: &str) -> String {
    let lines = index.lines().map(|line| {
        let (before, rest) = line.split_once(",\"key\":\"").unwrap();
        // 64 digits and a quotation mark.
        format!("{before}{}\n", &rest[65..])
    });
    lines.collect()
}

#[test]
fn an_index_without_keys_is_read_and_a_party_revoked_in_it_is_warned_about() {
    let folder = signed_once();
    let at = folder.path();
    let revoked = passes(at, "revoke hospital-a");
    let serial = revoked.split_whitespace().nth(1).unwrap();
    let index = at.join("authority/index.jsonl");
    let earlier = without_keys(&fs::read_to_string(&index).unwrap());
    fs::write(&index, &earlier).unwrap();

    assert!(passes(at, "list").contains(serial));
    let signed = passes(at, SIGN);
    assert!(
        signed.contains(serial) && signed.contains("see that this request is of a new one"),
        "{signed}"
    );
    let later = fs::read_to_string(&index).unwrap();
    assert!(later.starts_with(&earlier), "{later}");
    assert_eq!(later.lines().count(), 2);
    passes(at, "renew hospital-a.crt");
}

#[test]
fn an_index_with_a_key_that_is_none_is_refused() {
    let folder = signed_once();
    let at = folder.path();
    let index = at.join("authority/index.jsonl");
    let mut entry: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&index).unwrap()).unwrap();
    entry["key"] = "beef".into();
    fs::write(&index, format!("{entry}\n")).unwrap();
    let refused = fails(at, "list", 78);
    assert!(refused.contains("\"beef\""), "{refused}");
}

#[test]
fn sign_advises_to_revoke_an_earlier_certificate_of_another_key_only() {
    let folder = signed_once();
    let at = folder.path();
    assert!(!passes(at, SIGN).contains("foedus-certs revoke"));
    passes(at, &format!("{REQUEST} --out next"));
    let signed = passes(
        at,
        "sign next/hospital-a.csr --role participant --name hospital-a",
    );
    assert!(signed.contains("foedus-certs revoke"), "{signed}");
}
