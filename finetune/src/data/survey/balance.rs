//! How records are spread over the values of a field, as wards, languages or kinds of cases.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Readable;
use crate::data::record::field;

/// The values of a field.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Balance {
    /// The field.
    pub field: String,
    /// Its values, the most frequent first.
    pub shares: Vec<Share>,
    /// Lines whose record has no such field, or neither a text nor a whole number in it.
    pub without: Vec<usize>,
}

/// The records with one value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// The value.
    pub value: String,
    /// How many have it.
    pub records: usize,
    /// Their tokens.
    pub tokens: u64,
}

impl Balance {
    pub(super) fn of(name: &str, records: &[Readable]) -> Self {
        let (mut shares, mut without) = (BTreeMap::<String, (usize, u64)>::new(), Vec::new());
        for record in records {
            match field(record.json.as_bytes(), name) {
                Ok(value) => {
                    let (count, tokens) = shares.entry(value).or_default();
                    *count += 1;
                    *tokens += record.tokens as u64;
                }
                Err(_) => without.push(record.line),
            }
        }
        let shares = shares.into_iter().map(|(value, (records, tokens))| Share {
            value,
            records,
            tokens,
        });
        let mut shares: Vec<_> = shares.collect();
        shares.sort_by_key(|share| std::cmp::Reverse(share.records));
        Self {
            field: name.to_owned(),
            shares,
            without,
        }
    }

    /// How many values of equal size would be as even: the exponential of the entropy of the shares.
    pub fn effective_values(&self) -> f64 {
        let all: usize = self.shares.iter().map(|share| share.records).sum();
        let parts = self
            .shares
            .iter()
            .map(|share| share.records as f64 / all as f64);
        let entropy: f64 = parts.map(|part| -part * part.ln()).sum();
        if all == 0 { 0.0 } else { entropy.exp() }
    }

    /// At most so many records of each value, and those without one, in their order.
    pub(super) fn chosen<'a>(&self, records: &[&'a Readable], at_most: usize) -> Vec<&'a Readable> {
        let mut by_value = BTreeMap::<_, Vec<_>>::new();
        for record in records {
            let value = field(record.json.as_bytes(), &self.field).ok();
            by_value
                .entry(value)
                .or_default()
                .push((record.content, record.line));
        }
        let mut chosen = BTreeSet::new();
        for (value, mut of_value) in by_value {
            of_value.sort_unstable();
            let most = if value.is_some() { at_most } else { usize::MAX };
            chosen.extend(of_value.into_iter().take(most).map(|(_, line)| line));
        }
        let records = records.iter().copied();
        records
            .filter(|record| chosen.contains(&record.line))
            .collect()
    }
}
