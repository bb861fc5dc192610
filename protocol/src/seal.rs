//! A signature together with the certificate whose key made it: what the server puts under plans and records.
//!
//! The certificate travels with the signature because the server's key may be renewed in mid-run: what was signed before stays
//! verifiable, and whoever checks it needs no more than the authority's certificate. How a seal is checked is the business of
//! an [`Examiner`]; the one that knows X.509 is the QUIC module's.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::identity::Identity;

/// The most bytes of certificates in one seal.
pub const CHAIN_BYTES_MAX: usize = 4096;

/// A signature and the chain of the certificate that it was made with.
#[derive(Clone, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The Ed25519 signature (RFC 8032), 64 bytes.
    #[serde(serialize_with = "write_blob", deserialize_with = "read_blob")]
    pub signature: Vec<u8>,
    /// DER certificates, the signer's first, without the authority's.
    #[serde(serialize_with = "write_chain", deserialize_with = "read_chain")]
    pub certificates: Vec<Vec<u8>>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({} certificates)", self.certificates.len())
    }
}

/// Decides whether a seal is one of the party that it must be of.
pub trait Examiner: fmt::Debug + Send + Sync {
    /// Checks the seal over these bytes.
    ///
    /// # Errors
    /// [`SealFault`] says what is wrong with it.
    fn examine(&self, bytes: &[u8], seal: &Seal) -> Result<(), SealFault>;
}

/// Why a seal is not believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SealFault {
    /// No certificate, or more bytes of them than [`CHAIN_BYTES_MAX`].
    #[error(
        "the seal has {certificates} certificates of {bytes} bytes, and one to {CHAIN_BYTES_MAX} bytes are allowed"
    )]
    Size {
        /// Certificates found.
        certificates: usize,
        /// Their bytes together.
        bytes: usize,
    },
    /// The certificate is not one that the authority gave to a server.
    #[error("the signer's certificate is not one of a server of this federation: {what}")]
    Untrusted {
        /// What is wrong with it.
        what: String,
    },
    /// Another party of the federation than the one expected.
    #[error("it is signed by {found}, and only {expected} may")]
    OtherSigner {
        /// Who may sign.
        expected: Box<Identity>,
        /// Who did.
        found: Box<Identity>,
    },
    /// The certificate's key did not make the signature.
    #[error("the signature was not made with the key of the certificate beside it")]
    Signature,
}

impl Seal {
    /// Checks the bounds, before anything is made of the certificates.
    ///
    /// # Errors
    /// [`SealFault::Size`].
    pub fn check_size(&self) -> Result<(), SealFault> {
        let (certificates, bytes) = (
            self.certificates.len(),
            self.certificates.iter().map(Vec::len).sum(),
        );
        if certificates == 0 || CHAIN_BYTES_MAX < bytes {
            return Err(SealFault::Size {
                certificates,
                bytes,
            });
        }
        Ok(())
    }
}

/// Bytes as they are, or in hexadecimal where people read.
fn write_blob<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        hex::encode(bytes).serialize(serializer)
    } else {
        bytes.serialize(serializer)
    }
}

fn read_blob<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    if deserializer.is_human_readable() {
        hex::decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    } else {
        Vec::deserialize(deserializer)
    }
}

fn write_chain<S: Serializer>(chain: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        let texts: Vec<_> = chain.iter().map(hex::encode).collect();
        texts.serialize(serializer)
    } else {
        chain.serialize(serializer)
    }
}

fn read_chain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
    if !deserializer.is_human_readable() {
        return Vec::deserialize(deserializer);
    }
    let texts = Vec::<String>::deserialize(deserializer)?;
    let chain = texts.iter().map(hex::decode);
    chain.collect::<Result<_, _>>().map_err(D::Error::custom)
}
