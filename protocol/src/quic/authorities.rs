//! Whom we trust to issue certificates: the federation's authority, or several while one follows another.
//!
//! Public certificates only, so that a transcript can be checked by somebody who has no key at all.

use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::material::{MaterialError, certificates};
use super::rejection::moment;

/// Authorities' certificates, read and found to be such.
#[derive(Clone, Debug)]
pub struct Authorities(Vec<Authority>);

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Authority {
    pub(super) anchor: TrustAnchor<'static>,
    /// Its public key; two authorities may have one name.
    pub(super) key: Vec<u8>,
    expires: SystemTime,
}

impl Authorities {
    /// Reads one or more certificates in PEM.
    ///
    /// # Errors
    /// [`MaterialError`] says what is wrong with them.
    pub fn from_pem(pem: &str) -> Result<Self, MaterialError> {
        let list = certificates("authority", pem)?;
        list.iter()
            .map(authority)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Returns when the last of them expires.
    pub fn expires(&self) -> Option<SystemTime> {
        self.0.iter().map(|authority| authority.expires).max()
    }

    /// Returns all of them, those that have expired too.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Authority> {
        self.0.iter()
    }

    /// Returns those that have not expired at `now`. webpki leaves that to its caller.
    pub(super) fn living_at(&self, now: UnixTime) -> impl Iterator<Item = &Authority> {
        let now = moment(now.as_secs());
        self.iter()
            .filter(move |authority| now <= authority.expires)
    }

    /// Returns the anchors of those that have not expired at `now`.
    pub(super) fn anchors_at(&self, now: UnixTime) -> Vec<TrustAnchor<'static>> {
        let living = self.living_at(now);
        living.map(|authority| authority.anchor.clone()).collect()
    }
}

fn authority(der: &CertificateDer<'static>) -> Result<Authority, MaterialError> {
    let anchor = webpki::anchor_from_trusted_cert(der)
        .map_err(|error| MaterialError::Authority {
            what: error.to_string(),
        })?
        .to_owned();
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| MaterialError::Authority {
            what: error.to_string(),
        })?;
    if !certificate.is_ca() {
        return Err(MaterialError::Authority {
            what: "it is not the certificate of an authority".to_owned(),
        });
    }
    let seconds = certificate.validity().not_after.timestamp();
    Ok(Authority {
        anchor,
        key: certificate.public_key().subject_public_key.data.to_vec(),
        expires: moment(u64::try_from(seconds).unwrap_or(0)),
    })
}
