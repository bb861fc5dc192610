//! The adapted decoder: explicit forward and backward of a frozen Llama with LoRA factors.
//!
//! Frozen weights get no gradient, the composed weight `W + s B A` is never formed, and backward ends at the lowest
//! adapted layer. This is not a general module system: it is one graph (Llama 1 to 3.x, Mistral, Qwen2), written out.
//! Operations are in `ops`; what a block keeps between forward and backward is in `block`.

use std::ops::Range;

use aggregation::Adapter;
use burn::tensor::{Device, Tensor};

use crate::{
    batch::Batch,
    config::LlamaConfig,
    device,
    error::LoadError,
    host::{self, Kernels},
    lora::LoraFactors,
    ops::{
        attention::Span,
        cross_entropy::{self, Want},
        frozen::Frozen,
        rms_norm,
        rope::Angles,
        rows,
    },
    precision::BasePrecision,
    weights::WeightSource,
};

mod block;
mod branches;
mod checkpointing;
mod decode;
mod error;
mod first_inputs;
mod fisher;
mod gradient;
mod load;
#[cfg(test)]
mod tests;

use block::{Block, Pass, Saved, Visitor};
use branches::Branches;
use checkpointing::Kept;
pub use checkpointing::{Checkpointing, UnknownCheckpointing};
pub use error::ModelError;

/// A sum of losses over predicted tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSum {
    /// Sum of `-ln p(token)`.
    pub nats: f64,
    /// Number of predicted tokens.
    pub tokens: u64,
}

impl LossSum {
    /// The sum of these losses, one a predicted token.
    fn of(nats: &[f64]) -> Self {
        Self {
            nats: nats.iter().sum(),
            tokens: nats.len() as u64,
        }
    }

    /// Nats a token; NaN without tokens.
    pub fn mean(&self) -> f64 {
        self.nats / self.tokens as f64
    }

    /// `e` to the mean.
    pub fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    /// Adds another sum.
    pub fn add(&mut self, other: Self) {
        self.nats += other.nats;
        self.tokens += other.tokens;
    }
}

/// LoRA dropout of one pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout<'a> {
    /// Share of values set to zero, in `0..1`.
    pub rate: f64,
    /// What the masks follow from; another pass takes others.
    pub seeds: MaskSeeds<'a>,
}

/// What dropout masks follow from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaskSeeds<'a> {
    /// One seed for all: a value's mask follows from it and from the value's place in the batch.
    Batch(u64),
    /// One seed for each example: a value's mask follows from it and from the value's place in the example, and from nothing else
    /// that the batch holds.
    Examples(&'a [u64]),
}

impl MaskSeeds<'_> {
    /// The seeds, each with the row that it begins to hold at.
    fn by_first_row(self, batch: &Batch) -> Vec<(usize, u64)> {
        match self {
            Self::Batch(seed) => vec![(0, seed)],
            Self::Examples(seeds) => {
                assert_eq!(
                    seeds.len(),
                    batch.segments.len(),
                    "every example has its seed"
                );
                let rows = batch.segments.iter().map(|rows| rows.start);
                rows.zip(seeds.iter().copied()).collect()
            }
        }
    }
}

/// How one forward and backward pass is made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PassOptions<'a> {
    /// LoRA dropout, if any.
    pub dropout: Option<Dropout<'a>>,
    /// What forward keeps for backward; it changes memory and time, never the result.
    pub checkpointing: Checkpointing,
}

/// A frozen base model on one device.
#[derive(Debug)]
pub struct Llama {
    config: LlamaConfig,
    device: Device,
    kernels: Kernels,
    /// Never `Auto`.
    precision: BasePrecision,
    /// Rotary frequencies, scaling included.
    frequencies: Vec<f64>,
    /// `[vocabulary, hidden]`.
    embedding: Frozen,
    blocks: Vec<Block>,
    /// `[1, hidden]`.
    norm: Tensor<2>,
    /// `[vocabulary, hidden]`; the embedding itself where they are tied.
    head: Frozen,
}

