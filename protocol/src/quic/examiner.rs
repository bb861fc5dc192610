//! Whether a seal is the server's: its certificate chains to our authority, names the server, and its key made the signature.
//!
//! Time and revocation play no part. A certificate that has expired since still shows who signed, and that a signer is not
//! revoked *now* is enforced where the records come from, at the connection. So the certificate is judged at the first moment of
//! its own validity.

use rustls::pki_types::CertificateDer;
use webpki::{EndEntityCert, KeyUsage};

use super::authorities::Authorities;
use super::certificate::PartyCertificate;
use super::material::verify_signature;
use super::rejection::Rejection;
use super::verifier::{ED25519, SERVER_AUTH, unix};
use crate::identity::{Identity, Role};
use crate::seal::{Examiner, Seal, SealFault};

/// Believes the seals of one server, whatever key it has at the time.
#[derive(Clone, Debug)]
pub struct ServerExaminer {
    authorities: Authorities,
    server: Identity,
}

impl ServerExaminer {
    /// Makes the examiner of the seals of `server`.
    pub fn new(authorities: Authorities, server: Identity) -> Self {
        Self {
            authorities,
            server,
        }
    }
}

impl Examiner for ServerExaminer {
    fn examine(&self, bytes: &[u8], seal: &Seal) -> Result<(), SealFault> {
        let found = signer(&self.authorities, bytes, seal)?.identity;
        if found == self.server {
            return Ok(());
        }
        let (expected, found) = (Box::new(self.server.clone()), Box::new(found));
        Err(SealFault::OtherSigner { expected, found })
    }
}

/// Checks a seal and returns the certificate of the server that made it.
///
/// # Errors
/// [`SealFault`] if no server that the authorities vouch for made it over these bytes.
pub fn signer(
    authorities: &Authorities,
    bytes: &[u8],
    seal: &Seal,
) -> Result<PartyCertificate, SealFault> {
    seal.check_size()?;
    let chain = seal.certificates.iter().map(|der| der.as_slice().into());
    let chain: Vec<CertificateDer<'_>> = chain.collect();
    let untrusted = |rejection: Rejection| SealFault::Untrusted {
        what: rejection.to_string(),
    };
    let certificate = vouched_for(authorities, &chain).map_err(untrusted)?;
    if verify_signature(&certificate.public_key, bytes, &seal.signature) {
        Ok(certificate)
    } else {
        Err(SealFault::Signature)
    }
}

fn vouched_for(
    authorities: &Authorities,
    chain: &[CertificateDer<'_>],
) -> Result<PartyCertificate, Rejection> {
    let (end_entity, intermediates) = chain.split_first().ok_or(Rejection::NoCertificate)?;
    let certificate = PartyCertificate::read(end_entity)?;
    let (expected, found) = (Role::Server, certificate.identity.role());
    if found != expected {
        return Err(Rejection::WrongRole { expected, found });
    }
    let then = unix(certificate.begins);
    let anchors = authorities.anchors_at(then);
    let refused = |error: webpki::Error| Rejection::from_chain(&error, expected);
    EndEntityCert::try_from(end_entity)
        .map_err(refused)?
        .verify_for_usage(
            ED25519.all,
            &anchors,
            intermediates,
            then,
            KeyUsage::required(SERVER_AUTH),
            None,
            None,
        )
        .map_err(refused)?;
    Ok(certificate)
}
