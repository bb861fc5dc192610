//! The last step: shares of the seeds of those that delivered and of the keys of those that dropped out.

use super::{Gathering, Opening, Output, Revealed, Secret, Step};
use crate::secagg::message::{Piece, Share};
use crate::secagg::roster::MemberId;

impl Gathering {
    pub(super) fn take_reveal(
        &mut self,
        member: MemberId,
        part: Piece<Share>,
    ) -> Result<(), &'static str> {
        if !self.confirmations.contains_key(&member) {
            return Err("it reveals shares and has confirmed nothing");
        }
        let expected = self.near(member, &self.sharers());
        let limit = u32::try_from(expected.len()).unwrap_or(u32::MAX);
        let coming = self.coming_reveals.entry(member).or_default();
        let whole = coming
            .add(part, limit)
            .map_err(|_| "the parts of its shares do not follow each other")?;
        let Some(shares) = whole else {
            return Ok(());
        };
        if !shares.iter().map(|one| one.of).eq(expected) {
            return Err("its shares are not those of its neighbours and its own");
        }
        self.reveals.insert(member, shares);
        Ok(())
    }

    pub(super) fn close_opening(&mut self) {
        let sharers = self.sharers();
        let mut secrets: Vec<_> = sharers.iter().map(|&of| self.secret(of)).collect();
        for (by, shares) in std::mem::take(&mut self.reveals) {
            for share in shares {
                if let Ok(place) = secrets.binary_search_by_key(&share.of, |secret| secret.of) {
                    secrets[place].shares.push(share);
                    secrets[place].by.push(by);
                }
            }
        }
        let is_needed = |secret: &&Revealed| match &secret.secret {
            Secret::SelfMask => true,
            Secret::PairKey { neighbours } => !neighbours.is_empty(),
        };
        let fewest = secrets
            .iter()
            .filter(is_needed)
            .map(|secret| secret.shares.len())
            .min();
        if self.is_too_few_to_open(fewest.unwrap_or(0)) {
            return;
        }
        let keys = sharers
            .iter()
            .filter_map(|one| Some((*one, self.keys.get(one)?.keys)))
            .collect();
        let names = sharers
            .iter()
            .map(|&one| (one, self.roster.name(one)))
            .collect();
        self.outputs.push_back(Output::Opened(Opening {
            attempt: self.attempt,
            context: self.context,
            threshold: self.arrangement.threshold(),
            keys,
            names,
            secrets,
        }));
        self.step = Step::Over;
    }

    /// The secret of a member that has to be put together, still without shares.
    fn secret(&self, of: MemberId) -> Revealed {
        let secret = if self.delivered.contains(&of) {
            Secret::SelfMask
        } else {
            let mut neighbours = self.near(of, &self.delivered_ids());
            neighbours.retain(|&one| one != of);
            Secret::PairKey { neighbours }
        };
        Revealed {
            of,
            secret,
            shares: Vec::new(),
            by: Vec::new(),
        }
    }
}
