//! The special tokens of a vocabulary, as text to look for.

use std::collections::BTreeMap;
use std::ops::Range;

/// Texts that stand for a special token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Specials {
    /// Longest first, so that the first match is the longest.
    texts: Vec<String>,
    ids: BTreeMap<u32, ()>,
    first_bytes: Vec<u8>,
}

impl Specials {
    /// The special tokens of a tokenizer; the unknown token counts as none, because plain text may become it.
    pub(super) fn of(tokenizer: &tokenizers::Tokenizer, unknown: Option<u32>) -> Self {
        let added = tokenizer.get_added_tokens_decoder();
        let special = added
            .iter()
            .filter(|(_, token)| token.special && !token.content.is_empty());
        let mut texts: Vec<String> = special.clone().map(|(_, t)| t.content.clone()).collect();
        texts.sort_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
        let mut first_bytes: Vec<u8> = texts.iter().map(|text| text.as_bytes()[0]).collect();
        first_bytes.sort_unstable();
        first_bytes.dedup();
        let ids = special
            .map(|(id, _)| (*id, ()))
            .filter(|(id, ())| Some(*id) != unknown)
            .collect();
        Self {
            texts,
            ids,
            first_bytes,
        }
    }

    /// Whether the id is a special token's.
    pub(crate) fn has(&self, id: u32) -> bool {
        self.ids.contains_key(&id)
    }

    /// The first special text at or after byte `from`, which is a character boundary.
    pub(crate) fn find(&self, text: &str, from: usize) -> Option<Range<usize>> {
        let bytes = text.as_bytes();
        (from..bytes.len()).find_map(|start| {
            if !self.first_bytes.contains(&bytes[start]) {
                return None;
            }
            let matched = self
                .texts
                .iter()
                .find(|t| bytes[start..].starts_with(t.as_bytes()))?;
            Some(start..start + matched.len())
        })
    }

    /// Puts `marker` after the first character of every special text, so that none is left.
    pub(crate) fn broken_up(&self, text: &str, marker: char) -> String {
        let mut broken = String::with_capacity(text.len());
        let mut copied = 0;
        let mut from = 0;
        while let Some(found) = self.find(text, from) {
            let first = text[found.start..].chars().next().map_or(1, char::len_utf8);
            let cut = found.start + first;
            broken.push_str(&text[copied..cut]);
            broken.push(marker);
            copied = cut;
            from = cut;
        }
        broken.push_str(&text[copied..]);
        broken
    }
}
