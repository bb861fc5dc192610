//! Forward over a few new tokens with the keys and values of earlier ones kept.

use burn::tensor::Tensor;

use super::{Branches, Llama, ModelError, Pass};
use crate::{
    device,
    generate_cache::KvCache,
    host,
    lora::LoraFactors,
    ops::{
        attention::{self, Span},
        rope::Angles,
    },
};

impl Llama {
    /// Feeds tokens after those that the cache holds and gives the logits after the last one.
    ///
    /// # Shapes
    /// `vocab_size` values.
    ///
    /// # Errors
    /// [`ModelError`] if a token is outside the vocabulary, the context is full, or the cache or the adapter is of
    /// another model; the cache is then unchanged.
    pub fn decode(
        &self,
        cache: &mut KvCache,
        tokens: &[u32],
        factors: Option<&LoraFactors>,
    ) -> Result<Vec<f32>, ModelError> {
        let pass = self.decode_pass(cache, tokens, factors)?;
        Ok(device::guarded(|| self.decoded(&pass, cache, tokens))?)
    }

    fn decoded(&self, pass: &Pass<'_>, cache: &mut KvCache, tokens: &[u32]) -> Vec<f32> {
        let mut x = self.embedding.gather(self.kernels, tokens);
        for (layer, block) in self.blocks.iter().enumerate() {
            let (_, mut inputs) = block.attention_inputs(pass, layer, &x);
            (inputs.k, inputs.v) = cache.extend(layer, inputs.k, inputs.v);
            let attended = attention::forward(self.kernels, &inputs, &pass.spans, block.heads);
            let mid = block.attention_output(pass, layer, &x, &attended.out);
            let (_, gate, up) = block.feed_inputs(pass, layer, &mid);
            x = block.feed_output(pass, layer, &mid, &gate, &up);
        }
        cache.advance(tokens.len());
        let last: Tensor<2> = x.narrow(0, tokens.len() - 1, 1);
        host::download(self.head_logits(&last))
    }

    fn decode_pass<'a>(
        &self,
        cache: &KvCache,
        tokens: &[u32],
        factors: Option<&'a LoraFactors>,
    ) -> Result<Pass<'a>, ModelError> {
        let (vocab_size, limit) = (self.config.vocab_size, self.config.max_position_embeddings);
        if cache.layers() != self.blocks.len() {
            return Err(ModelError::OtherCache {
                found: cache.layers(),
                expected: self.blocks.len(),
            });
        }
        let end = cache.tokens() + tokens.len();
        if end > limit {
            return Err(ModelError::TooLong { tokens: end, limit });
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(ModelError::Token { token, vocab_size });
        }
        if tokens.is_empty() {
            return Err(ModelError::NoTokens);
        }
        let positions: Vec<u32> = (cache.tokens() as u32..end as u32).collect();
        Ok(Pass {
            kernels: self.kernels,
            angles: Angles::new(&positions, &self.frequencies, &self.device),
            spans: vec![Span {
                queries: 0..tokens.len(),
                keys: 0..end,
            }],
            branches: Branches::new(&self.config, factors, None)?,
        })
    }
}
