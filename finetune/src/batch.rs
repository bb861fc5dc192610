//! The engine's input: examples back to back, without padding.
//!
//! Every linear operation runs on all rows at once. Attention is causal within a segment and blind across segments,
//! and positions restart at each, so packed examples compute exactly what they would compute alone.

use std::ops::Range;

use crate::model::ModelError;

/// One prediction that contributes to the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The row of the batch whose output predicts.
    pub row: u32,
    /// The token that it should predict.
    pub token: u32,
}

/// Tokens of one or more examples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The tokens of all examples, one a row.
    pub tokens: Vec<u32>,
    /// The rows of each example; together they are all rows, in order.
    pub segments: Vec<Range<usize>>,
    /// What is asked, in strictly increasing order of rows.
    pub targets: Vec<Target>,
}

impl Batch {
    /// Makes a batch of whole texts in which every token but each text's first is asked for.
    pub fn of_texts(texts: &[&[u32]]) -> Self {
        let mut batch = Self::default();
        for text in texts {
            let start = batch.tokens.len();
            batch.tokens.extend_from_slice(text);
            batch.segments.push(start..batch.tokens.len());
            for (offset, &token) in text.iter().enumerate().skip(1) {
                batch.targets.push(Target {
                    row: (start + offset - 1) as u32,
                    token,
                });
            }
        }
        batch
    }

    /// Checks that the batch is one that a model of this vocabulary and context length can compute.
    ///
    /// # Errors
    /// [`ModelError`] with the first thing found.
    pub fn check(&self, vocab_size: usize, context_tokens: usize) -> Result<(), ModelError> {
        let mut end = 0;
        for segment in &self.segments {
            if segment.start != end || segment.end <= segment.start {
                return Err(ModelError::Segments {
                    start: segment.start,
                    end: segment.end,
                });
            }
            if segment.len() > context_tokens {
                return Err(ModelError::TooLong {
                    tokens: segment.len(),
                    limit: context_tokens,
                });
            }
            end = segment.end;
        }
        if end != self.tokens.len() || end == 0 {
            return Err(ModelError::Segments {
                start: end,
                end: self.tokens.len(),
            });
        }
        let asked = self.targets.iter().map(|target| &target.token);
        if let Some(&token) = self
            .tokens
            .iter()
            .chain(asked)
            .find(|&&t| t as usize >= vocab_size)
        {
            return Err(ModelError::Token { token, vocab_size });
        }
        let mut rows = self.targets.iter().map(|target| target.row as usize);
        let increasing = self.targets.is_sorted_by(|one, next| one.row < next.row);
        if !increasing || rows.any(|row| row >= end) {
            return Err(ModelError::Targets { rows: end });
        }
        Ok(())
    }

    /// The position of each row within its segment, from 0.
    pub(crate) fn positions(&self) -> Vec<u32> {
        self.segments
            .iter()
            .flat_map(|segment| 0..segment.len() as u32)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_ask_for_every_token_but_the_first() {
        let batch = Batch::of_texts(&[&[5, 6, 7], &[8], &[1, 2]]);
        assert_eq!(batch.segments, [0..3, 3..4, 4..6]);
        assert_eq!(batch.positions(), [0, 1, 2, 0, 0, 1]);
        let asked: Vec<_> = batch.targets.iter().map(|t| (t.row, t.token)).collect();
        assert_eq!(asked, [(0, 6), (1, 7), (4, 2)]);
        batch.check(9, 3).unwrap();
    }

    #[test]
    fn what_a_model_cannot_compute_is_refused_and_named() {
        let good = Batch::of_texts(&[&[1, 2, 3]]);
        assert!(matches!(
            good.check(3, 9),
            Err(ModelError::Token { token: 3, .. })
        ));
        assert!(matches!(
            good.check(9, 2),
            Err(ModelError::TooLong {
                tokens: 3,
                limit: 2
            })
        ));
        let gap = Batch {
            segments: vec![0..1, 2..3],
            ..good.clone()
        };
        assert!(matches!(gap.check(9, 9), Err(ModelError::Segments { .. })));
        let twice = Batch {
            targets: vec![good.targets[0]; 2],
            ..good.clone()
        };
        assert!(matches!(twice.check(9, 9), Err(ModelError::Targets { .. })));
        assert!(matches!(
            Batch::default().check(9, 9),
            Err(ModelError::Segments { .. })
        ));
    }
}
