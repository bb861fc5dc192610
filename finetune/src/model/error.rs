//! What a model refuses to compute.

use aggregation::AdapterError;

use crate::device::DeviceFailure;

/// A batch, an adapter or a cache that does not fit the model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A token is outside the vocabulary.
    #[error("token {token} is outside the model's vocabulary of {vocab_size}")]
    Token {
        /// The token.
        token: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// An example is longer than the model's context.
    #[error("an example has {tokens} tokens, but the model's context holds {limit}")]
    TooLong {
        /// Its length.
        tokens: usize,
        /// The context length.
        limit: usize,
    },
    /// The segments of a batch do not tile its rows.
    #[error("the batch's segments do not tile its rows: look at {start}..{end}")]
    Segments {
        /// First row of the offending range.
        start: usize,
        /// Its end.
        end: usize,
    },
    /// The targets of a batch are out of order or outside it.
    #[error("the batch's targets are not in strictly increasing order of its {rows} rows")]
    Targets {
        /// Rows of the batch.
        rows: usize,
    },
    /// The adapter names a module that no Llama decoder has.
    #[error("the adapter's module {module} is no linear layer of a Llama decoder")]
    UnknownModule {
        /// Its name.
        module: String,
    },
    /// The adapter was made for another model.
    #[error(
        "the adapter's module {module} is {found:?} ([in, out]), but the base model asks for {expected:?}"
    )]
    OtherModel {
        /// The module's name.
        module: String,
        /// Its input and output width.
        found: [usize; 2],
        /// The base model's; zeros for a layer that it does not have.
        expected: [usize; 2],
    },
    /// The LoRA configuration gives no adapter.
    #[error("the LoRA configuration does not fit the base model: {0}")]
    Layout(#[from] AdapterError),
    /// A cache of another model.
    #[error("the cache was made for a model of {found} layers, this one has {expected}")]
    OtherCache {
        /// Its layers.
        found: usize,
        /// The model's.
        expected: usize,
    },
    /// The device gave up in the middle.
    #[error(transparent)]
    Device(#[from] DeviceFailure),
    /// Nothing to decode.
    #[error("there is no token to decode")]
    NoTokens,
}
