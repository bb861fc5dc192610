//! Canaries: sentences with a random secret that exist nowhere else.
//!
//! Three kinds. Some are inserted a known number of times and their rank among random secrets is found. Some are inserted or
//! not by the toss of a coin, once, for the bound on epsilon. Candidates are never inserted: they are what a rank is among.

use std::path::Path;

use finetune::{
    data::{DataError, Dataset, Record},
    tokenizer::Tokenizer,
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

use super::AuditSettings;

/// How often canaries are inserted; none is the control.
pub(super) const INSERTIONS: [usize; 4] = [0, 1, 4, 16];

/// Digits of a secret.
const DIGITS: u32 = 9;
/// Longest canary in tokens; digits are a token each at worst.
const TOKENS_MAX: usize = 64;

/// All canaries of an audit, tokenized.
pub(super) struct Canaries {
    /// For each number of insertions, the canaries that are inserted so often.
    pub(super) repeated: Vec<(usize, Dataset)>,
    /// One canary a coin.
    pub(super) tossed: Dataset,
    /// Whether the coin put it in.
    pub(super) is_in: Vec<bool>,
    /// Never inserted.
    pub(super) candidates: Dataset,
}

impl Canaries {
    pub(super) fn draw(settings: &AuditSettings, tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let mut random = ChaCha20Rng::seed_from_u64(settings.seed);
        let mut drawn = |count: usize| {
            let secrets = (0..count).map(|_| random.next_u64() % 10_u64.pow(DIGITS));
            let records = secrets
                .map(|secret| Record::Text(format!("The secret number is {secret:09}.")))
                .collect();
            Dataset::from_records(Path::new("canaries"), records, tokenizer, TOKENS_MAX)
        };
        let repeated =
            INSERTIONS.map(|times| drawn(settings.canaries_each).map(|canaries| (times, canaries)));
        let repeated = repeated.into_iter().collect::<Result<_, _>>()?;
        let (tossed, candidates) = (drawn(settings.coins)?, drawn(settings.candidates)?);
        let is_in = (0..settings.coins)
            .map(|_| random.next_u64() & 1 == 1)
            .collect();
        Ok(Self {
            repeated,
            tossed,
            is_in,
            candidates,
        })
    }

    /// The site's text with the canaries in it.
    pub(super) fn planted_in(&self, members: &Dataset) -> Dataset {
        let repeated = self.repeated.iter();
        let repeated = repeated.flat_map(|(times, canaries)| std::iter::repeat_n(canaries, *times));
        let tossed = self
            .tossed
            .examples
            .iter()
            .zip(&self.is_in)
            .filter(|(_, is_in)| **is_in);
        let more = repeated
            .flat_map(|canaries| &canaries.examples)
            .chain(tossed.map(|(canary, _)| canary));
        members.with(more.cloned())
    }
}
