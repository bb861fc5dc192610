//! Who is let in: both sides' check of the peer's certificate during the TLS handshake.
//!
//! One rule for both directions. The certificate must name an identity of our federation in the
//! role that the peer must have, chain by Ed25519 signatures to our authority, be in its
//! validity, carry the extended key usage of its role, and not be in the revocation list. Path
//! building is that of webpki (RFC 5280), as in rustls' own verifiers.
//!
//! Server names are not compared: sites address servers by whatever reaches them, often an IP
//! address. What takes the place of the name is stronger: exactly one kind of certificate, role
//! `server` with usage `serverAuth`, is accepted by a client, and the authority issues it for the
//! federation's server only; a participant's certificate fails on both counts. A fixed server
//! name keeps the TLS machinery content and is never sent.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder};

use super::authorities::Authority;
use super::certificate::PartyCertificate;
use super::material::TlsMaterial;
use super::rejection::Rejection;
use crate::identity::{Identity, Role};

/// The only signature scheme of certificates and handshakes.
pub(super) static ED25519: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[webpki::ring::ED25519],
    mapping: &[(SignatureScheme::ED25519, &[webpki::ring::ED25519])],
};

/// Object identifiers of the extended key usages (RFC 5280, section 4.2.1.12), DER content.
pub(super) const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// What a handshake found: who the certificate claims to be and why it was refused.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) claimed: Option<Identity>,
    pub(super) reason: Rejection,
}

/// Checks one peer of one handshake, and keeps what it found for the owner of the connection.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    material: TlsMaterial,
    expected: Role,
    finding: OnceLock<Finding>,
}

impl PeerVerifier {
    /// Makes the verifier of a single handshake in which the peer must have the role `expected`.
    pub(super) fn new(material: &TlsMaterial, expected: Role) -> Arc<Self> {
        Arc::new(Self {
            material: material.clone(),
            expected,
            finding: OnceLock::new(),
        })
    }

    /// Returns why the peer's certificate was refused, if it was.
    pub(super) fn finding(&self) -> Option<&Finding> {
        self.finding.get()
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        check(
            &self.material,
            end_entity,
            intermediates,
            self.expected,
            now,
        )
        .map_err(|reason| {
            let claimed = PartyCertificate::read(end_entity)
                .ok()
                .map(|certificate| certificate.identity);
            let error = reason.to_tls();
            self.finding.get_or_init(|| Finding { claimed, reason });
            error
        })
    }
}

/// Checks a certificate against `material` for a peer that must have the role `expected`.
///
/// Federation and role come first, so that the commonest mistake, a wrong file, is named as such
/// and not as a broken chain.
pub(super) fn check(
    material: &TlsMaterial,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    expected: Role,
    now: UnixTime,
) -> Result<(), Rejection> {
    let claimed = PartyCertificate::read(end_entity)?.identity;
    let federation = material.identity().federation();
    if claimed.federation() != federation {
        return Err(Rejection::WrongFederation {
            expected: federation.to_owned(),
            found: claimed.federation().to_owned(),
        });
    }
    if claimed.role() != expected {
        return Err(Rejection::WrongRole {
            expected,
            found: claimed.role(),
        });
    }
    chain(material, end_entity, intermediates, expected, now)
}

/// Checks the chain and says first of all that it was revoked: neither the certificate's end nor the authority's hides that.
fn chain(
    material: &TlsMaterial,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    expected: Role,
    now: UnixTime,
) -> Result<(), Rejection> {
    let living = material.authorities().living_at(now);
    let found = under_any(material, living, (end_entity, intermediates), expected, now);
    let Err(rejection) = found else {
        return Ok(());
    };
    match check_undated(material, end_entity, intermediates, expected) {
        Err(Rejection::Revoked) => Err(Rejection::Revoked),
        _ => Err(rejection),
    }
}

/// Checks a chain at the end of its certificate's own validity and under any authority of ours, whether expired or not: for what does
/// not depend on the time.
pub(super) fn check_undated(
    material: &TlsMaterial,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    expected: Role,
) -> Result<(), Rejection> {
    let then = unix(PartyCertificate::read(end_entity)?.expires);
    let all = material.authorities().iter();
    under_any(material, all, (end_entity, intermediates), expected, then)
}

/// Checks a chain, end entity first, under these authorities, each with its own list: two may have one name.
fn under_any<'a>(
    material: &TlsMaterial,
    authorities: impl Iterator<Item = &'a Authority>,
    chain: (&CertificateDer<'_>, &[CertificateDer<'_>]),
    expected: Role,
    now: UnixTime,
) -> Result<(), Rejection> {
    // As long as there is none.
    let mut found = Rejection::AuthorityExpired;
    for authority in authorities {
        match under(material, authority, chain, expected, now) {
            Ok(()) => return Ok(()),
            // That one did not sign it is said only if no other did.
            Err(rejection) => {
                if matches!(
                    found,
                    Rejection::AuthorityExpired | Rejection::WrongAuthority
                ) {
                    found = rejection;
                }
            }
        }
    }
    Err(found)
}

fn under(
    material: &TlsMaterial,
    authority: &Authority,
    (end_entity, intermediates): (&CertificateDer<'_>, &[CertificateDer<'_>]),
    expected: Role,
    now: UnixTime,
) -> Result<(), Rejection> {
    let refused = |error: webpki::Error| Rejection::from_chain(&error, expected);
    let lists = material.revocations().of(authority);
    // A list past its next update is still used: to have an old one must not shut a federation
    // down. `TlsMaterial::revocations_due` lets programs warn.
    let revocation = RevocationOptionsBuilder::new(&lists)
        .ok()
        .map(|options| options.with_depth(RevocationCheckDepth::EndEntity).build());
    let usage = KeyUsage::required(match expected {
        Role::Server => SERVER_AUTH,
        Role::Participant => CLIENT_AUTH,
    });
    EndEntityCert::try_from(end_entity)
        .map_err(refused)?
        .verify_for_usage(
            ED25519.all,
            std::slice::from_ref(&authority.anchor),
            intermediates,
            now,
            usage,
            revocation,
            None,
        )
        .map_err(refused)?;
    if lists.is_empty() && material.checks_revocation() {
        return Err(Rejection::RevocationUnknown);
    }
    Ok(())
}

/// Returns `moment` as rustls counts time.
pub(super) fn unix(moment: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(
        moment
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

fn signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    rustls::crypto::verify_tls13_signature(message, certificate, signed, &ED25519)
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ED25519.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    /// No hints: a client of another federation then still shows its certificate and is named.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ED25519.supported_schemes()
    }
}
