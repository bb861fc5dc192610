//! The third step: masked vectors, which the owner sums; here is only whose arrived.

use super::{Gathering, Step};
use crate::secagg::message::ForMember;
use crate::secagg::roster::MemberId;

impl Gathering {
    pub(super) fn close_vectors(&mut self) {
        if self.is_too_few(self.delivered.len()) {
            return;
        }
        let members = self.delivered_ids();
        if self.is_scattered(&self.to_open(), &members) {
            return;
        }
        for &member in &members {
            let members = members.clone();
            self.tell(member, ForMember::Delivered { members });
        }
        self.step = Step::Confirmations;
    }

    pub(super) fn delivered_ids(&self) -> Vec<MemberId> {
        self.delivered.iter().copied().collect()
    }
}
