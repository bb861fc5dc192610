//! What a run starts from, and whether its parts belong together.

use super::{Allowance, Release};
use crate::ids::Round;
use crate::message::{Content, TransferHeader, TransferKind};
use crate::plan::{ANCHOR_BYTES_MAX, CheckedPlan, SignedPlan};
use crate::text::Text;
use crate::transcript::SealedRecord;

/// What a run starts from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The plan.
    pub plan: CheckedPlan,
    /// The same plan under the server's signature.
    pub signed: SignedPlan,
    /// The adapter that the first round starts from; after a restart, what the last round that is done came to.
    pub release: Release,
    /// The anchor's file; needed if the participants apply EWC.
    pub anchor: Option<Content>,
    /// The records of the rounds that are done.
    pub transcript: Vec<SealedRecord>,
    /// Program and version, for the participants' logs.
    pub software: Text,
    /// What one participant may ask of the server.
    pub allowance: Allowance,
}

impl Setup {
    /// Checks the parts against each other; gives the anchor's transfer, if the participants need it.
    pub(super) fn check(&self) -> Result<Option<TransferHeader>, SetupError> {
        let (plan, found) = (&self.plan, self.release.adapter.bytes);
        if self.signed.plan != plan.bytes() {
            return Err(SetupError::OtherPlanSigned);
        }
        // That of a run of which all rounds are done is the final one.
        if ![plan.encoded_bytes(), plan.adapter_bytes].contains(&found) {
            let expected = plan.encoded_bytes();
            return Err(SetupError::AdapterSize { found, expected });
        }
        anchor_to_send(plan, self.anchor)
    }
}

/// The anchor's transfer, if the participants need it.
fn anchor_to_send(
    plan: &CheckedPlan,
    anchor: Option<Content>,
) -> Result<Option<TransferHeader>, SetupError> {
    let Some(ewc) = plan.anchor_at_participants() else {
        return Ok(None);
    };
    let content = anchor
        .filter(|anchor| anchor.sha256 == ewc.anchor)
        .ok_or(SetupError::AnchorMissing)?;
    if ANCHOR_BYTES_MAX < content.bytes {
        return Err(SetupError::AnchorSize {
            found: content.bytes,
        });
    }
    let header =
        TransferHeader::from_server(TransferKind::Anchor, Round::FIRST, plan.digest(), content);
    Ok(Some(header))
}

/// Parts of a [`Setup`] that do not belong together. Our own caller's fault.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The signed bytes are not those of the plan.
    #[error("the signed plan is not the plan of this run")]
    OtherPlanSigned,
    /// The first adapter has another size than the plan says.
    #[error("the first adapter has {found} bytes, the plan says {expected}")]
    AdapterSize {
        /// Its length in bytes.
        found: u64,
        /// The plan's.
        expected: u64,
    },
    /// The plan has the participants apply EWC, and there is no anchor with the plan's digest.
    #[error("the plan asks for EWC at the participants, and the anchor it names was not given")]
    AnchorMissing,
    /// The anchor is longer than any that participants take in.
    #[error("the anchor has {found} bytes, at most {ANCHOR_BYTES_MAX} are sent")]
    AnchorSize {
        /// Its length in bytes.
        found: u64,
    },
}
