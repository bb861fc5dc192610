//! Whose seals are believed: the server's under any key that our authority gave it, one after the other and again.

use std::time::Duration;

use certs::throwaway::Federation;
use jiff::Timestamp;
use protocol::identity::Role;
use protocol::quic::{ServerExaminer, TlsMaterial};
use protocol::seal::{Examiner, Seal, SealFault};

use crate::party::{federation, participant, tls};

const DAY: Duration = Duration::from_secs(24 * 3600);
const RECORD: &[u8] = b"what a round came to";

fn examiner(site: &TlsMaterial, server: &TlsMaterial) -> ServerExaminer {
    ServerExaminer::new(site.authorities().clone(), server.identity().clone())
}

#[test]
fn a_chain_that_was_vouched_for_vouches_for_no_other_bytes_key_or_chain() {
    let federation = federation();
    let (server, site) = (tls(federation.server()), participant(&federation));
    let stranger = tls(Federation::create("north-sea", &["hospital-a"])
        .unwrap()
        .server());
    let examiner = examiner(&site, &server);
    let good = server.seal(RECORD);
    let foreign = stranger.seal(RECORD);
    let borrowed = Seal {
        certificates: good.certificates.clone(),
        signature: foreign.signature.clone(),
    };
    let longer = Seal {
        certificates: [&good.certificates[..], &foreign.certificates].concat(),
        signature: foreign.signature.clone(),
    };
    // Before it was believed, and after.
    for _ in 0..2 {
        assert_eq!(
            examiner.examine(RECORD, &borrowed),
            Err(SealFault::Signature)
        );
        assert_eq!(
            examiner.examine(b"another", &good),
            Err(SealFault::Signature)
        );
        assert!(matches!(
            examiner.examine(RECORD, &foreign),
            Err(SealFault::Untrusted { .. })
        ));
        assert_eq!(examiner.examine(RECORD, &longer), Err(SealFault::Signature));
        examiner.examine(RECORD, &good).unwrap();
    }
    let of_a_site = examiner.examine(RECORD, &site.seal(RECORD)).unwrap_err();
    assert!(
        matches!(of_a_site, SealFault::Untrusted { .. }),
        "{of_a_site}"
    );
    examiner.examine(RECORD, &good).unwrap();
}

#[test]
fn a_server_with_a_renewed_key_is_believed_beside_what_it_signed_before() {
    let mut federation = federation();
    let (server, site) = (tls(federation.server()), participant(&federation));
    let examiner = examiner(&site, &server);
    let (role, name) = (Role::Server, server.identity().name().to_owned());
    let renewed = federation.issue(role, &name, Timestamp::now(), DAY);
    let renewed = tls(&renewed.unwrap());
    assert_ne!(renewed.public_key(), server.public_key());
    for _ in 0..2 {
        for signer in [&server, &renewed] {
            examiner.examine(RECORD, &signer.seal(RECORD)).unwrap();
        }
    }
}
