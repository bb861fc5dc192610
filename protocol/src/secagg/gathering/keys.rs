//! The first step: each member's fresh keys under its signature, then all of them to all.

use super::{Gathering, Step};
use crate::secagg::context::keys_digest;
use crate::secagg::message::{ForMember, Keys, SignedKeys};
use crate::secagg::parts::split;
use crate::secagg::roster::MemberId;
use crate::secagg::statement;

impl Gathering {
    pub(super) fn take_keys(
        &mut self,
        member: MemberId,
        keys: Keys,
        signature: Vec<u8>,
    ) -> Result<(), &'static str> {
        let said = statement::of_keys(&self.context, member, &keys);
        if !self.is_signed(member, &said, &signature) {
            return Err("its keys are not under its signature in this attempt");
        }
        if self.keys.contains_key(&member) {
            return Err("it sent its keys twice");
        }
        if !self.is_fresh(&keys) {
            return Err("a key of it is there already");
        }
        let signed = SignedKeys {
            member,
            keys,
            signature,
        };
        self.keys.insert(member, signed);
        Ok(())
    }

    /// Whether both keys are nobody's so far: members end an attempt that has one twice, and hold it against the server.
    fn is_fresh(&self, keys: &Keys) -> bool {
        let taken = self.keys.values();
        let mut taken = taken.flat_map(|one| [one.keys.sealing, one.keys.masking]);
        keys.sealing != keys.masking
            && !taken.any(|key| [keys.sealing, keys.masking].contains(&key))
    }

    pub(super) fn close_keys(&mut self) {
        if self.is_too_few(self.keys.len()) {
            return;
        }
        let keys: Vec<_> = self.keys.values().cloned().collect();
        self.keys_digest = keys_digest(&keys);
        let present: Vec<_> = self.keys.keys().copied().collect();
        if self.is_scattered(&present, &present) {
            return;
        }
        let parts = split(&keys);
        for one in &keys {
            for part in &parts {
                self.tell(one.member, ForMember::Keys(part.clone()));
            }
        }
        self.step = Step::Shares;
    }
}
