//! The authority and the program, on real folders.
#![expect(
    clippy::unwrap_used,
    reason = "clippy knows test functions, and not what they share"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use certs::{Authority, IssueError, Request, Terms};
use jiff::Timestamp;
use protocol::identity::{Identity, Role};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn authority() -> Authority {
    Authority::create("north-sea", now(), 10 * YEAR).unwrap()
}

fn request(federation: &str, role: Role, name: &str) -> Request {
    Request::new(Identity::new(federation, role, name).unwrap()).unwrap()
}

fn terms(role: Role, name: &str) -> Terms {
    Terms::new(role, name, now(), 365).unwrap()
}

fn refused(request_pem: &str, terms: &Terms) -> IssueError {
    let mut authority = authority();
    let error = authority.sign(request_pem, terms, now()).unwrap_err();
    assert!(authority.issued().is_empty());
    error
}

#[test]
fn a_request_for_another_federation_is_refused() {
    let request = request("south-sea", Role::Participant, "a");
    let error = refused(request.request_pem(), &terms(Role::Participant, "a"));
    assert!(
        matches!(error, IssueError::WrongFederation { .. }),
        "{error}"
    );
}

#[test]
fn a_request_for_another_role_or_name_than_the_operator_gave_is_refused() {
    let request = request("north-sea", Role::Server, "a");
    for terms in [terms(Role::Participant, "a"), terms(Role::Server, "b")] {
        let error = refused(request.request_pem(), &terms);
        assert!(matches!(error, IssueError::WrongParty { .. }), "{error}");
    }
}

#[test]
fn a_request_that_does_not_prove_its_key_is_refused() {
    let request = request("north-sea", Role::Participant, "a");
    let mut lines: Vec<_> = request.request_pem().lines().map(str::to_owned).collect();
    // The last line of base64 belongs to the signature.
    let last = lines.len() - 2;
    let first = if lines[last].starts_with('A') {
        "B"
    } else {
        "A"
    };
    lines[last].replace_range(0..1, first);
    let error = refused(&lines.join("\n"), &terms(Role::Participant, "a"));
    assert!(matches!(error, IssueError::Request { .. }), "{error}");
}

#[test]
fn a_request_with_another_kind_of_key_or_more_names_is_refused() {
    let uri = SanType::URI("foedus://north-sea/participant/a".try_into().unwrap());
    let host = SanType::DnsName("bank.example".try_into().unwrap());
    for (algorithm, names) in [
        (&PKCS_ECDSA_P256_SHA256, vec![uri.clone()]),
        (&PKCS_ED25519, vec![uri.clone(), host]),
        (&PKCS_ED25519, vec![uri.clone(), uri]),
        (&PKCS_ED25519, vec![]),
    ] {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let key = KeyPair::generate_for(algorithm).unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let error = refused(&pem, &terms(Role::Participant, "a"));
        assert!(matches!(error, IssueError::Request { .. }), "{error}");
    }
}

#[test]
fn a_certificate_does_not_outlive_its_authority() {
    let mut authority = Authority::create("north-sea", now(), YEAR).unwrap();
    let request = request("north-sea", Role::Participant, "a");
    let mut long = terms(Role::Participant, "a");
    long.validity = 5 * YEAR;
    authority.sign(request.request_pem(), &long, now()).unwrap();
    assert_eq!(authority.issued()[0].expires, authority.expires());
    let late = now() + 2 * YEAR;
    let error = authority
        .sign(request.request_pem(), &long, late)
        .unwrap_err();
    assert!(
        matches!(error, IssueError::AuthorityExpired { .. }),
        "{error}"
    );
}

#[test]
fn serial_numbers_differ_and_revoking_by_one_leaves_the_other() {
    let mut authority = authority();
    let request = request("north-sea", Role::Participant, "a");
    let terms = terms(Role::Participant, "a");
    authority
        .sign(request.request_pem(), &terms, now())
        .unwrap();
    authority
        .sign(request.request_pem(), &terms, now())
        .unwrap();
    let serials: Vec<_> = authority
        .issued()
        .iter()
        .map(|e| e.serial.clone())
        .collect();
    assert_ne!(serials[0], serials[1]);
    authority.revoke(&serials[0], now()).unwrap();
    assert!(authority.issued()[0].revoked.is_some());
    assert!(authority.issued()[1].revoked.is_none());
    assert_eq!(authority.revoke("a", now()).unwrap().len(), 1);
    let error = authority.revoke("a", now()).unwrap_err();
    assert!(
        matches!(error, IssueError::AlreadyRevoked { .. }),
        "{error}"
    );
}

