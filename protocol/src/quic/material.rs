//! Our own side of mutual authentication: certificate, key, authority, revocation list.
//!
//! [`TlsFiles`](super::TlsFiles) names the four files as the configuration of a server or a client does;
//! [`TlsMaterial`] is their checked content. The private key lives inside ring's key objects only:
//! its PEM and DER forms are wiped after reading, and nothing here prints it.

mod error;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use ring::signature::{Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroize;

pub use self::error::MaterialError;
use super::authorities::Authorities;
use super::certificate::PartyCertificate;
use super::rejection::Rejection;
use super::reset::ResetSecret;
use super::revocations::Revocations;
use super::verifier::{check, check_undated, unix};
use crate::identity::{Identity, Role};
use crate::ids::Digest;
use crate::seal::Seal;

/// Checked TLS material; cheap to clone.
#[derive(Clone)]
pub struct TlsMaterial(Arc<Content>);

struct Content {
    own: PartyCertificate,
    certified: Arc<CertifiedKey>,
    signing: Ed25519KeyPair,
    reset: ResetSecret,
    authorities: Authorities,
    revocations: Revocations,
    /// Of the public texts that it was read from.
    source: Digest,
}

impl TlsMaterial {
    /// Reads the four PEM texts.
    ///
    /// The certificate is checked against its key, not against the authority: see
    /// [`TlsMaterial::check`].
    ///
    /// # Errors
    /// [`MaterialError`] says which of the four is wrong and how.
    pub fn from_pem(
        certificate: &str,
        key: &str,
        authority: &str,
        revocations: Option<&str>,
    ) -> Result<Self, MaterialError> {
        let public = [certificate, authority, revocations.unwrap_or_default()];
        let source = Digest::of(
            public
                .map(|text| Digest::of(text.as_bytes()).0)
                .as_flattened(),
        );
        let chain = certificates("certificate", certificate)?;
        let end_entity = chain.first().ok_or(MaterialError::Empty {
            what: "certificate",
        })?;
        let own = PartyCertificate::read(end_entity).map_err(MaterialError::Certificate)?;
        let OwnKey {
            certified,
            signing,
            reset,
        } = own_key(chain, key)?;
        if signing.public_key().as_ref() != own.public_key {
            return Err(MaterialError::KeyMismatch {
                identity: Box::new(own.identity),
            });
        }
        let authorities = Authorities::from_pem(authority)?;
        let revocations = revocations.map(|pem| Revocations::from_pem(pem, &authorities));
        let revocations = revocations.transpose()?;
        Ok(Self(Arc::new(Content {
            own,
            certified: Arc::new(certified),
            signing,
            reset,
            authorities,
            revocations: revocations.unwrap_or_default(),
            source,
        })))
    }

    /// Returns who we are.
    pub fn identity(&self) -> &Identity {
        &self.0.own.identity
    }

    /// Returns the Ed25519 public key of our certificate.
    pub fn public_key(&self) -> [u8; 32] {
        self.0.own.public_key
    }

    /// Returns our certificate's serial number, in hexadecimal.
    pub fn serial(&self) -> &str {
        &self.0.own.serial
    }

    /// Returns when the first of our certificate and our authority expires; programs warn 30 days
    /// ahead.
    pub fn expires(&self) -> SystemTime {
        let own = self.0.own.expires;
        let last = self.0.authorities.expires();
        last.map_or(own, |authority| own.min(authority))
    }

    /// Returns when the authority promised a newer revocation list; past that, programs warn.
    pub fn revocations_due(&self) -> Option<SystemTime> {
        self.0.revocations.due()
    }

    /// Says whether there is a revocation list at all.
    pub fn checks_revocation(&self) -> bool {
        !self.0.revocations.is_empty()
    }

    /// Signs `message` with our certificate's key (Ed25519, RFC 8032).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.0.signing.sign(message);
        signature
            .as_ref()
            .try_into()
            .expect("an Ed25519 signature has 64 bytes")
    }

