//! Signed plans as files: only this federation's server can have signed one, and nothing else is read as one.

use std::time::SystemTime;

use certs::throwaway::Federation;
use protocol::plan::{CheckedPlan, SignedPlan};
use protocol::quic::{PlanFile, PlanFileError, TlsMaterial};

use crate::party::{self, federation, participant, tls};

fn signed(plan: &CheckedPlan, signer: &TlsMaterial) -> SignedPlan {
    SignedPlan::new(plan, |bytes| signer.seal(bytes))
}

fn plan() -> CheckedPlan {
    party::plan().check().unwrap()
}

#[test]
fn plan_file_reads_back_with_its_signer() {
    let federation = federation();
    let server = tls(federation.server());
    let text = PlanFile::new(signed(&plan(), &server), &server)
        .to_pem()
        .unwrap();
    let file = PlanFile::from_pem(text.as_bytes()).unwrap();
    let (opened, signer) = file
        .open(&participant(&federation), SystemTime::now())
        .unwrap();
    assert_eq!(opened, plan());
    assert_eq!(&signer.identity, server.identity());
    assert_eq!(signer.public_key, server.public_key());
}

#[test]
fn plan_of_a_stranger_or_of_a_participant_is_refused() {
    let site = participant(&federation());
    let strangers = Federation::create("north-sea", &["hospital-a"]).unwrap();
    for signer in [tls(strangers.server()), site.clone()] {
        let file = PlanFile::new(signed(&plan(), &signer), &signer);
        let refused = file.open(&site, SystemTime::now()).unwrap_err();
        assert!(
            matches!(refused, PlanFileError::Certificate(_)),
            "{refused}"
        );
    }
}

#[test]
fn plan_signed_by_another_key_than_the_certificates_is_refused() {
    let federation = federation();
    let (server, site) = (tls(federation.server()), participant(&federation));
    let file = PlanFile::new(signed(&plan(), &site), &server);
    let refused = file.open(&site, SystemTime::now()).unwrap_err();
    assert!(matches!(refused, PlanFileError::Plan(_)), "{refused}");
}

#[test]
fn what_is_no_plan_file_is_refused_with_a_sentence() {
    let federation = federation();
    let server = tls(federation.server());
    let whole = PlanFile::new(signed(&plan(), &server), &server)
        .to_pem()
        .unwrap();
    let certificate = federation.server().certificate.clone();
    let cases = [
        ("nothing".to_owned(), "0 signed plans"),
        (certificate, "0 signed plans and 1 certificates"),
        (format!("{whole}{whole}"), "2 signed plans"),
        (federation.server().key.to_string(), "PRIVATE KEY"),
        (" ".repeat(1 << 20), "more than a plan file has"),
    ];
    for (text, expected) in cases {
        let refused = PlanFile::from_pem(text.as_bytes()).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn changed_bytes_never_open() {
    let federation = federation();
    let (server, site) = (tls(federation.server()), participant(&federation));
    let whole = PlanFile::new(signed(&plan(), &server), &server)
        .to_pem()
        .unwrap();
    let opened =
        |text: &[u8]| PlanFile::from_pem(text).and_then(|file| file.open(&site, SystemTime::now()));
    for place in (0..whole.len()).step_by(3) {
        let mut changed = whole.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        // Base64 has bits that mean nothing; what still opens must be the same plan.
        if let Ok((found, _)) = opened(&changed) {
            assert_eq!(found, plan());
        }
    }
}
