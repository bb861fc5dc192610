//! The loss of a model on held-out text, weighted by token.
//!
//! Sums, never means of means: batches are packed to a budget of rows, each gives its sum of nats and its count of response
//! tokens, and both are added up in f64 and u64. Perplexity is `exp` of the one quotient at the end (algorithms.md, section
//! 8). Perplexities of two models compare only if their tokenizers are the same.

use aggregation::Adapter;

use crate::{
    base::BaseModel,
    data::{Dataset, Example},
    lora::LoraFactors,
    model::{LossSum, ModelError},
};

/// Rows of one forward pass: enough to keep the matrix products busy, little enough to bound memory.
const ROWS_MAX: usize = 1024;

/// How far an evaluation has come.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluateReport {
    /// Examples done.
    pub done: usize,
    /// Examples in all.
    pub examples: usize,
    /// The loss over the examples done.
    pub loss: LossSum,
}

/// An evaluation that has no result.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// No token counts, so there is no mean.
    #[error("{source_name} holds no response token to evaluate on")]
    NoTargets {
        /// Where the data set came from.
        source_name: String,
    },
    /// The loss is not finite.
    #[error(
        "the loss on {source_name} is {found} after line {line}: the adapter or the base is damaged"
    )]
    NotFinite {
        /// Where the data set came from.
        source_name: String,
        /// The sum of nats.
        found: f64,
        /// The line of the last example of the batch.
        line: usize,
    },
    /// The model could not compute.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Computes the loss of the base, or of the base with an adapter, over a whole data set.
///
/// Dropout is off. The observer hears of each batch.
///
/// # Errors
/// [`EvaluateError::NoTargets`] if nothing counts, [`EvaluateError::NotFinite`] if the loss is no number.
pub fn evaluate(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    dataset: &Dataset,
    observe: &mut dyn FnMut(&EvaluateReport),
) -> Result<LossSum, EvaluateError> {
    let factors = adapter
        .map(|adapter| LoraFactors::upload(adapter, base.llama.device()))
        .transpose()?;
    let examples = dataset.examples.len();
    let mut loss = LossSum {
        nats: 0.0,
        tokens: 0,
    };
    for packed in pack(&dataset.examples, ROWS_MAX) {
        let part = base.llama.loss(&dataset.batch(&packed), factors.as_ref())?;
        loss.nats += part.nats;
        loss.tokens += part.tokens;
        let last = *packed.last().expect("a pack holds at least one example");
        if !loss.nats.is_finite() {
            return Err(EvaluateError::NotFinite {
                source_name: dataset.source.display().to_string(),
                found: loss.nats,
                line: dataset.examples[last].line,
            });
        }
        observe(&EvaluateReport {
            done: last + 1,
            examples,
            loss,
        });
    }
    if loss.tokens == 0 {
        let source_name = dataset.source.display().to_string();
        return Err(EvaluateError::NoTargets { source_name });
    }
    Ok(loss)
}

/// Groups neighbouring examples into batches of at most `rows_max` tokens; a longer example has a batch of its own.
fn pack(examples: &[Example], rows_max: usize) -> Vec<Vec<usize>> {
    let mut packs: Vec<Vec<usize>> = Vec::new();
    let mut rows = rows_max;
    for (index, example) in examples.iter().enumerate() {
        let length = example.tokens.len();
        match packs.last_mut() {
            Some(pack) if rows + length <= rows_max => {
                pack.push(index);
                rows += length;
            }
            _ => {
                packs.push(vec![index]);
                rows = length;
            }
        }
    }
    packs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::Batch, train::fixture};

    #[test]
    fn perplexity_is_weighted_by_token() {
        // Ten tokens at 2 nats and one at 4; the mean of the perplexities would be 30.99, of the means 20.09.
        let mut loss = LossSum {
            nats: 20.0,
            tokens: 10,
        };
        loss.add(LossSum {
            nats: 4.0,
            tokens: 1,
        });
        assert!((loss.perplexity() - 8.862_405).abs() < 1e-6);
    }

    #[test]
    fn packs_keep_order_and_budget() {
        let example = |length| Example {
            tokens: vec![0; length],
            response: vec![true; length],
            line: 1,
        };
        let examples = [3, 4, 5, 20, 1, 9].map(example);
        assert_eq!(
            pack(&examples, 10),
            [vec![0, 1], vec![2], vec![3], vec![4, 5]]
        );
        assert!(pack(&[], 10).is_empty());
    }

    #[test]
    fn packed_loss_is_the_sum_of_the_single_ones() {
        let base = fixture::base();
        let texts = fixture::texts(&base);
        let mut seen = Vec::new();
        let mut observe = |report: &EvaluateReport| seen.push(report.done);
        let packed = evaluate(&base, None, &texts, &mut observe).unwrap();
        let mut single = LossSum {
            nats: 0.0,
            tokens: 0,
        };
        for index in 0..texts.examples.len() {
            single.add(base.llama.loss(&texts.batch(&[index]), None).unwrap());
        }
        assert_eq!(packed.tokens, single.tokens);
        assert!((packed.nats - single.nats).abs() < 1e-4 * single.nats);
        assert_eq!(seen.last(), Some(&6));
    }

    #[test]
    fn fresh_adapter_changes_nothing() {
        let base = fixture::base();
        let texts = fixture::texts(&base);
        let fresh = fixture::adapter(&base);
        let with = evaluate(&base, Some(&fresh), &texts, &mut |_| {}).unwrap();
        let without = evaluate(&base, None, &texts, &mut |_| {}).unwrap();
        assert_eq!(with, without);
    }

    #[test]
    fn text_without_targets_is_named() {
        let base = fixture::base();
        let mut data = (*fixture::texts(&base)).clone();
        data.examples
            .iter_mut()
            .for_each(|example| example.response.fill(false));
        assert!(matches!(data.batch(&[0]), Batch { targets, .. } if targets.is_empty()));
        let error = evaluate(&base, None, &data, &mut |_| {}).unwrap_err();
        assert_eq!(
            error.to_string(),
            "texts.jsonl holds no response token to evaluate on"
        );
    }
}
