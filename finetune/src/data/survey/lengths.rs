//! How long records are.

use serde::Serialize;

use super::Readable;

/// Tokens of records as a training would read them if it cut none.
///
/// # Units
/// Tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Lengths {
    /// All.
    pub tokens: u64,
    /// Those that are to be learned.
    pub response_tokens: u64,
    /// Of the shortest record.
    pub shortest: usize,
    /// Half of the records have at most so many.
    pub median: usize,
    /// Of a hundred records, 95 have at most so many.
    pub percentile_95: usize,
    /// Of the longest record.
    pub longest: usize,
    /// Lines of records that would be cut.
    pub cut: Vec<usize>,
}

impl Lengths {
    pub(super) fn of(records: &[Readable], max_tokens: usize) -> Self {
        let mut sorted: Vec<_> = records.iter().map(|record| record.tokens).collect();
        sorted.sort_unstable();
        // The smallest that so many of a hundred do not exceed (nearest rank).
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).copied().unwrap_or(0)
        };
        let sum = |count: fn(&Readable) -> usize| {
            let counts = records.iter().map(|record| count(record) as u64);
            counts.sum()
        };
        let cut = records.iter().filter(|record| max_tokens < record.tokens);
        Self {
            tokens: sum(|record| record.tokens),
            response_tokens: sum(|record| record.response_tokens),
            shortest: at(0),
            median: at(50),
            percentile_95: at(95),
            longest: at(100),
            cut: cut.map(|record| record.line).collect(),
        }
    }
}
