//! The factored Fisher information of a base model on general text: the importances of an anchor.
//!
//! Per example and with labels sampled from the model itself, never the square of a batch's mean gradient (algorithms.md,
//! sections 2.1 and 2.2). Each example gives the exact row and column sums of its squared full-weight gradient;
//! `aggregation::ewc::FisherAccumulator` adds them up in f64 and scales them to one token.

use aggregation::ewc::{Anchor, AnchorError, FisherAccumulator};
use sha2::{Digest as _, Sha256};

use crate::{
    base::BaseModel, data::Dataset, error::LoadError, lora::LoraConfig, model::ModelError,
};

/// How far the computation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FisherReport {
    /// Examples done.
    pub done: usize,
    /// Examples in all.
    pub examples: usize,
    /// Tokens of the examples done.
    pub tokens: u64,
}

/// A Fisher computation that has no result.
#[derive(Debug, thiserror::Error)]
pub enum FisherError {
    /// There is nothing to compute on.
    #[error(
        "{source_name} holds no text with at least two tokens to compute the Fisher information on"
    )]
    NoExamples {
        /// Where the data set came from.
        source_name: String,
    },
    /// The target modules do not fit the base model.
    #[error(transparent)]
    Layout(#[from] LoadError),
    /// The sums are no Fisher information.
    #[error("the Fisher information cannot be used: {0}")]
    Anchor(#[from] AnchorError),
    /// The model could not compute.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Computes the importances of a base model's adapted projections on a data set of general text.
///
/// Every example counts whole, whatever its response mask says: the anchor is about the text and not about a task. The
/// sampled labels follow from `seed` and the data set, so the anchor can be made again and compared.
///
/// # Errors
/// [`FisherError::NoExamples`] if no example has two tokens.
pub fn fisher(
    base: &BaseModel,
    lora: &LoraConfig,
    dataset: &Dataset,
    seed: u64,
    observe: &mut dyn FnMut(&FisherReport),
) -> Result<Anchor, FisherError> {
    let layout = base.adapter_layout(lora)?;
    let mut accumulator = FisherAccumulator::new(&layout);
    let examples = dataset.examples.len();
    let mut tokens = 0;
    for (index, example) in dataset.examples.iter().enumerate() {
        // The first token has nothing before it to be predicted from.
        if example.tokens.len() > 1 {
            let seed = label_seed(seed, &dataset.digest, index);
            base.llama
                .fisher_example(&example.tokens, seed, lora, &mut accumulator)?;
            tokens += example.tokens.len() as u64 - 1;
        }
        observe(&FisherReport {
            done: index + 1,
            examples,
            tokens,
        });
    }
    if tokens == 0 {
        let source_name = dataset.source.display().to_string();
        return Err(FisherError::NoExamples { source_name });
    }
    Ok(accumulator.finish(base.fingerprint)?)
}

/// Derives the seed of one example's sampled labels.
fn label_seed(seed: u64, digest: &[u8; 32], index: usize) -> u64 {
    let hash: [u8; 32] = Sha256::new()
        .chain_update(b"foedus/fisher/1")
        .chain_update(seed.to_le_bytes())
        .chain_update(digest)
        .chain_update((index as u64).to_le_bytes())
        .finalize()
        .into();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::fixture;

    #[test]
    fn anchor_covers_every_module_and_repeats_itself() {
        let base = fixture::base();
        let texts = fixture::texts(&base);
        let mut reports = Vec::new();
        let mut make = |seed| {
            let mut observe = |report: &FisherReport| reports.push(*report);
            fisher(&base, &fixture::lora(), &texts, seed, &mut observe).unwrap()
        };
        let anchor = make(1);
        assert_eq!(anchor.sha256(), make(1).sha256());
        assert_ne!(anchor.sha256(), make(2).sha256());
        assert_eq!(anchor.modules.len(), 14);
        assert_eq!(
            (anchor.examples, anchor.base_fingerprint),
            (6, base.fingerprint)
        );
        let informed = |values: &[f32]| values.iter().any(|&value| value > 0.0);
        assert!(
            anchor
                .modules
                .values()
                .all(|module| informed(&module.u) && informed(&module.v))
        );
        assert_eq!(reports[5].done, 6);
        assert_eq!(reports[5].tokens, anchor.tokens);
    }

    #[test]
    fn texts_too_short_to_predict_are_named() {
        let base = fixture::base();
        let mut data = (*fixture::texts(&base)).clone();
        data.examples
            .iter_mut()
            .for_each(|example| example.tokens.truncate(1));
        let error = fisher(&base, &fixture::lora(), &data, 1, &mut |_| {}).unwrap_err();
        assert!(
            error.to_string().starts_with("texts.jsonl holds no text"),
            "{error}"
        );
    }
}
