//! A signed plan on disk, with the certificate whose key signed it: what an operator sends to sites before a run.
//!
//! Two kinds of PEM blocks (RFC 7468): one `FOEDUS SIGNED PLAN` (the codec's encoding of [`SignedPlan`]) and the server's
//! chain as `CERTIFICATE` blocks. A site opens it with its own authority, so that nothing in it is believed before the same
//! checks as on a connection. It is no secret: it holds what every participant is sent.

use std::time::SystemTime;

use pem::Pem;
use rustls::pki_types::CertificateDer;
use thiserror::Error;

use super::certificate::PartyCertificate;
use super::examiner::ServerExaminer;
use super::material::TlsMaterial;
use super::rejection::Rejection;
use crate::codec::{self, DecodeError};
use crate::identity::Role;
use crate::plan::{CheckedPlan, SignedPlan, SignedPlanError};

/// A signed plan and the chain of its signer, not yet believed.
#[derive(Clone, Debug)]
pub struct PlanFile {
    signed: SignedPlan,
    chain: Vec<CertificateDer<'static>>,
}

impl PlanFile {
    /// Puts a plan beside the certificate of the server that signed it.
    pub fn new(signed: SignedPlan, server: &TlsMaterial) -> Self {
        let chain = server.chain().to_vec();
        Self { signed, chain }
    }

    /// Writes it as PEM.
    ///
    /// # Errors
    /// [`PlanFileError::Encode`] if the plan does not fit; a checked one does.
    pub fn to_pem(&self) -> Result<String, PlanFileError> {
        let plan = codec::encode(&self.signed).map_err(|error| PlanFileError::Encode {
            what: error.to_string(),
        })?;
        let certificates = self
            .chain
            .iter()
            .map(|der| Pem::new(CERTIFICATE, der.as_ref()));
        let blocks: Vec<_> = std::iter::once(Pem::new(PLAN, plan))
            .chain(certificates)
            .collect();
        Ok(pem::encode_many(&blocks))
    }

    /// Reads PEM of at most [`PLAN_FILE_BYTES_MAX`].
    ///
    /// # Errors
    /// [`PlanFileError`] says what is missing, or unreadable, or too much.
    pub fn from_pem(text: &[u8]) -> Result<Self, PlanFileError> {
        if PLAN_FILE_BYTES_MAX < text.len() {
            return Err(PlanFileError::TooLong { found: text.len() });
        }
        let blocks = pem::parse_many(text).map_err(|error| PlanFileError::Pem {
            what: error.to_string(),
        })?;
        let (mut plans, mut chain) = (Vec::new(), Vec::new());
        for block in blocks {
            match block.tag() {
                PLAN => plans.push(block.into_contents()),
                CERTIFICATE => chain.push(CertificateDer::from(block.into_contents())),
                other => {
                    return Err(PlanFileError::Block {
                        kind: other.to_owned(),
                    });
                }
            }
        }
        match &plans[..] {
            [plan] if !chain.is_empty() => {
                let signed = codec::decode(plan)?;
                Ok(Self { signed, chain })
            }
            _ => Err(PlanFileError::Blocks {
                plans: plans.len(),
                certificates: chain.len(),
            }),
        }
    }

    /// Checks the certificate as a connection would at `now`, then the signature, then the plan.
    ///
    /// # Errors
    /// [`PlanFileError::Certificate`] or [`PlanFileError::Plan`].
    pub fn open(
        &self,
        site: &TlsMaterial,
        now: SystemTime,
    ) -> Result<(CheckedPlan, PartyCertificate), PlanFileError> {
        site.check_chain(&self.chain, Role::Server, now)
            .map_err(PlanFileError::Certificate)?;
        let end_entity = self
            .chain
            .first()
            .ok_or(PlanFileError::Certificate(Rejection::NoCertificate))?;
        let certificate = PartyCertificate::read(end_entity).map_err(PlanFileError::Certificate)?;
        let authorities = site.authorities().clone();
        let examiner = ServerExaminer::new(authorities, certificate.identity.clone());
        let plan = self.signed.open(&examiner)?;
        Ok((plan, certificate))
    }
}

/// A plan file that cannot be used.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum PlanFileError {
    /// The plan cannot be encoded. Our own fault.
    #[error("the signed plan cannot be written: {what}")]
    Encode {
        /// Why.
        what: String,
    },
    /// Too many bytes to be one.
    #[error("{found} bytes are more than a plan file has ({PLAN_FILE_BYTES_MAX})")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// Not PEM.
    #[error("it is not PEM: {what}")]
    Pem {
        /// What is wrong with it.
        what: String,
    },
    /// A PEM block of another kind.
    #[error("it has a PEM block of the kind {kind:?}, which no plan file has")]
    Block {
        /// The kind found.
        kind: String,
    },
    /// Not one plan with a certificate.
    #[error(
        "it has {plans} signed plans and {certificates} certificates; a plan file has one plan and its signer's chain"
    )]
    Blocks {
        /// Plans found.
        plans: usize,
        /// Certificates found.
        certificates: usize,
    },
    /// The block of the plan does not hold one.
    #[error("its signed plan cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// The signer is not this federation's server.
    #[error("its signer is not this federation's server: {0}")]
    Certificate(Rejection),
    /// The plan is not signed by the certificate's key, or makes no sense.
    #[error(transparent)]
    Plan(#[from] SignedPlanError),
}

/// The longest plan file, in bytes.
pub const PLAN_FILE_BYTES_MAX: usize = 256 * 1024;

const PLAN: &str = "FOEDUS SIGNED PLAN";
const CERTIFICATE: &str = "CERTIFICATE";
