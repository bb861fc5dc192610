//! Keys and values of the tokens that generation has already seen.

use burn::tensor::Tensor;

use crate::config::LlamaConfig;

/// The cache of one text; for [`crate::model::Llama::decode`].
#[derive(Debug)]
pub struct KvCache {
    /// Rotated keys and values of each layer, `[tokens, key heads * width]`.
    layers: Vec<Option<[Tensor<2>; 2]>>,
    tokens: usize,
}

impl KvCache {
    /// Makes an empty cache.
    pub fn new(config: &LlamaConfig) -> Self {
        Self {
            layers: vec![None; config.num_hidden_layers],
            tokens: 0,
        }
    }

    /// Tokens seen so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    pub(crate) fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Adds the keys and values of new tokens to a layer and gives all of them.
    pub(crate) fn extend(
        &mut self,
        layer: usize,
        keys: Tensor<2>,
        values: Tensor<2>,
    ) -> (Tensor<2>, Tensor<2>) {
        let [keys, values] = match self.layers[layer].take() {
            None => [keys, values],
            Some([k, v]) => [
                Tensor::cat(vec![k, keys], 0),
                Tensor::cat(vec![v, values], 0),
            ],
        };
        self.layers[layer] = Some([keys.clone(), values.clone()]);
        (keys, values)
    }

    /// Counts tokens that all layers now hold.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.tokens += tokens;
    }
}
