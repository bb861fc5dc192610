//! Everything that an attempt is about, in one digest: whoever was told something else has another one.

use sha2::{Digest as _, Sha256};

use super::graph::Arrangement;
use super::message::{AttemptId, SignedKeys};
use super::roster::Roster;
use crate::ids::Digest;
use crate::plan::CheckedPlan;

/// What an attempt is about.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The run's plan.
    pub plan: &'a CheckedPlan,
    /// Which attempt.
    pub attempt: AttemptId,
    /// SHA-256 of the global adapter that the round starts from, as it was sent. Participants that were given different ones come
    /// to different contexts (Pasquini et al. 2021, arXiv 2111.07380).
    pub model: Digest,
    /// The members.
    pub roster: &'a Roster,
    /// Who shares with whom.
    pub arrangement: Arrangement,
}

impl Terms<'_> {
    /// The context: all terms in one digest. Integers are little-endian.
    ///
    /// The federation and every institution's key are in the roster's digest, by the certificates behind it.
    pub fn context(&self) -> Digest {
        let ring = self.plan.ring.as_ref();
        let secure = self.plan.secure_aggregation.as_ref();
        let run = self.plan.run.as_str();
        let mut hash = Sha256::new();
        hash.update(b"flsa/v1/ctx");
        hash.update([run.len() as u8]);
        hash.update(run);
        hash.update(u64::from(self.attempt.round.0).to_le_bytes());
        hash.update(self.attempt.number.to_le_bytes());
        hash.update(self.plan.digest().0);
        hash.update(self.model.0);
        hash.update(self.plan.layout_digest.0);
        hash.update(self.plan.ring_elements().to_le_bytes());
        hash.update([ring.map_or(0, |ring| ring.bits.bits() as u8)]);
        hash.update(ring.map_or(0.0, |ring| ring.value_max).to_le_bytes());
        hash.update(self.arrangement.members().to_le_bytes());
        hash.update(self.arrangement.threshold().to_le_bytes());
        hash.update(self.arrangement.neighbours().to_le_bytes());
        hash.update(secure.map_or(0, |secure| secure.cohort_min).to_le_bytes());
        hash.update(self.roster.digest().0);
        Digest(hash.finalize().into())
    }
}

/// The digest of a list of keys in order, without their signatures.
pub(super) fn keys_digest(keys: &[SignedKeys]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"flsa/v1/key-list");
    for one in keys {
        hash.update(one.member.0.to_le_bytes());
        hash.update(one.keys.sealing);
        hash.update(one.keys.masking);
        hash.update(one.keys.commitment);
    }
    Digest(hash.finalize().into())
}
