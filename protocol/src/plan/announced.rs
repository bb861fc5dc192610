//! What a server may announce under a plan: judged by a transfer's header, before any of its bytes is taken.
//!
//! Which transfers are in their place is the participant's affair; here is how long they can be, and of what digest.

use super::{CheckedPlan, Download, EwcPlace, EwcPlan};
use crate::message::{TransferHeader, TransferKind};

/// Most bytes of an anchor: two vectors a linear of the base model, of which a plan knows the digest and not the length.
pub const ANCHOR_BYTES_MAX: u64 = 256 << 20;

/// What becomes of a transfer, as far as its header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Announced {
    /// Its bytes are taken in.
    Fits,
    /// A delta that is not shorter than the adapter that it is of: the whole one is asked for instead.
    UselessDelta {
        /// Length of that adapter in bytes.
        whole: u64,
    },
    /// The plan has no such transfer: no byte of it is taken, and the participant says which rule is broken.
    Unfit,
}

impl CheckedPlan {
    /// Judges what a server announces.
    pub fn judge(&self, header: &TransferHeader) -> Announced {
        let fits = match header.kind {
            TransferKind::GlobalAdapter | TransferKind::FinalAdapter => {
                Some(header.bytes) == self.adapter_bytes_of(header.kind)
            }
            TransferKind::GlobalDelta | TransferKind::FinalDelta => {
                let whole = self.adapter_bytes_of(header.kind).unwrap_or_default();
                if self.download == Download::Delta && whole <= header.bytes {
                    return Announced::UselessDelta { whole };
                }
                self.download == Download::Delta
            }
            TransferKind::Anchor => {
                let sha256 = self.anchor_at_participants().map(|ewc| ewc.anchor);
                sha256 == Some(header.sha256) && header.bytes <= ANCHOR_BYTES_MAX
            }
            TransferKind::Update => false,
        };
        if fits {
            Announced::Fits
        } else {
            Announced::Unfit
        }
    }

    /// Length of the adapter that a transfer of this kind carries, or is a delta of.
    pub(crate) fn adapter_bytes_of(&self, kind: TransferKind) -> Option<u64> {
        match kind {
            TransferKind::GlobalAdapter | TransferKind::GlobalDelta => Some(self.encoded_bytes()),
            TransferKind::FinalAdapter | TransferKind::FinalDelta => Some(self.adapter_bytes),
            TransferKind::Anchor | TransferKind::Update => None,
        }
    }

    /// The plan's EWC, if participants apply it and need the anchor.
    pub(crate) fn anchor_at_participants(&self) -> Option<&EwcPlan> {
        let ewc = self.ewc.as_ref();
        ewc.filter(|ewc| ewc.place == EwcPlace::Client)
    }
}
