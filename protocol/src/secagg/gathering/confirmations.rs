//! The fourth step: members sign whose vectors are in the sum, and each sees its neighbours' signatures.

use super::{Gathering, Output, Step};
use crate::secagg::message::{Confirmation, ForMember};
use crate::secagg::parts::split;
use crate::secagg::roster::MemberId;
use crate::secagg::statement;

impl Gathering {
    pub(super) fn take_confirmation(
        &mut self,
        member: MemberId,
        signature: Vec<u8>,
    ) -> Result<(), &'static str> {
        let (sharers, delivered) = (self.sharers(), self.delivered_ids());
        let lists = (sharers.as_slice(), delivered.as_slice());
        let said = statement::of_delivery(&self.context, &self.keys_digest, member, lists);
        if !self.delivered.contains(&member) || !self.is_signed(member, &said, &signature) {
            return Err("its confirmation is not of the list that it was given");
        }
        self.confirmations
            .insert(member, Confirmation { member, signature });
        Ok(())
    }

    pub(super) fn close_confirmations(&mut self) {
        let found = self.confirmations.len();
        if self.is_too_few_to_open(found) {
            return;
        }
        let all: Vec<_> = self.confirmations.keys().copied().collect();
        // Before the sum is fixed, and before a member sees that too few of its neighbours confirm and takes it for a split view.
        if self.is_scattered(&self.to_open(), &all) {
            return;
        }
        let delivered = self.delivered().collect();
        self.outputs.push_back(Output::Fixed { delivered });
        for &member in &all {
            let near = self.near(member, &all);
            let list: Vec<_> = near
                .iter()
                .filter_map(|one| self.confirmations.get(one))
                .cloned()
                .collect();
            for part in split(&list) {
                self.tell(member, ForMember::Confirmations(part));
            }
        }
        self.step = Step::Opening;
    }
}
