//! The plan under the server's Ed25519 signature.
//!
//! The signature is made with the key of the server's certificate over [`SIGNATURE_CONTEXT`] and the plan's
//! bytes, so that no other signature of that key can be passed off as one of a plan.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CheckedPlan, PlanError, RunPlan};
use crate::codec::{self, DecodeError};

/// A plan's bytes and the signature over them, as they travel.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct SignedPlan {
    /// The encoded plan.
    pub plan: Vec<u8>,
    /// The Ed25519 signature, 64 bytes.
    pub signature: Vec<u8>,
}

impl SignedPlan {
    /// Puts a signature made elsewhere beside the plan. `sign` gets the bytes to sign.
    pub fn new(plan: &CheckedPlan, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Self {
        let signature = sign(&signed_bytes(plan.bytes()));
        Self {
            plan: plan.bytes().to_vec(),
            signature,
        }
    }

    /// Checks the signature, then the plan. `verify` gets the signed bytes and the signature.
    ///
    /// # Errors
    /// [`SignedPlanError`]: the signature first, so that nothing unsigned is ever decoded.
    pub fn open(
        &self,
        verify: impl FnOnce(&[u8], &[u8]) -> bool,
    ) -> Result<CheckedPlan, SignedPlanError> {
        if !verify(&signed_bytes(&self.plan), &self.signature) {
            return Err(SignedPlanError::Signature);
        }
        let checked = codec::decode::<RunPlan>(&self.plan)?.check()?;
        // One plan has one encoding: otherwise two digests could stand for the same plan.
        if checked.bytes() != self.plan {
            return Err(SignedPlanError::Encoding);
        }
        Ok(checked)
    }

    /// Checks the signature with the server's public key, then the plan.
    ///
    /// # Errors
    /// As [`SignedPlan::open`].
    #[cfg(feature = "quic")]
    pub fn open_with(&self, public_key: &[u8; 32]) -> Result<CheckedPlan, SignedPlanError> {
        use ring::signature::{ED25519, UnparsedPublicKey};

        let key = UnparsedPublicKey::new(&ED25519, public_key);
        self.open(|bytes, signature| key.verify(bytes, signature).is_ok())
    }
}

impl fmt::Debug for SignedPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedPlan({} bytes)", self.plan.len())
    }
}

/// Signs plans with the key of the server's certificate.
#[cfg(feature = "quic")]
pub struct PlanSigner(ring::signature::Ed25519KeyPair);

#[cfg(feature = "quic")]
impl PlanSigner {
    /// Reads the key from the server's PEM file (PKCS #8, Ed25519).
    ///
    /// # Errors
    /// [`SignedPlanError::Key`] if the file holds no such key.
    pub fn from_pem(key_pem: &[u8]) -> Result<Self, SignedPlanError> {
        use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

        let key = PrivatePkcs8KeyDer::from_pem_slice(key_pem).map_err(|_| SignedPlanError::Key)?;
        ring::signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der())
            .map(Self)
            .map_err(|_| SignedPlanError::Key)
    }

    /// Signs a plan.
    pub fn sign(&self, plan: &CheckedPlan) -> SignedPlan {
        SignedPlan::new(plan, |bytes| self.0.sign(bytes).as_ref().to_vec())
    }
}

#[cfg(feature = "quic")]
impl fmt::Debug for PlanSigner {
    /// Never shows the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlanSigner")
    }
}

/// A signed plan that cannot be agreed to.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedPlanError {
    /// Not signed by the server's key.
    #[error("the run plan is not signed by the key of the server's certificate")]
    Signature,
    /// Signed, and not a plan.
    #[error("the run plan cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// Signed and well-formed, in another encoding than ours.
    #[error("the run plan is not in its one encoding")]
    Encoding,
    /// Signed, and nonsense.
    #[error("the run plan makes no sense: {0}")]
    Plan(#[from] PlanError),
    /// Our own key cannot sign.
    #[error("the server's key file holds no Ed25519 key in PKCS #8 PEM")]
    Key,
}

fn signed_bytes(plan: &[u8]) -> Vec<u8> {
    [SIGNATURE_CONTEXT, plan].concat()
}

/// What stands before the plan in the signed bytes.
const SIGNATURE_CONTEXT: &[u8] = b"foedus/plan/1";
