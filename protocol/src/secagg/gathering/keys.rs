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
        let signed = SignedKeys {
            member,
            keys,
            signature,
        };
        match self.keys.insert(member, signed) {
            None => Ok(()),
            Some(_) => Err("it sent its keys twice"),
        }
    }

    pub(super) fn close_keys(&mut self) {
        if self.is_too_few(self.keys.len()) {
            return;
        }
        let keys: Vec<_> = self.keys.values().cloned().collect();
        self.keys_digest = keys_digest(&keys);
        let parts = split(&keys);
        for one in &keys {
            for part in &parts {
                self.tell(one.member, ForMember::Keys(part.clone()));
            }
        }
        self.step = Step::Shares;
    }
}
