//! What can be wrong with our own TLS material.

use std::path::PathBuf;

use thiserror::Error;

use crate::identity::Identity;
use crate::quic::rejection::Rejection;

/// Why TLS material cannot be used.
#[derive(Debug, Error)]
pub enum MaterialError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Others on this machine may read or change the private key.
    #[error(
        "others on this machine may use the private key {path}, which has mode {mode:o}: run `chmod 600 {path}`, and have a new \
         key signed if somebody may have read it",
        path = path.display()
    )]
    SharedKey {
        /// The key's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A PEM text holds nothing of the kind expected.
    #[error("the {what} file holds no such PEM block; was another file named?")]
    Empty {
        /// `certificate`, `authority` or `revocations`.
        what: &'static str,
    },
    /// A PEM text is broken.
    #[error("the {what} file is not PEM of that kind: {cause}")]
    Pem {
        /// `certificate`, `key`, `authority` or `revocations`.
        what: &'static str,
        /// What is wrong with it.
        cause: rustls::pki_types::pem::Error,
    },
    /// Our certificate is not a Foedus one.
    #[error("our own certificate is of no use: {0}")]
    Certificate(Rejection),
    /// The key is not PKCS #8 Ed25519.
    #[error("the key is not an Ed25519 key in PKCS #8; make one with foedus-certs request")]
    Key,
    /// Certificate and key belong to different requests.
    #[error("the key does not belong to the certificate of {identity}")]
    KeyMismatch {
        /// Whose certificate it is.
        identity: Box<Identity>,
    },
    /// The authority cannot be used.
    #[error("the authority's certificate is of no use: {what}")]
    Authority {
        /// What is wrong with it.
        what: String,
    },
    /// The revocation list cannot be used.
    #[error("the revocation list is of no use: {what}")]
    Revocations {
        /// What is wrong with it.
        what: String,
    },
}
