//! Why a certificate was refused: by us, or by the peer.
//!
//! [`Rejection`] is what our verifier found in the peer's certificate. It crosses the wire only as
//! a TLS alert (RFC 8446, section 6.2), from which the peer reads a [`PeerRefusal`]: less than we
//! know, but enough to say what to do. The two tables, [`Rejection::to_tls`] and
//! [`PeerRefusal::from_alert`], are each other's inverse as far as alerts can tell.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::{CertificateError, OtherError};
use thiserror::Error;
use webpki::Error as ChainError;

use crate::identity::Role;

/// What is wrong with a peer's certificate.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Rejection {
    /// The peer sent no certificate at all.
    #[error("no certificate was presented")]
    NoCertificate,
    /// Not a certificate with one Ed25519 key and one Foedus identity.
    #[error("the certificate cannot be used: {what}")]
    Malformed {
        /// The rule broken.
        what: String,
    },
    /// The certificate names another federation.
    #[error("the certificate is for the federation {found:?}, and this is {expected:?}")]
    WrongFederation {
        /// Our federation.
        expected: String,
        /// The federation in the certificate.
        found: String,
    },
    /// A participant where a server must be, or the reverse.
    #[error("the certificate is for a {found}, and a {expected} is needed here")]
    WrongRole {
        /// The role that the peer must have.
        expected: Role,
        /// The role in the certificate.
        found: Role,
    },
    /// No authority that we trust has signed it.
    #[error("the certificate was not signed by this federation's authority")]
    WrongAuthority,
    /// Its time is over.
    #[error("the certificate expired on {}", date(*.since))]
    Expired {
        /// The end of its validity.
        since: SystemTime,
    },
    /// Its time has not come, or a clock is wrong.
    #[error("the certificate is not valid before {}; compare the clocks", date(*.until))]
    NotYetValid {
        /// The start of its validity.
        until: SystemTime,
    },
    /// It is in the revocation list.
    #[error("the certificate was revoked")]
    Revoked,
    /// The revocation list on our side says nothing about its issuer, or is not signed by it.
    #[error("our revocation list is not one of the authority that signed the certificate")]
    RevocationUnknown,
    /// The extended key usage forbids this role.
    #[error("the certificate's extended key usage does not allow a {expected}")]
    WrongPurpose {
        /// The role that the peer must have.
        expected: Role,
    },
    /// The authority's own certificate, on our side, has expired.
    #[error("our own copy of the authority's certificate has expired; replace it")]
    AuthorityExpired,
}

impl Rejection {
    /// Returns a short constant name, for metrics and structured logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::Malformed { .. } => "malformed-certificate",
            Self::WrongFederation { .. } => "wrong-federation",
            Self::WrongRole { .. } => "wrong-role",
            Self::WrongAuthority => "wrong-authority",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not-yet-valid",
            Self::Revoked => "revoked",
            Self::RevocationUnknown => "revocation-unknown",
            Self::WrongPurpose { .. } => "wrong-purpose",
            Self::AuthorityExpired => "authority-expired",
        }
    }

    /// Returns the TLS error whose alert tells the peer as much as an alert can.
    pub(super) fn to_tls(&self) -> rustls::Error {
        let error = match self {
            Self::NoCertificate => return rustls::Error::NoCertificatesPresented,
            Self::Malformed { .. } => CertificateError::BadEncoding,
            Self::WrongFederation { .. } => CertificateError::ApplicationVerificationFailure,
            Self::WrongRole { .. } | Self::WrongPurpose { .. } => CertificateError::InvalidPurpose,
            Self::WrongAuthority => CertificateError::UnknownIssuer,
            Self::Expired { .. } => CertificateError::Expired,
            Self::NotYetValid { .. } => CertificateError::NotValidYet,
            Self::Revoked => CertificateError::Revoked,
            // Our fault and not the peer's: it learns only that something is wrong.
            Self::RevocationUnknown | Self::AuthorityExpired => {
                CertificateError::Other(OtherError(std::sync::Arc::new(self.clone())))
            }
        };
        rustls::Error::InvalidCertificate(error)
    }

    /// Translates what the chain verification found, for a peer that must have `expected`.
    pub(super) fn from_chain(error: &ChainError, expected: Role) -> Self {
        match error {
            ChainError::CertExpired { not_after, .. } => Self::Expired {
                since: moment(not_after.as_secs()),
            },
            ChainError::CertNotValidYet { not_before, .. } => Self::NotYetValid {
                until: moment(not_before.as_secs()),
            },
            ChainError::CertRevoked => Self::Revoked,
            ChainError::RequiredEkuNotFoundContext(_) | ChainError::EmptyEkuExtension => {
                Self::WrongPurpose { expected }
            }
            ChainError::UnknownIssuer | ChainError::InvalidSignatureForPublicKey => {
                Self::WrongAuthority
            }
            ChainError::UnknownRevocationStatus
            | ChainError::InvalidCrlSignatureForPublicKey
            | ChainError::IssuerNotCrlSigner => Self::RevocationUnknown,
            // The enumeration is open. All the rest are faults of encoding or of algorithm.
            other => Self::Malformed {
                what: other.to_string(),
            },
        }
    }
}