impl Llama {
    /// Brings the weights to a device in the form they are kept in, one tensor at a time.
    ///
    /// # Errors
    /// [`LoadError`] if a tensor is missing, of another shape or unreadable.
    pub fn from_weights(
        source: &dyn WeightSource,
        device: &Device,
        precision: BasePrecision,
    ) -> Result<Self, LoadError> {
        load::load(source, device, precision, Kernels::of(device))
    }

    /// The shape of the decoder.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How the frozen weights are kept; never [`BasePrecision::Auto`].
    pub fn precision(&self) -> BasePrecision {
        self.precision
    }

    /// The loss of a batch, without dropout.
    ///
    /// # Errors
    /// [`ModelError`] if the batch or the adapter does not fit the model.
    pub fn loss(
        &self,
        batch: &Batch,
        factors: Option<&LoraFactors>,
    ) -> Result<LossSum, ModelError> {
        self.check(batch)?;
        if batch.targets.is_empty() {
            return Ok(LossSum::default());
        }
        let pass = self.pass(batch, Branches::new(&self.config, factors, None)?);
        Ok(device::guarded(|| {
            let hidden = self.hidden(batch, &pass);
            LossSum::of(&self.head_loss(batch, &hidden, Want::Loss).0)
        })?)
    }

    /// The loss of a batch and its gradient with respect to `A` and `B`.
    ///
    /// The gradient is that of the SUM of nats, so that micro-batches add up; divide by the tokens of the whole step.
    ///
    /// # Errors
    /// [`ModelError`] if the batch or the adapter does not fit the model.
    ///
    /// # Panics
    /// If there is a seed for each example, but not for every one: a caller's mistake.
    pub fn loss_and_gradient(
        &self,
        batch: &Batch,
        factors: &LoraFactors,
        options: PassOptions<'_>,
    ) -> Result<(LossSum, Adapter), ModelError> {
        let all = 0..batch.tokens.len();
        let mut found = self.gradients(batch, factors, options, std::slice::from_ref(&all))?;
        Ok(found.pop().expect("one group of rows has one gradient"))
    }

    /// For each example of a batch its own sum of nats and the gradient of that.
    ///
    /// Rows of different examples never meet, so one whose numbers overflow spoils no other. The gradients are all in memory at once:
    /// an adapter for every example.
    ///
    /// # Errors
    /// [`ModelError`] if the batch or the adapter does not fit the model.
    ///
    /// # Panics
    /// As [`Self::loss_and_gradient`].
    pub fn loss_and_example_gradients(
        &self,
        batch: &Batch,
        factors: &LoraFactors,
        options: PassOptions<'_>,
    ) -> Result<Vec<(LossSum, Adapter)>, ModelError> {
        self.gradients(batch, factors, options, &batch.segments)
    }

    /// The logits of every row.
    ///
    /// # Shapes
    /// `[rows, vocab_size]`, row-major: large; for training and evaluation use [`Self::loss`].
    ///
    /// # Errors
    /// [`ModelError`] if the batch or the adapter does not fit the model.
    pub fn logits(
        &self,
        batch: &Batch,
        factors: Option<&LoraFactors>,
    ) -> Result<Vec<f32>, ModelError> {
        self.check(batch)?;
        let pass = self.pass(batch, Branches::new(&self.config, factors, None)?);
        Ok(device::guarded(|| {
            let hidden = self.hidden(batch, &pass);
            host::download(self.head_logits(&hidden))
        })?)
    }

    fn check(&self, batch: &Batch) -> Result<(), ModelError> {
        batch.check(self.config.vocab_size, self.config.max_position_embeddings)
    }

