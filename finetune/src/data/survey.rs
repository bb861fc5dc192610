//! What a file of records is like before anybody trains on it: what a training would refuse, cut, see twice or learn unevenly.
//!
//! It never shows a text, only numbers and lines, so that the answer may lie on any desk. It changes nothing by itself; [`Survey::kept`] gives
//! what a cleaned copy would hold. What it cannot see: near duplicates in other words, and whether an answer is right.

mod balance;
mod cleaning;
mod lengths;
mod repeats;

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde::Serialize;

pub(crate) use self::repeats::plain;
pub use self::{
    balance::{Balance, Share},
    cleaning::Untidiness,
    lengths::Lengths,
    repeats::Likeness,
};
use self::{cleaning::CleanLine, repeats::Seen};
use super::{
    Record,
    record::{lines, text_of},
    tokenize,
};
use crate::tokenizer::Tokenizer;

/// What is to be looked at beside the records themselves.
#[derive(Clone, Copy, Debug)]
pub struct Aspects<'a> {
    /// Records that nobody is to train on, because something is measured by them.
    pub held_out: Option<&'a [u8]>,
    /// A field whose values are to be counted.
    pub balance_by: Option<&'a str>,
    /// The longest example in tokens.
    pub max_tokens: usize,
}

/// What was found. Lines count from 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Survey {
    /// Records of each kind that can be read: "text", "pair" or "messages".
    pub kinds: BTreeMap<&'static str, usize>,
    /// Lines that a training would refuse, and why.
    pub refused: Vec<Refused>,
    /// Tokens of the records that can be read.
    pub lengths: Lengths,
    /// Records that say what an earlier one says, but for spaces and capitals.
    pub repeats: Vec<Likeness>,
    /// Records that answer an earlier one's question otherwise.
    pub contradictions: Vec<Likeness>,
    /// Records that are held out too; `other` is the line there.
    pub held_out: Vec<Likeness>,
    /// Lines of which texts are untidy, each in its way.
    pub untidy: BTreeMap<Untidiness, Vec<usize>>,
    /// How the values of the field are spread, if one was asked for.
    pub balance: Option<Balance>,
    #[serde(skip)]
    readable: Vec<Readable>,
}

/// A line that is no record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refused {
    /// The line.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// A record, as a cleaned copy would have it.
#[derive(Clone, Debug, PartialEq)]
struct Readable {
    line: usize,
    /// The line's text, tidied.
    json: String,
    /// What it says, so that it can be told from others.
    content: [u8; 32],
    /// What it asks, if it asks something.
    question: Option<[u8; 32]>,
    tokens: usize,
    response_tokens: usize,
    untidy: Vec<Untidiness>,
    kind: &'static str,
}

impl Survey {
    /// Looks through the bytes of a JSONL file.
    pub fn of(bytes: &[u8], tokenizer: &Tokenizer, aspects: Aspects<'_>) -> Self {
        let (readable, refused) = read(bytes, tokenizer);
        let mut survey = Self {
            refused,
            ..Self::default()
        };
        let mut seen = Seen::default();
        for record in &readable {
            *survey.kinds.entry(record.kind).or_default() += 1;
            for untidiness in &record.untidy {
                survey
                    .untidy
                    .entry(*untidiness)
                    .or_default()
                    .push(record.line);
            }
            match seen.take(record) {
                Some(repeats::Found::Repeat(like)) => survey.repeats.push(like),
                Some(repeats::Found::Contradiction(like)) => survey.contradictions.push(like),
                None => {}
            }
        }
        if let Some(held_out) = aspects.held_out {
            let (held_out, _) = read(held_out, tokenizer);
            survey.held_out = repeats::shared(&readable, &held_out);
        }
        survey.lengths = Lengths::of(&readable, aspects.max_tokens);
        survey.balance = aspects
            .balance_by
            .map(|field| Balance::of(field, &readable));
        survey.readable = readable;
        survey
    }

    /// Records that can be read.
    pub fn records(&self) -> usize {
        self.readable.len()
    }

    /// The lines of a cleaned copy: tidy, without what a training would refuse, without repeats and without what is held out; if there is a
    /// balance, with at most so many records of a value.
    ///
    /// Which ones remain of a value follows from what they say, and from nothing else: not from their order.
    pub fn kept(&self, at_most: Option<usize>) -> Vec<&str> {
        let dropped = self.repeats.iter().chain(&self.held_out);
        let dropped: BTreeSet<_> = dropped.map(|like| like.line).collect();
        let kept = self.readable.iter();
        let kept = kept.filter(|record| !dropped.contains(&record.line));
        let kept: Vec<_> = kept.collect();
        let chosen = match (at_most, &self.balance) {
            (Some(at_most), Some(balance)) => balance.chosen(&kept, at_most),
            _ => kept,
        };
        chosen.iter().map(|record| record.json.as_str()).collect()
    }
}

/// Reads every line that is not empty; those that are no records apart.
fn read(bytes: &[u8], tokenizer: &Tokenizer) -> (Vec<Readable>, Vec<Refused>) {
    let numbered: Vec<_> = (1..)
        .zip(lines(bytes))
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .collect();
    let read = numbered.into_par_iter();
    let read: Vec<_> = read
        .map(|(line, text)| readable(line, text, tokenizer).map_err(|what| Refused { line, what }))
        .collect();
    let (mut records, mut refused) = (Vec::new(), Vec::new());
    for found in read {
        match found {
            Ok(record) => records.push(record),
            Err(line) => refused.push(line),
        }
    }
    (records, refused)
}

fn readable(line: usize, bytes: &[u8], tokenizer: &Tokenizer) -> Result<Readable, String> {
    let text = text_of(bytes)?;
    // As a training reads it, which does not clean.
    let written = Record::from_json(text)?;
    let read = tokenize::example(&written, line, tokenizer, usize::MAX);
    let (example, _) = read.map_err(|error| error.to_string())?;
    let CleanLine { mended, untidy } = cleaning::clean_line(text)?;
    let record = match &mended {
        None => written,
        Some(json) => Record::from_json(json)?,
    };
    if mended.is_some() && tokenize::example(&record, line, tokenizer, usize::MAX).is_err() {
        return Err("says nothing that anybody can see; remove the line".to_owned());
    }
    Ok(Readable {
        line,
        content: repeats::content(&record),
        question: repeats::question(&record),
        tokens: example.tokens.len(),
        response_tokens: example
            .response
            .iter()
            .skip(1)
            .filter(|&&asked| asked)
            .count(),
        kind: match record {
            Record::Text(_) => "text",
            Record::Pair { .. } => "pair",
            Record::Messages(_) => "messages",
        },
        json: mended.unwrap_or_else(|| text.trim().to_owned()),
        untidy,
    })
}

#[cfg(test)]
mod tests;
