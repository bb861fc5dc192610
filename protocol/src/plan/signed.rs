//! The plan under the server's Ed25519 signature.
//!
//! The signature is made with the key of a certificate of the server over [`SIGNATURE_CONTEXT`] and the plan's bytes, so that
//! no other signature of that key can be passed off as one of a plan. The certificate is beside it ([`Seal`]): a server whose
//! key was renewed after a connection was opened shows a plan that its new key signed.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CheckedPlan, PlanError, RunPlan};
use crate::codec::{self, DecodeError};
use crate::seal::{Examiner, Seal, SealFault};

/// A plan's bytes and the signature over them, as they travel.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct SignedPlan {
    /// The encoded plan.
    pub plan: Vec<u8>,
    /// The signature, and whose it is.
    pub seal: Seal,
}

impl SignedPlan {
    /// Puts a seal made elsewhere beside the plan. `sign` gets the bytes to sign.
    pub fn new(plan: &CheckedPlan, sign: impl FnOnce(&[u8]) -> Seal) -> Self {
        let seal = sign(&signed_bytes(plan.bytes()));
        Self {
            plan: plan.bytes().to_vec(),
            seal,
        }
    }

    /// Checks the seal, then the plan.
    ///
    /// # Errors
    /// [`SignedPlanError`]: the signature first, so that nothing unsigned is ever decoded.
    pub fn open(&self, examiner: &dyn Examiner) -> Result<CheckedPlan, SignedPlanError> {
        self.seal.check_size()?;
        examiner.examine(&signed_bytes(&self.plan), &self.seal)?;
        let checked = codec::decode::<RunPlan>(&self.plan)?.check()?;
        // One plan has one encoding: otherwise two digests could stand for the same plan.
        if checked.bytes() != self.plan {
            return Err(SignedPlanError::Encoding);
        }
        Ok(checked)
    }
}

impl fmt::Debug for SignedPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedPlan({} bytes)", self.plan.len())
    }
}

/// A signed plan that cannot be agreed to.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedPlanError {
    /// Not under a seal of the server.
    #[error("the run plan is not signed by the server: {0}")]
    Seal(#[from] SealFault),
    /// Signed, and not a plan.
    #[error("the run plan cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// Signed and well-formed, in another encoding than ours.
    #[error("the run plan is not in its one encoding")]
    Encoding,
    /// Signed, and nonsense.
    #[error("the run plan makes no sense: {0}")]
    Plan(#[from] PlanError),
}

fn signed_bytes(plan: &[u8]) -> Vec<u8> {
    [SIGNATURE_CONTEXT, plan].concat()
}

/// What stands before the plan in the signed bytes.
const SIGNATURE_CONTEXT: &[u8] = b"foedus/plan/1";
