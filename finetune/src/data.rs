//! Text to learn from: JSON lines, tokenized, with a mask of what contributes to the loss.
//!
//! One JSON object a line, of one of three kinds: `{"text"}` (every token counts), `{"prompt", "completion"}` and
//! `{"messages": [{"role", "content"}]}` (what the assistant says counts, its end of turn included). Other keys are
//! ignored. It is no general loader: one file, in memory, in its order.

use crate::batch::{Batch, Target};
use crate::chat::ChatError;
use crate::tokenizer::{EncodeError, Tokenizer};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

mod record;
pub mod survey;
#[cfg(test)]
mod tests;
mod tokenize;

pub use record::Record;
pub(crate) use record::{field, lines};

/// One tokenized record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Its tokens, at most as many as asked for.
    pub tokens: Vec<u32>,
    /// For each token, whether predicting it contributes to the loss.
    pub response: Vec<bool>,
    /// The line of its file, counted from 1.
    pub line: usize,
}

impl Example {
    /// What a training sees of it: tokens, and which of them count. Where it stood is no part of that.
    pub fn content(&self) -> (&[u32], &[bool]) {
        (&self.tokens, &self.response)
    }
}

/// Examples of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// The examples in the order of the source.
    pub examples: Vec<Example>,
    /// SHA-256 over tokens and masks: equal digests are equal training.
    pub digest: [u8; 32],
    /// Where they came from.
    pub source: PathBuf,
    /// How many examples were cut to the token limit.
    pub truncated: usize,
}

/// A data set that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {what}", file.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct DataError {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1, where one is to blame.
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub what: String,
}

/// Why one record is no example.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error("it has no token to predict; remove the line")]
    Empty,
}

impl Dataset {
    /// Reads a JSONL file; empty lines are skipped.
    ///
    /// # Units
    /// `max_tokens` is the longest example in tokens; longer ones are cut and counted in [`Self::truncated`].
    ///
    /// # Errors
    /// [`DataError`] with the first line that is not a record, or without one if the file is unreadable or empty.
    pub fn load_jsonl(
        path: &Path,
        tokenizer: &Tokenizer,
        max_tokens: usize,
    ) -> Result<Self, DataError> {
        let bytes = read_file(path)?;
        let records = record::parse_lines(&bytes).map_err(|(line, what)| DataError {
            file: path.to_owned(),
            line: Some(line),
            what,
        })?;
        Self::from_numbered(path, &records, tokenizer, max_tokens)
    }

    /// Tokenizes records from memory; `source` names them in messages, where lines count from 1.
    ///
    /// # Errors
    /// As [`Self::load_jsonl`].
    pub fn from_records(
        source: &Path,
        records: Vec<Record>,
        tokenizer: &Tokenizer,
        max_tokens: usize,
    ) -> Result<Self, DataError> {
        let numbered: Vec<_> = records
            .into_iter()
            .enumerate()
            .map(|(i, r)| (i + 1, r))
            .collect();
        Self::from_numbered(source, &numbered, tokenizer, max_tokens)
    }

    fn from_numbered(
        source: &Path,
        records: &[(usize, Record)],
        tokenizer: &Tokenizer,
        max_tokens: usize,
    ) -> Result<Self, DataError> {
        let error = |line, what| DataError {
            file: source.to_owned(),
            line,
            what,
        };
        if max_tokens < 2 {
            return Err(error(
                None,
                format!("max_tokens is {max_tokens}; at least 2 are needed"),
            ));
        }
        if records.is_empty() {
            let what = "it holds no record; write one JSON object a line".to_owned();
            return Err(error(None, what));
        }
        let made: Vec<Result<(Example, bool), RecordError>> = records
            .par_iter()
            .map(|(line, record)| tokenize::example(record, *line, tokenizer, max_tokens))
            .collect();
        let mut examples = Vec::with_capacity(made.len());
        let mut truncated = 0;
        for (made, (line, _)) in made.into_iter().zip(records) {
            let (example, cut) = made.map_err(|e| error(Some(*line), e.to_string()))?;
            truncated += usize::from(cut);
            examples.push(example);
        }
        if truncated > 0 {
            tracing::warn!(
                source = %source.display(), truncated, examples = examples.len(), max_tokens,
                "examples longer than max_tokens were cut"
            );
        }
        Ok(Self {
            digest: digest(&examples),
            examples,
            source: source.to_owned(),
            truncated,
        })
    }

