//! A certificate that an authority issued, read back so that its party gets a newer one for the same key.
//!
//! No request is needed: that the party holds the key was proved when it asked the first time. What counts is that the
//! certificate is one of this authority, by its signature and not only by its serial number.

use protocol::identity::Identity;
use rcgen::{PKCS_ED25519, PublicKeyData, SubjectPublicKeyInfo};
use ring::signature::{ED25519, UnparsedPublicKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::error::IssueError;
use crate::terms::Host;

/// What of a certificate goes into the newer one, and its serial number.
#[derive(Debug)]
pub(crate) struct EarlierCertificate {
    pub(crate) identity: Identity,
    pub(crate) public_key: SubjectPublicKeyInfo,
    pub(crate) hosts: Vec<Host>,
    pub(crate) serial: String,
}

impl EarlierCertificate {
    /// Reads a certificate in PEM; `authority` is the Ed25519 public key that must have signed it.
    pub(crate) fn from_pem(pem: &str, authority: &[u8]) -> Result<Self, IssueError> {
        let refused = |what: &str| IssueError::Renewal {
            what: what.to_owned(),
        };
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
            .map_err(|_| refused("it is not PEM"))?;
        let (_, certificate) =
            X509Certificate::from_der(&pem.contents).map_err(|_| refused("it is not X.509"))?;
        let signed: &[u8] = certificate.tbs_certificate.as_ref();
        UnparsedPublicKey::new(&ED25519, authority)
            .verify(signed, &certificate.signature_value.data)
            .map_err(|_| refused("this authority did not sign it"))?;
        let public_key = SubjectPublicKeyInfo::from_der(certificate.public_key().raw)
            .map_err(|_| refused("its key cannot be read"))?;
        if public_key.algorithm() != &PKCS_ED25519 {
            return Err(refused("its key is not Ed25519"));
        }
        let (identity, hosts) = names(&certificate).map_err(refused)?;
        Ok(Self {
            identity,
            public_key,
            hosts,
            serial: hex::encode(certificate.raw_serial()),
        })
    }
}

fn names(certificate: &X509Certificate<'_>) -> Result<(Identity, Vec<Host>), &'static str> {
    let names = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .ok_or("it names nobody")?;
    let (mut identity, mut hosts) = (None, Vec::new());
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(uri) => {
                identity = Some(uri.parse().map_err(|_| "its URI is no identity")?);
            }
            GeneralName::DNSName(host) => {
                hosts.push(host.parse().map_err(|_| "it names a host that is none")?);
            }
            GeneralName::IPAddress(bytes) => hosts.push(Host::Address(address(bytes)?)),
            _ => return Err("it has a name that no certificate of ours has"),
        }
    }
    Ok((identity.ok_or("it names no identity")?, hosts))
}

fn address(bytes: &[u8]) -> Result<std::net::IpAddr, &'static str> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Ok(four.into());
    }
    <[u8; 16]>::try_from(bytes)
        .map(Into::into)
        .map_err(|_| "it names an address that is none")
}
