//! What the first layer sees of single tokens, for audits: whoever holds the base model can compute it.

use super::{Llama, ModelError};
use crate::{batch::Batch, device, host, ops::rms_norm};

impl Llama {
    /// The input of the first layer's query, key and value projections for each token. It does not depend on the token's
    /// place: rotation comes after.
    ///
    /// # Shapes
    /// `[tokens.len(), hidden]`, row-major.
    ///
    /// # Errors
    /// [`ModelError`] if a token is not in the vocabulary.
    pub fn first_inputs(&self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        // Each token is a text of its own.
        let batch = Batch {
            tokens: tokens.to_vec(),
            segments: (0..tokens.len()).map(|row| row..row + 1).collect(),
            ..Batch::default()
        };
        self.check(&batch)?;
        let Some(block) = self.blocks.first() else {
            return Ok(Vec::new());
        };
        Ok(device::guarded(|| {
            let x = self.embedding.gather(self.kernels, tokens);
            let inverse = rms_norm::inverse(self.kernels, &x, block.eps);
            let normed = rms_norm::apply(self.kernels, &x, &inverse, &block.attention_norm);
            host::download(normed)
        })?)
    }
}
