//! LoRA adapters as the engine sees them: which projections, and the two factors of each on the device.
//!
//! `y = x W^T + s (x A^T) B^T` with `s = alpha / rank`, or `alpha / sqrt(rank)` for rsLoRA (Hu et al. 2021, arXiv
//! 2106.09685; Kalajdzievski 2023, arXiv 2312.03732). The numbers themselves are [`aggregation::Adapter`].

use std::{fmt, str::FromStr};

use aggregation::{Adapter, AdapterError, AdapterLayout, ModuleLayout};
use burn::tensor::{Device, Tensor};

use crate::{config::LlamaConfig, host, model::ModelError};

/// A linear layer of a decoder block that can carry an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Projection {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention output.
    O,
    /// The gate of the feed-forward block.
    Gate,
    /// Its other half.
    Up,
    /// Its output.
    Down,
}

impl Projection {
    /// All of them, in the canonical order of adapter files.
    pub const ALL: [Self; 7] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The name in PEFT's `target_modules`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// The module's Hugging Face name in a layer: `model.layers.0.self_attn.q_proj`.
    pub fn module(self, layer: usize) -> String {
        let block = match self {
            Self::Q | Self::K | Self::V | Self::O => "self_attn",
            Self::Gate | Self::Up | Self::Down => "mlp",
        };
        format!("model.layers.{layer}.{block}.{}", self.name())
    }

    /// Input and output width.
    pub fn widths(self, config: &LlamaConfig) -> (usize, usize) {
        let hidden = config.hidden_size;
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        match self {
            Self::Q => (hidden, queries),
            Self::K | Self::V => (hidden, keys),
            Self::O => (queries, hidden),
            Self::Gate | Self::Up => (hidden, config.intermediate_size),
            Self::Down => (config.intermediate_size, hidden),
        }
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no projection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is no projection: write q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj or down_proj"
)]
pub struct UnknownProjection {
    /// What was written.
    pub found: String,
}

impl FromStr for Projection {
    type Err = UnknownProjection;

    fn from_str(text: &str) -> Result<Self, UnknownProjection> {
        Self::ALL
            .into_iter()
            .find(|projection| projection.name() == text)
            .ok_or_else(|| UnknownProjection {
                found: text.to_owned(),
            })
    }
}

/// What an adapter looks like, before any model is known.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// Rank of every module.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Share of the adapter's inputs set to zero in training.
    pub dropout: f64,
    /// Divide the scale by the root of the rank instead of the rank.
    pub rslora: bool,
    /// The adapted projections of every layer.
    pub target_modules: Vec<Projection>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.1,
            rslora: false,
            target_modules: vec![Projection::Q, Projection::V],
        }
    }
}

impl LoraConfig {
    /// Lays the adapter out for a model: by layer, and within a layer in the order of [`Projection::ALL`].
    ///
    /// # Errors
    /// [`AdapterError`] for a rank, alpha or set of modules that is none.
    pub fn layout(&self, config: &LlamaConfig) -> Result<AdapterLayout, AdapterError> {
        let mut modules = Vec::new();
        for layer in 0..config.num_hidden_layers {
            for projection in Projection::ALL {
                if self.target_modules.contains(&projection) {
                    let (in_features, out_features) = projection.widths(config);
                    let name = projection.module(layer);
                    modules.push(ModuleLayout {
                        name,
                        in_features,
                        out_features,
                    });
                }
            }
        }
        AdapterLayout::new(self.rank, self.alpha, self.rslora, modules)
    }
}

/// Where a module of a layout sits in the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) layer: usize,
    pub(crate) projection: Projection,
}

impl Site {
    /// Reads a Hugging Face module name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let layer = layer.parse().ok()?;
        let projection = rest.rsplit_once('.')?.1.parse::<Projection>().ok()?;
        (projection.module(layer) == name).then_some(Self { layer, projection })
    }
}

/// The factors of one module on the device.
#[derive(Clone, Debug)]
pub(crate) struct Factors {
    pub(crate) site: Site,
    /// `[rank, in]`.
    pub(crate) a: Tensor<2>,
    /// `[out, rank]`.
    pub(crate) b: Tensor<2>,
}

/// An adapter on the device, ready for forward and backward.
#[derive(Clone, Debug)]
pub struct LoraFactors {
    layout: std::sync::Arc<AdapterLayout>,
    pub(crate) modules: Vec<Factors>,
}

impl LoraFactors {
    /// Copies an adapter to a device.
    ///
    /// # Errors
    /// [`ModelError::UnknownModule`] if a module's name is none of a Llama decoder.
    pub fn upload(adapter: &Adapter, device: &Device) -> Result<Self, ModelError> {
        let layout = std::sync::Arc::clone(adapter.layout());
        let rank = layout.rank();
        let mut modules = Vec::with_capacity(layout.modules().len());
        for (index, module) in layout.modules().iter().enumerate() {
            let site = Site::parse(&module.name).ok_or_else(|| ModelError::UnknownModule {
                module: module.name.clone(),
            })?;
            let a = adapter.a(index).to_vec();
            let b = adapter.b(index).to_vec();
            modules.push(Factors {
                site,
                a: host::upload(a, [rank, module.in_features], device),
                b: host::upload(b, [module.out_features, rank], device),
            });
        }
        Ok(Self { layout, modules })
    }

    /// The layout of the adapter that was uploaded.
    pub fn layout(&self) -> &std::sync::Arc<AdapterLayout> {
        &self.layout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_name_is_read_back_to_its_site() {
        for projection in Projection::ALL {
            let site = Site::parse(&projection.module(12)).unwrap();
            assert_eq!(
                site,
                Site {
                    layer: 12,
                    projection
                }
            );
        }
        for wrong in [
            "model.layers.0.mlp.q_proj",
            "model.layers.x.self_attn.q_proj",
            "lm_head",
        ] {
            assert_eq!(Site::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_unknown_projection_is_named() {
        let refused = "qkv_proj".parse::<Projection>().unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("\"qkv_proj\" is no projection")
        );
    }
}
