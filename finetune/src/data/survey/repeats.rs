//! Records that are alike: the same once more, the same question with another answer, the same in two files.
//!
//! Two texts are the same if they are but for spaces, line breaks and capitals.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Readable;
use crate::data::Record;

/// Two records that are alike.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Likeness {
    /// The record's line.
    pub line: usize,
    /// The line of the one that it is like.
    pub other: usize,
}

/// What a record is to those before it.
pub(super) enum Found {
    Repeat(Likeness),
    Contradiction(Likeness),
}

/// What was said and asked so far, with the first line of each.
#[derive(Default)]
pub(super) struct Seen {
    contents: BTreeMap<[u8; 32], usize>,
    questions: BTreeMap<[u8; 32], usize>,
}

impl Seen {
    /// Says what the next record is, and remembers it.
    pub(super) fn take(&mut self, record: &Readable) -> Option<Found> {
        let line = record.line;
        if let Some(&other) = self.contents.get(&record.content) {
            return Some(Found::Repeat(Likeness { line, other }));
        }
        self.contents.insert(record.content, line);
        let other = *self.questions.entry(record.question?).or_insert(line);
        (other != line).then_some(Found::Contradiction(Likeness { line, other }))
    }
}

/// The records of one file that are in another.
pub(super) fn shared(here: &[Readable], there: &[Readable]) -> Vec<Likeness> {
    let mut lines = BTreeMap::new();
    for record in there {
        lines.entry(record.content).or_insert(record.line);
    }
    let likeness = |record: &Readable| {
        let (line, other) = (record.line, *lines.get(&record.content)?);
        Some(Likeness { line, other })
    };
    here.iter().filter_map(likeness).collect()
}

/// What a record says.
pub(super) fn content(record: &Record) -> [u8; 32] {
    match record {
        Record::Text(text) => digest(&[("text", text)]),
        Record::Pair { prompt, completion } => {
            digest(&[("user", prompt), ("assistant", completion)])
        }
        Record::Messages(turns) => {
            let turns = turns.iter();
            digest(
                &turns
                    .map(|turn| (&*turn.role, &*turn.content))
                    .collect::<Vec<_>>(),
            )
        }
    }
}

/// What a record asks: all before its last turn.
pub(super) fn question(record: &Record) -> Option<[u8; 32]> {
    match record {
        Record::Text(_) => None,
        Record::Pair { prompt, .. } => Some(digest(&[("user", prompt)])),
        Record::Messages(turns) => {
            let (_, before) = turns.split_last()?;
            let before = before.iter();
            let before: Vec<_> = before.map(|turn| (&*turn.role, &*turn.content)).collect();
            (!before.is_empty()).then(|| digest(&before))
        }
    }
}

/// A text without what makes no other text of it: capitals, line breaks and how many spaces there are.
pub(crate) fn plain(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ")
}

fn digest(turns: &[(&str, &str)]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in turns.iter().flat_map(|(role, text)| [role, text]) {
        let plain = plain(part);
        hash.update((plain.len() as u64).to_le_bytes());
        hash.update(plain);
    }
    hash.finalize().into()
}