    /// What all blocks of one pass over a batch share.
    fn pass<'a>(&self, batch: &Batch, branches: Branches<'a>) -> Pass<'a> {
        let spans = batch.segments.iter();
        let spans = spans
            .map(|rows| Span {
                queries: rows.clone(),
                keys: rows.clone(),
            })
            .collect();
        let angles = Angles::new(&batch.positions(), &self.frequencies, &self.device);
        Pass {
            kernels: self.kernels,
            angles,
            spans,
            branches,
        }
    }

    /// The residual stream after the last block.
    fn hidden(&self, batch: &Batch, pass: &Pass<'_>) -> Tensor<2> {
        let x = self.embedding.gather(self.kernels, &batch.tokens);
        self.through(0..self.blocks.len(), pass, x, &mut |_| ())
    }

    /// The residual stream after some blocks; `each` sees the state of every one.
    fn through(
        &self,
        layers: Range<usize>,
        pass: &Pass<'_>,
        mut x: Tensor<2>,
        each: &mut dyn FnMut(Saved),
    ) -> Tensor<2> {
        for layer in layers {
            let (out, saved) = self.blocks[layer].forward(pass, layer, x);
            each(saved);
            x = out;
        }
        x
    }

    fn head_logits(&self, hidden: &Tensor<2>) -> Tensor<2> {
        let inverse = rms_norm::inverse(self.kernels, hidden, self.config.rms_norm_eps);
        let normed = rms_norm::apply(self.kernels, hidden, &inverse, &self.norm);
        self.head.forward(self.kernels, &normed)
    }

    /// The loss of each row that has a target, and the gradient of the residual stream if wanted.
    fn head_loss(
        &self,
        batch: &Batch,
        hidden: &Tensor<2>,
        want: Want,
    ) -> (Vec<f64>, Option<Tensor<2>>) {
        let asked: Vec<u32> = batch.targets.iter().map(|target| target.row).collect();
        let tokens: Vec<u32> = batch.targets.iter().map(|target| target.token).collect();
        let x = rows::gather(self.kernels, hidden, &asked);
        let inverse = rms_norm::inverse(self.kernels, &x, self.config.rms_norm_eps);
        let normed = rms_norm::apply(self.kernels, &x, &inverse, &self.norm);
        let (nats, gradient) =
            cross_entropy::loss(self.kernels, &normed, &self.head, &tokens, want);
        let gradient = gradient.map(|dy| {
            let dx = rms_norm::backward(self.kernels, &dy, &x, &inverse, &self.norm);
            rows::scatter(self.kernels, dx, &asked, batch.tokens.len())
        });
        (nats, gradient)
    }

    /// Forward, then backward with every wanted projection's input and output gradient shown to the visitor. Gives the nats of
    /// each target.
    fn forward_backward(
        &self,
        batch: &Batch,
        pass: &Pass<'_>,
        checkpointing: Checkpointing,
        visitor: &mut dyn Visitor,
    ) -> Vec<f64> {
        let lowest = visitor.sites().iter().map(|site| site.layer).min();
        let first_kept = lowest.unwrap_or(self.blocks.len());
        let x = self.embedding.gather(self.kernels, &batch.tokens);
        let x = self.through(0..first_kept, pass, x, &mut |_| ());
        let mut kept = Vec::new();
        let hidden = self.through(first_kept..self.blocks.len(), pass, x, &mut |saved| {
            kept.push(Kept::new(saved, checkpointing));
        });
        let (nats, gradient) = self.head_loss(batch, &hidden, Want::LossAndGradient);
        drop(hidden);
        let (Some(lowest), Some(mut dx)) = (lowest, gradient) else {
            return nats;
        };
        for layer in (lowest..self.blocks.len()).rev() {
            let block = &self.blocks[layer];
            let kept = kept
                .pop()
                .expect("every block from the lowest on kept something");
            let saved = kept.state(block, pass, layer);
            match block.backward(pass, layer, saved, dx, visitor, layer == lowest) {
                Some(below) => dx = below,
                None => break,
            }
        }
        nats
    }
}
