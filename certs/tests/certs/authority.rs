//! The authority as a library: what it signs, renews and revokes, and what it refuses.

use std::time::Duration;

use certs::throwaway::Federation;
use certs::{Authority, IssueError, Terms};
use protocol::identity::Role;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType};

use crate::{YEAR, authority, hides, now, request, terms};

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
    let federation = Federation::create("north-sea", &["a"]).unwrap();
    let text = format!("{request:?} {authority:?} {federation:?}");
    let parties = federation.participants().chain([federation.server()]);
    for key in parties
        .map(|party| party.key.clone())
        .chain([request.key_pem().clone(), authority.key_pem()])
    {
        hides(&text, &key);
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
