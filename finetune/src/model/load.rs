//! Building a model from a weight source.

use burn::tensor::{Device, Tensor};

use super::{Block, Llama};
use crate::{
    config::LlamaConfig,
    error::LoadError,
    host::{self, Kernels},
    lora::Projection,
    ops::{attention::Heads, frozen::Frozen, linear::Linear},
    precision::BasePrecision,
    weights::WeightSource,
};

struct Loader<'a> {
    source: &'a dyn WeightSource,
    device: &'a Device,
    precision: BasePrecision,
    kernels: Kernels,
}

pub(super) fn load(
    source: &dyn WeightSource,
    device: &Device,
    precision: BasePrecision,
    kernels: Kernels,
) -> Result<Llama, LoadError> {
    let config = source.config().clone();
    let loader = Loader {
        source,
        device,
        precision: precision.for_kernels(kernels),
        kernels,
    };
    let shape = [config.vocab_size, config.hidden_size];
    let embedding = loader.embedding("model.embed_tokens.weight", shape)?;
    let head = if config.tie_word_embeddings {
        embedding.clone()
    } else {
        loader.embedding("lm_head.weight", shape)?
    };
    let blocks = (0..config.num_hidden_layers)
        .map(|layer| loader.block(&config, layer))
        .collect::<Result<_, _>>()?;
    Ok(Llama {
        precision: loader.precision,
        norm: loader.vector("model.norm.weight", config.hidden_size)?,
        device: device.clone(),
        kernels,
        frequencies: config.inverse_frequencies(),
        embedding,
        blocks,
        head,
        config,
    })
}

impl Loader<'_> {
    fn matrix(
        &self,
        name: &str,
        shape: [usize; 2],
        precision: BasePrecision,
    ) -> Result<Frozen, LoadError> {
        let values = self.source.tensor(name, &shape)?;
        Ok(Frozen::new(
            values,
            shape,
            precision,
            self.kernels,
            self.device,
        ))
    }

    fn embedding(&self, name: &str, shape: [usize; 2]) -> Result<Frozen, LoadError> {
        self.matrix(name, shape, self.precision.for_embedding())
    }

    fn vector(&self, name: &str, width: usize) -> Result<Tensor<2>, LoadError> {
        Ok(host::upload(
            self.source.tensor(name, &[width])?,
            [1, width],
            self.device,
        ))
    }

    fn linear(
        &self,
        config: &LlamaConfig,
        layer: usize,
        projection: Projection,
    ) -> Result<Linear, LoadError> {
        let module = projection.module(layer);
        let (inputs, outputs) = projection.widths(config);
        let weight = self.matrix(
            &format!("{module}.weight"),
            [outputs, inputs],
            self.precision,
        )?;
        let biased = matches!(projection, Projection::Q | Projection::K | Projection::V);
        let bias = (config.attention_bias && biased)
            .then(|| self.vector(&format!("{module}.bias"), outputs))
            .transpose()?;
        Ok(Linear { weight, bias })
    }

    fn block(&self, config: &LlamaConfig, layer: usize) -> Result<Block, LoadError> {
        let linear = |projection| self.linear(config, layer, projection);
        let norm = |name: &str| {
            self.vector(
                &format!("model.layers.{layer}.{name}.weight"),
                config.hidden_size,
            )
        };
        let [q, k, v, o, gate, up, down] = Projection::ALL;
        Ok(Block {
            attention_norm: norm("input_layernorm")?,
            feed_norm: norm("post_attention_layernorm")?,
            projections: [
                linear(q)?,
                linear(k)?,
                linear(v)?,
                linear(o)?,
                linear(gate)?,
                linear(up)?,
                linear(down)?,
            ],
            heads: Heads {
                queries: config.num_attention_heads,
                keys: config.num_key_value_heads,
                width: config.head_dim,
            },
            eps: config.rms_norm_eps,
        })
    }
}