    /// The same with more examples at its end.
    pub fn with(&self, more: impl IntoIterator<Item = Example>) -> Self {
        let mut examples = self.examples.clone();
        examples.extend(more);
        Self {
            digest: digest(&examples),
            examples,
            source: self.source.clone(),
            truncated: self.truncated,
        }
    }

    /// The same with only the first of examples that a training cannot tell apart.
    pub fn distinct(&self) -> Self {
        let mut seen = BTreeSet::new();
        self.filtered(|example| seen.insert(example.content()))
    }

    /// The same without the examples that a training cannot tell from one of `others`.
    pub fn without(&self, others: &Self) -> Self {
        let others: BTreeSet<_> = others.examples.iter().map(Example::content).collect();
        self.filtered(|example| !others.contains(&example.content()))
    }

    fn filtered<'a>(&'a self, mut wanted: impl FnMut(&'a Example) -> bool) -> Self {
        let wanted = self.examples.iter().filter(|example| wanted(example));
        let examples: Vec<Example> = wanted.cloned().collect();
        Self {
            digest: digest(&examples),
            examples,
            source: self.source.clone(),
            truncated: self.truncated,
        }
    }

    /// Splits off `held_out` examples by a seeded shuffle; both parts keep the order of the source.
    ///
    /// The shuffle depends on the seed and the digest only. The first part is for training, the second for evaluation.
    pub fn split(self, seed: u64, held_out: usize) -> (Self, Self) {
        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        let mut key = Sha256::new();
        key.update(b"foedus/data/split/1");
        key.update(seed.to_le_bytes());
        key.update(self.digest);
        let mut random = ChaCha8Rng::from_seed(key.finalize().into());
        for last in (1..order.len()).rev() {
            let other = (u128::from(random.next_u64()) * (last as u128 + 1)) >> 64;
            order.swap(last, other as usize);
        }
        let mut chosen = vec![false; order.len()];
        for index in order.iter().take(held_out) {
            chosen[*index] = true;
        }
        let part = |wanted: bool| {
            let kept = self
                .examples
                .iter()
                .zip(&chosen)
                .filter(|(_, chosen)| **chosen == wanted);
            let examples: Vec<Example> = kept.map(|(example, _)| example.clone()).collect();
            Self {
                digest: digest(&examples),
                examples,
                source: self.source.clone(),
                truncated: 0,
            }
        };
        (part(false), part(true))
    }

    /// Puts examples back to back.
    ///
    /// Row `i` predicts token `i + 1` of its own example, so an example of `n` tokens has at most `n - 1` targets, and
    /// no target reaches over a border between examples.
    ///
    /// # Panics
    /// If an index is not below the number of examples.
    pub fn batch(&self, indices: &[usize]) -> Batch {
        let mut batch = Batch::default();
        for index in indices {
            let example = &self.examples[*index];
            let start = batch.tokens.len();
            batch.tokens.extend_from_slice(&example.tokens);
            batch.segments.push(start..batch.tokens.len());
            for (offset, token) in example.tokens.iter().enumerate().skip(1) {
                if example.response[offset] {
                    let row = u32::try_from(start + offset - 1)
                        .expect("a batch that fits memory has less than 2^32 rows");
                    batch.targets.push(Target { row, token: *token });
                }
            }
        }
        batch
    }
}

/// Reads a file of records.
///
/// # Errors
/// [`DataError`] if the system does not give it.
pub fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    std::fs::read(path).map_err(|error| DataError {
        file: path.to_owned(),
        line: None,
        what: format!("cannot be read: {error}"),
    })
}

fn digest(examples: &[Example]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"foedus/data/1");
    for example in examples {
        hash.update((example.tokens.len() as u64).to_le_bytes());
        for (token, response) in example.tokens.iter().zip(&example.response) {
            hash.update(token.to_le_bytes());
            hash.update([u8::from(*response)]);
        }
    }
    hash.finalize().into()
}
