//! The shape of a Llama-family decoder: everything that the forward pass must know besides its weights.
//!
//! It is read from a `config.json` ([`LlamaConfig::from_json`]) or from GGUF metadata ([`crate::gguf`]). What the
//! forward pass does not do is refused here, with a sentence, and never ignored: a model that loads computes what
//! its authors meant. Field names follow Hugging Face's `LlamaConfig`.

use crate::error::LoadError;
use std::path::Path;

mod json;
#[cfg(test)]
mod tests;

/// The largest value of any dimension; above it a file is damaged or hostile.
const DIMENSION_MAX: usize = 1 << 24;

/// The families whose graph is the same up to biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 1, 2, 3.x, SmolLM, TinyLlama and relatives.
    Llama,
    /// Mistral; its sliding window becomes a limit of the context length.
    Mistral,
    /// Qwen2 and Qwen2.5: Llama with biases on the query, key and value projections.
    Qwen2,
}

impl Architecture {
    /// The `model_type` of Hugging Face.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
        }
    }
}

/// How rotary frequencies are stretched for contexts longer than those of pre-training.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Every frequency divided by `factor` (position interpolation).
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1 and later: low frequencies divided by `factor`, high ones kept, a ramp between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The context length of pre-training, in tokens.
        original_max_position_embeddings: usize,
    },
    /// One divisor a frequency, as GGUF files carry them in `rope_freqs.weight`.
    Factors(Vec<f32>),
}

/// The shape of one decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// The family.
    pub architecture: Architecture,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Added to the mean square inside RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Stretching of the rotary frequencies.
    pub rope_scaling: Option<RopeScaling>,
    /// Longest context in tokens, already cut to the sliding window where there is one.
    pub max_position_embeddings: usize,
    /// The output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// `q_proj`, `k_proj` and `v_proj` have a bias; `o_proj` never has.
    pub attention_bias: bool,
    /// Token that opens a text.
    pub bos_token_id: Option<u32>,
    /// Tokens that close a text.
    pub eos_token_ids: Vec<u32>,
}

impl LlamaConfig {
    /// Reads the text of a `config.json`; `path` is for the error message.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] for text that is not a model configuration, [`LoadError::Unsupported`] for one that asks
    /// for what the forward pass does not do.
    pub fn from_json(text: &str, path: &Path) -> Result<Self, LoadError> {
        json::parse(text, path)
    }

    /// Writes a `config.json` that Hugging Face transformers and [`Self::from_json`] read.
    pub fn to_json(&self) -> String {
        json::write(self)
    }

    /// The rotary frequency of each pair of a head, in radians a position, scaling included.
    ///
    /// # Shapes
    /// `head_dim / 2` values; pair `i` of the rotate-half form is elements `i` and `i + head_dim / 2`.
    pub fn inverse_frequencies(&self) -> Vec<f64> {
        let pairs = self.head_dim / 2;
        (0..pairs)
            .map(|pair| {
                let exponent = 2.0 * pair as f64 / self.head_dim as f64;
                let plain = self.rope_theta.powf(-exponent);
                match &self.rope_scaling {
                    None => plain,
                    Some(scaling) => scaling.scaled(plain, pair),
                }
            })
            .collect()
    }

    /// Checks what every decoder must satisfy, whatever file it came from.
    pub(crate) fn check(self, path: &Path) -> Result<Self, LoadError> {
        let dimensions = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (name, value) in dimensions {
            if value == 0 || value > DIMENSION_MAX {
                return Err(LoadError::damaged(
                    path,
                    format!("{name} is {value}, outside 1..={DIMENSION_MAX}"),
                ));
            }
        }
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return Err(LoadError::damaged(
                path,
                format!(
                    "num_attention_heads {} is not a multiple of num_key_value_heads {}",
                    self.num_attention_heads, self.num_key_value_heads
                ),
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(LoadError::damaged(
                path,
                format!("head_dim {} is odd", self.head_dim),
            ));
        }
        self.check_numbers(path)?;
        Ok(self)
    }

    fn check_numbers(&self, path: &Path) -> Result<(), LoadError> {
        for (name, value) in [
            ("rms_norm_eps", self.rms_norm_eps),
            ("rope_theta", self.rope_theta),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(LoadError::damaged(path, format!("{name} is {value}")));
            }
        }
        if self
            .inverse_frequencies()
            .iter()
            .any(|f| !(f.is_finite() && *f >= 0.0))
        {
            return Err(LoadError::damaged(
                path,
                "the rope scaling gives no finite frequencies",
            ));
        }
        if let Some(RopeScaling::Factors(factors)) = &self.rope_scaling
            && factors.len() != self.head_dim / 2
        {
            return Err(LoadError::damaged(
                path,
                format!(
                    "{} rope factors, but head_dim {} needs {}",
                    factors.len(),
                    self.head_dim,
                    self.head_dim / 2
                ),
            ));
        }
        Ok(())
    }
}

impl RopeScaling {
    /// One frequency after scaling; the Llama 3 rule is that of transformers' `_compute_llama3_parameters`.
    fn scaled(&self, frequency: f64, pair: usize) -> f64 {
        match self {
            Self::Linear { factor } => frequency / factor,
            Self::Factors(factors) => factors
                .get(pair)
                .map_or(frequency, |factor| frequency / f64::from(*factor)),
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => {
                let context = *original_max_position_embeddings as f64;
                let wavelength = std::f64::consts::TAU / frequency;
                if wavelength < context / high_freq_factor {
                    frequency
                } else if wavelength > context / low_freq_factor {
                    frequency / factor
                } else {
                    let ramp = (context / wavelength - low_freq_factor)
                        / (high_freq_factor - low_freq_factor);
                    (1.0 - ramp) * frequency / factor + ramp * frequency
                }
            }
        }
    }
}