/// What the peer's TLS alert says about our own certificate.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PeerRefusal {
    /// We sent none.
    #[error("it needs a certificate and we presented none; name one in the configuration")]
    NoCertificate,
    /// Its authority did not sign our certificate.
    #[error(
        "it does not trust the authority that signed our certificate; \
         check that certificate and authority are those of this federation"
    )]
    WrongAuthority,
    /// Our certificate has expired or is not valid yet.
    #[error(
        "our certificate has expired or is not valid yet; \
         check the clock, or send the operator a new request (foedus-certs request)"
    )]
    Expired,
    /// Our certificate was revoked.
    #[error("our certificate was revoked; ask the operator of the federation why")]
    Revoked,
    /// Our certificate is for another role.
    #[error("our certificate is for another role; servers and participants have different ones")]
    WrongRole,
    /// Our certificate is for another federation.
    #[error("our certificate is for another federation; use the one issued for this federation")]
    WrongFederation,
    /// It found our certificate malformed.
    #[error("it cannot read our certificate; use one that foedus-certs has signed")]
    Malformed,
    /// Something on the peer's side, such as a stale revocation list.
    #[error("it could not check our certificate; the peer's own log says why")]
    Unchecked,
}

impl PeerRefusal {
    /// Reads a TLS alert; none if the alert is not about our certificate.
    pub(super) fn from_alert(alert: u8) -> Option<Self> {
        match alert {
            42 => Some(Self::Malformed),
            43 => Some(Self::WrongRole),
            44 => Some(Self::Revoked),
            45 => Some(Self::Expired),
            46 => Some(Self::Unchecked),
            48 => Some(Self::WrongAuthority),
            49 => Some(Self::WrongFederation),
            116 => Some(Self::NoCertificate),
            _ => None,
        }
    }

    /// Returns a short constant name, for metrics and structured logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::WrongAuthority => "wrong-authority",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::WrongRole => "wrong-role",
            Self::WrongFederation => "wrong-federation",
            Self::Malformed => "malformed-certificate",
            Self::Unchecked => "unchecked",
        }
    }
}

/// Returns the moment `seconds` after the Unix epoch.
pub(super) fn moment(seconds: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(UNIX_EPOCH)
}

fn date(moment: SystemTime) -> String {
    let seconds = moment
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| x509_parser::time::ASN1Time::from_timestamp(seconds).ok())
        .map_or_else(
            || format!("second {seconds} of Unix time"),
            |t| t.to_string(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::AlertDescription;

    fn alert(rejection: &Rejection) -> u8 {
        match rejection.to_tls() {
            rustls::Error::InvalidCertificate(error) => u8::from(AlertDescription::from(error)),
            rustls::Error::NoCertificatesPresented => {
                u8::from(AlertDescription::CertificateRequired)
            }
            other => panic!("no alert for {other}"),
        }
    }

    #[test]
    fn a_refused_peer_reads_the_reason_back_from_the_alert() {
        let expected = Role::Server;
        let found = Role::Participant;
        let pairs = [
            (Rejection::NoCertificate, PeerRefusal::NoCertificate),
            (Rejection::WrongAuthority, PeerRefusal::WrongAuthority),
            (Rejection::Revoked, PeerRefusal::Revoked),
            (
                Rejection::Expired { since: moment(1) },
                PeerRefusal::Expired,
            ),
            (
                Rejection::NotYetValid { until: moment(1) },
                PeerRefusal::Expired,
            ),
            (
                Rejection::WrongRole { expected, found },
                PeerRefusal::WrongRole,
            ),
            (Rejection::WrongPurpose { expected }, PeerRefusal::WrongRole),
            (Rejection::RevocationUnknown, PeerRefusal::Unchecked),
            (Rejection::AuthorityExpired, PeerRefusal::Unchecked),
            (
                Rejection::Malformed {
                    what: String::new(),
                },
                PeerRefusal::Malformed,
            ),
            (
                Rejection::WrongFederation {
                    expected: "a".to_owned(),
                    found: "b".to_owned(),
                },
                PeerRefusal::WrongFederation,
            ),
        ];
        for (ours, theirs) in pairs {
            assert_eq!(
                PeerRefusal::from_alert(alert(&ours)),
                Some(theirs),
                "{ours:?}"
            );
        }
    }

    #[test]
    fn an_expiry_is_told_with_its_date() {
        let since = moment(1_700_000_000);
        let text = Rejection::Expired { since }.to_string();
        assert!(text.contains("Nov 14") && text.contains("2023"), "{text}");
    }
}
