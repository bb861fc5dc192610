//! The second step: sealed shares from each member for its neighbours, handed on to whom they are for.

use std::collections::BTreeMap;

use super::{Gathering, Step};
use crate::secagg::message::{ForMember, Piece, Sealed};
use crate::secagg::parts::split;
use crate::secagg::roster::MemberId;

/// Sealed shares have 81 bytes; so that what one sends to all takes little room in the list of each.
const SEALED_BYTES_MAX: usize = 256;

impl Gathering {
    pub(super) fn take_shares(
        &mut self,
        member: MemberId,
        part: Piece<Sealed>,
    ) -> Result<(), &'static str> {
        let present: Vec<_> = self.keys.keys().copied().collect();
        let expected = self
            .arrangement
            .neighbours_of(member, &present, &self.keys_digest);
        let limit = u32::try_from(expected.len()).unwrap_or(u32::MAX);
        let coming = self.coming_shares.entry(member).or_default();
        let whole = coming
            .add(part, limit)
            .map_err(|_| "the parts of its shares do not follow each other")?;
        let Some(shares) = whole else {
            return Ok(());
        };
        if shares.iter().any(|one| SEALED_BYTES_MAX < one.bytes.len()) {
            return Err("its sealed shares are longer than any are");
        }
        if !self.keys.contains_key(&member) || !shares.iter().map(|one| one.member).eq(expected) {
            return Err("its shares are not for its neighbours");
        }
        match self.shares.insert(member, shares) {
            None => Ok(()),
            Some(_) => Err("it sent its shares twice"),
        }
    }

    pub(super) fn close_shares(&mut self) {
        if self.is_too_few(self.shares.len()) {
            return;
        }
        let sharers = self.sharers();
        if self.is_scattered(&sharers, &sharers) {
            return;
        }
        let mut for_each: BTreeMap<MemberId, Vec<Sealed>> = BTreeMap::new();
        for (&member, shares) in &mut self.shares {
            for Sealed { member: to, bytes } in shares.drain(..) {
                let sealed = Sealed { member, bytes };
                for_each.entry(to).or_default().push(sealed);
            }
        }
        for &member in &sharers {
            for part in split(&for_each.remove(&member).unwrap_or_default()) {
                self.tell(member, ForMember::Shares(part));
            }
            let members = sharers.clone();
            self.tell(member, ForMember::Mask { members });
        }
        self.away.clear();
        self.step = Step::Vectors;
    }

    pub(super) fn sharers(&self) -> Vec<MemberId> {
        self.shares.keys().copied().collect()
    }
}