    /// Signs `message`, and puts our certificate beside the signature.
    pub fn seal(&self, message: &[u8]) -> Seal {
        let chain = self.0.certified.cert.iter();
        Seal {
            signature: self.sign(message).to_vec(),
            certificates: chain.map(|der| der.to_vec()).collect(),
        }
    }

    /// Whether both were read from the same certificates and lists; one certificate has one key.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }

    /// Returns the authorities that we trust.
    pub fn authorities(&self) -> &Authorities {
        &self.0.authorities
    }

    /// Checks our own certificate as a peer with the same authority and list, who expects `role`, would at `now`.
    ///
    /// # Errors
    /// The [`Rejection`] that the peer would find.
    pub fn check(&self, role: Role, now: SystemTime) -> Result<(), Rejection> {
        self.check_chain(&self.0.certified.cert, role, now)
    }

    /// Checks our own certificate as [`TlsMaterial::check`] does, but for whatever depends on the time.
    pub(super) fn check_undated(&self, role: Role) -> Result<(), Rejection> {
        let (end_entity, intermediates) =
            self.chain().split_first().ok_or(Rejection::NoCertificate)?;
        check_undated(self, end_entity, intermediates, role)
    }

    /// Checks the certificate chain of a participant that was passed on by somebody else, DER, end entity first.
    ///
    /// # Errors
    /// The [`Rejection`].
    pub fn check_participant(
        &self,
        chain: &[Vec<u8>],
        now: SystemTime,
    ) -> Result<PartyCertificate, Rejection> {
        let chain: Vec<_> = chain
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        self.check_chain(&chain, Role::Participant, now)?;
        let own = chain.first().ok_or(Rejection::NoCertificate)?;
        PartyCertificate::read(own)
    }

    /// Checks a peer's chain, end entity first.
    pub(super) fn check_chain(
        &self,
        chain: &[CertificateDer<'_>],
        expected: Role,
        now: SystemTime,
    ) -> Result<(), Rejection> {
        let (end_entity, intermediates) = chain.split_first().ok_or(Rejection::NoCertificate)?;
        check(self, end_entity, intermediates, expected, unix(now))
    }

    /// Returns our chain, end entity first.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.certified.cert
    }

    /// What an endpoint of ours makes its reset tokens from.
    pub(super) fn reset(&self) -> &ResetSecret {
        &self.0.reset
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.certified)
    }

    pub(super) fn revocations(&self) -> &Revocations {
        &self.0.revocations
    }
}

impl fmt::Debug for TlsMaterial {
    /// Prints whose it is, and nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsMaterial")
            .field("identity", &self.identity().to_string())
            .field("serial", &self.serial())
            .field("checks_revocation", &self.checks_revocation())
            .finish_non_exhaustive()
    }
}

/// Verifies an Ed25519 signature made by [`TlsMaterial::sign`].
pub fn verify_signature(public_key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ring::signature::ED25519, public_key)
        .verify(message, signature)
        .is_ok()
}

pub(super) fn certificates(
    what: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(list) if list.is_empty() => Err(MaterialError::Empty { what }),
        Ok(list) => Ok(list),
        Err(cause) => Err(MaterialError::Pem { what, cause }),
    }
}

/// The forms in which our private key is kept.
struct OwnKey {
    certified: CertifiedKey,
    signing: Ed25519KeyPair,
    reset: ResetSecret,
}

fn own_key(chain: Vec<CertificateDer<'static>>, pem: &str) -> Result<OwnKey, MaterialError> {
    let mut der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|cause| MaterialError::Pem { what: "key", cause })?;
    let tls = any_eddsa_type(&der);
    let signing = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
    let reset = ResetSecret::extract(der.secret_pkcs8_der());
    der.zeroize();
    match (tls, signing) {
        (Ok(tls), Ok(signing)) => Ok(OwnKey {
            certified: CertifiedKey::new(chain, tls),
            signing,
            reset,
        }),
        _ => Err(MaterialError::Key),
    }
}
