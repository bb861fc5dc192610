//! What Foedus reads from an X.509 certificate: identity, key, end of validity, serial.
//!
//! Reading is not trusting: the chain is checked in the sibling `verifier`. Until that has
//! accepted it, an identity read here is only what the certificate claims.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer;

use super::rejection::{Rejection, moment};
use crate::identity::Identity;
use crate::ids::Digest;

/// The facts of one party's certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartyCertificate {
    /// Who it names.
    pub identity: Identity,
    /// The Ed25519 public key: what verifies the party's signatures.
    pub public_key: [u8; 32],
    /// The beginning of its validity.
    pub begins: SystemTime,
    /// The end of its validity.
    pub expires: SystemTime,
    /// Its serial number in hexadecimal, as `foedus-certs revoke` takes it.
    pub serial: String,
    /// SHA-256 of the whole certificate (DER), as `foedus-certs show` shows it.
    pub fingerprint: Digest,
}

impl PartyCertificate {
    /// Reads the first certificate of a PEM text, without checking its signature or its dates.
    ///
    /// # Errors
    /// [`Rejection::Malformed`] if there is none, or it is not a Foedus one.
    pub fn from_pem(text: &str) -> Result<Self, Rejection> {
        let der = CertificateDer::from_pem_slice(text.as_bytes());
        Self::read(&der.map_err(|_| malformed("it is not a certificate in PEM"))?)
    }

    /// Reads a certificate without checking its signature or its dates.
    ///
    /// # Errors
    /// [`Rejection::Malformed`] unless there is exactly one URI, a Foedus identity, and the key is
    /// Ed25519.
    pub(super) fn read(der: &CertificateDer<'_>) -> Result<Self, Rejection> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| malformed("it is not X.509"))?;
        if !rest.is_empty() {
            return Err(malformed("bytes follow its end"));
        }
        let validity = certificate.validity();
        let instant = |seconds| moment(u64::try_from(seconds).unwrap_or(0));
        Ok(Self {
            identity: identity(&certificate)?,
            public_key: public_key(&certificate)?,
            begins: instant(validity.not_before.timestamp()),
            expires: instant(validity.not_after.timestamp()),
            serial: hex::encode(certificate.raw_serial()),
            fingerprint: Digest::of(der),
        })
    }
}

fn identity(certificate: &X509Certificate<'_>) -> Result<Identity, Rejection> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| malformed("its subject alternative names are given twice or unreadable"))?
        .ok_or_else(|| malformed("it has no subject alternative name"))?;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri
            .parse()
            .map_err(|error| malformed(&format!("its URI is no identity, {error}"))),
        (None, _) => Err(malformed("it names no foedus:// identity")),
        // Which of two would be meant is a question that must not arise.
        (Some(_), Some(_)) => Err(malformed("it names more than one URI")),
    }
}

fn public_key(certificate: &X509Certificate<'_>) -> Result<[u8; 32], Rejection> {
    let key = certificate.public_key();
    if key.algorithm.algorithm != OID_SIG_ED25519 {
        return Err(malformed("its key is not Ed25519"));
    }
    let bytes: &[u8] = &key.subject_public_key.data;
    bytes
        .try_into()
        .map_err(|_| malformed("its Ed25519 key does not have 32 bytes"))
}

fn malformed(what: &str) -> Rejection {
    Rejection::Malformed {
        what: what.to_owned(),
    }
}
