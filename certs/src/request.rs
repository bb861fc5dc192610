//! A party's request for a certificate, made where the party is.

use std::fmt;

use protocol::identity::{Identity, Role};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, IsCa,
    PKCS_ED25519, PublicKey, SanType,
};
use zeroize::Zeroizing;

use crate::IssueError;
use crate::key::PrivateKey;

/// A new private key and the request that proves to hold it (PKCS #10, RFC 2986).
pub struct Request {
    identity: Identity,
    key_pem: Zeroizing<String>,
    request_pem: String,
}

impl Request {
    /// Makes a key from the system's randomness, and a request of `identity` signed with it.
    ///
    /// # Errors
    /// [`IssueError::Crypto`] if the system has no randomness.
    pub fn new(identity: Identity) -> Result<Self, IssueError> {
        let key = PrivateKey::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&identity);
        params.subject_alt_names = vec![uri(&identity)?];
        let request = params
            .serialize_request(key.pair())
            .and_then(|request| request.pem())
            .map_err(IssueError::crypto("make a request"))?;
        Ok(Self {
            identity,
            key_pem: key.to_pem(),
            request_pem: request,
        })
    }

    /// Returns who asks.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the private key, PKCS #8 PEM. It stays with the party.
    pub fn key_pem(&self) -> &Zeroizing<String> {
        &self.key_pem
    }

    /// Returns the request in PEM, for the operator of the authority.
    pub fn request_pem(&self) -> &str {
        &self.request_pem
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("identity", &self.identity.to_string())
            .finish_non_exhaustive()
    }
}

/// A request that has been read: who asks, with which key. Its signature by that key is verified.
#[derive(Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) identity: Identity,
    pub(crate) public_key: PublicKey,
}

impl ReceivedRequest {
    /// Reads and verifies a request.
    ///
    /// A request may ask for an identity and for nothing else: usages, hosts and validity are the
    /// operator's to give.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, IssueError> {
        let refused = |what: String| IssueError::Request { what };
        let request = CertificateSigningRequestParams::from_pem(pem)
            .map_err(|error| refused(error.to_string()))?;
        if request.public_key.algorithm() != &PKCS_ED25519 {
            return Err(refused("its key is not Ed25519".to_owned()));
        }
        if request.params.is_ca != IsCa::NoCa {
            return Err(refused("it asks to be an authority".to_owned()));
        }
        let [SanType::URI(uri)] = request.params.subject_alt_names.as_slice() else {
            return Err(refused(
                "it must name one URI, the identity, and no other name".to_owned(),
            ));
        };
        let identity = uri
            .as_str()
            .parse()
            .map_err(|error| refused(format!("its URI is no identity, {error}")))?;
        Ok(Self {
            identity,
            public_key: request.public_key,
        })
    }
}

/// Returns the subject of a party's certificate: for people; programs read the URI.
pub(crate) fn subject(identity: &Identity) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, identity.federation());
    name.push(
        DnType::CommonName,
        match identity.role() {
            Role::Server => format!("server {}", identity.name()),
            Role::Participant => identity.name().to_owned(),
        },
    );
    name
}

/// Returns the identity as a subject alternative name.
pub(crate) fn uri(identity: &Identity) -> Result<SanType, IssueError> {
    let text = identity.to_string().try_into();
    text.map(SanType::URI)
        .map_err(IssueError::crypto("write the identity"))
}