#[test]
fn a_name_that_two_parties_have_is_not_revoked_by_guessing() {
    let mut authority = authority();
    for role in [Role::Server, Role::Participant] {
        let request = request("north-sea", role, "a");
        authority
            .sign(request.request_pem(), &terms(role, "a"), now())
            .unwrap();
    }
    let error = authority.revoke("a", now()).unwrap_err();
    assert!(matches!(error, IssueError::AmbiguousName { .. }), "{error}");
    let revoked = authority
        .revoke("foedus://north-sea/server/a", now())
        .unwrap();
    assert_eq!(revoked[0].identity.role(), Role::Server);
}

#[test]
fn no_debug_output_holds_a_key() {
    let request = request("north-sea", Role::Participant, "a");
    let authority = authority();
    let ours = request.key_pem().lines().nth(1).unwrap().to_owned();
    let its = authority.key_pem().lines().nth(1).unwrap().to_owned();
    let text = format!("{request:?} {authority:?}");
    assert!(!text.contains(&ours) && !text.contains(&its), "{text}");
}

/// Runs `foedus-certs` in a folder.
fn run(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foedus-certs"))
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn passes(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn fails(folder: &Path, arguments: &str, code: i32) -> String {
    let output = run(folder, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments}: {errors}");
    errors
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

const INIT: &str = "init --federation north-sea";
const REQUEST: &str = "request --federation north-sea --role participant --name hospital-a";
const SIGN: &str = "sign hospital-a.csr --role participant --name hospital-a";

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
    assert!(!passes(at, "show hub.key").contains("MC4"));

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

fn certificate(authority: &mut Authority, role: Role, name: &str) -> String {
    let request = request("north-sea", role, name);
    let mut terms = terms(role, name);
    if role == Role::Server {
        terms.hosts = vec![
            "fl.example.org".parse().unwrap(),
            "192.0.2.7".parse().unwrap(),
        ];
    }
    authority
        .sign(request.request_pem(), &terms, now())
        .unwrap()
}

#[test]
fn a_renewed_certificate_is_for_the_same_party_key_and_hosts_and_ends_later() {
    let mut authority = authority();
    let earlier = certificate(&mut authority, Role::Server, "hub");
    let later = now() + Duration::from_secs(300 * 24 * 3600);
    let renewed = authority.renew(&earlier, 365, later).unwrap();
    let facts = |pem: &str| {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        let names = format!("{:?}", names.value.general_names);
        (certificate.public_key().raw.to_vec(), names)
    };
    assert_eq!(facts(&renewed), facts(&earlier));
    let [first, second] = authority.issued() else {
        panic!("{:?}", authority.issued());
    };
    assert!(first.expires < second.expires && first.revoked.is_none());
    assert_eq!(first.identity, second.identity);
}

#[test]
fn a_certificate_that_is_foreign_revoked_or_expired_is_not_renewed() {
    let mut authority = authority();
    let own = certificate(&mut authority, Role::Participant, "a");
    let mut other = Authority::create("north-sea", now(), 10 * YEAR).unwrap();
    let foreign = certificate(&mut other, Role::Participant, "a");
    let mut says = |pem: &str, at, words: &str| {
        let issued = authority.issued().len();
        let error = authority.renew(pem, 365, at).unwrap_err();
        assert!(matches!(error, IssueError::Renewal { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(authority.issued().len(), issued);
    };
    says(&foreign, now(), "this authority did not sign it");
    says("no certificate", now(), "it is not PEM");
    says(&own, now() + YEAR, "it expired on");
    authority.revoke("a", now()).unwrap();
    let error = authority.renew(&own, 365, now()).unwrap_err();
    assert!(error.to_string().contains("was revoked"), "{error}");
}
