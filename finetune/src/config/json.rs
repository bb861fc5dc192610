//! `config.json` of Hugging Face, both spellings of the rotary parameters, to and from [`LlamaConfig`].

use super::{Architecture, LlamaConfig, RopeScaling};
use crate::error::LoadError;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The fields that matter, as files spell them; absent and `null` are the same.
#[derive(Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Option<String>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Map<String, Value>>,
    rope_parameters: Option<Map<String, Value>>,
    partial_rotary_factor: Option<f64>,
    max_position_embeddings: Option<usize>,
    original_max_position_embeddings: Option<usize>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    quantization_config: Option<Value>,
    bos_token_id: Option<OneOrMany>,
    eos_token_id: Option<OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

pub(super) fn parse(text: &str, path: &Path) -> Result<LlamaConfig, LoadError> {
    let raw: RawConfig = serde_json::from_str(text)
        .map_err(|e| LoadError::damaged(path, format!("not a model configuration: {e}")))?;
    let architecture = architecture(raw.model_type.as_deref(), path)?;
    refuse_unsupported(&raw, architecture, path)?;
    let (rope_theta, rope_scaling) = rope(&raw, path)?;
    let head_dim = match raw.head_dim {
        Some(head_dim) => head_dim,
        None => raw
            .hidden_size
            .checked_div(raw.num_attention_heads)
            .ok_or_else(|| LoadError::damaged(path, "num_attention_heads is 0"))?,
    };
    LlamaConfig {
        architecture,
        vocab_size: raw.vocab_size,
        hidden_size: raw.hidden_size,
        intermediate_size: raw.intermediate_size,
        num_hidden_layers: raw.num_hidden_layers,
        num_attention_heads: raw.num_attention_heads,
        num_key_value_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
        head_dim,
        rms_norm_eps: raw.rms_norm_eps.unwrap_or(1e-6),
        rope_theta,
        rope_scaling,
        max_position_embeddings: context_length(&raw, architecture),
        tie_word_embeddings: raw.tie_word_embeddings.unwrap_or(false),
        attention_bias: architecture == Architecture::Qwen2,
        bos_token_id: raw
            .bos_token_id
            .and_then(|ids| ids.into_vec().first().copied()),
        eos_token_ids: raw.eos_token_id.map_or_else(Vec::new, OneOrMany::into_vec),
    }
    .check(path)
}

fn architecture(model_type: Option<&str>, path: &Path) -> Result<Architecture, LoadError> {
    match model_type {
        Some("llama") => Ok(Architecture::Llama),
        Some("mistral") => Ok(Architecture::Mistral),
        Some("qwen2") => Ok(Architecture::Qwen2),
        Some(other) => Err(LoadError::unsupported(
            path,
            format!("model_type {other:?}; llama, mistral and qwen2 are"),
        )),
        None => Err(LoadError::damaged(path, "model_type is missing")),
    }
}

fn refuse_unsupported(
    raw: &RawConfig,
    architecture: Architecture,
    path: &Path,
) -> Result<(), LoadError> {
    let refuse = |what: String| Err(LoadError::unsupported(path, what));
    if let Some(activation) = raw.hidden_act.as_deref()
        && !matches!(activation, "silu" | "swish")
    {
        return refuse(format!("hidden_act {activation:?}; only silu is"));
    }
    if raw.mlp_bias == Some(true) {
        return refuse("mlp_bias = true; use a model without feed-forward biases".to_owned());
    }
    if raw.attention_bias == Some(true) && architecture != Architecture::Qwen2 {
        return refuse(
            "attention_bias = true outside qwen2; use a model without attention biases".to_owned(),
        );
    }
    if raw
        .partial_rotary_factor
        .is_some_and(|factor| factor != 1.0)
    {
        return refuse("partial_rotary_factor other than 1".to_owned());
    }
    if raw.quantization_config.is_some() {
        return refuse(
            "quantization_config; use the unquantized checkpoint or a GGUF file".to_owned(),
        );
    }
    Ok(())
}

/// Within its window, sliding attention is plain causal attention: the window becomes the context length.
fn context_length(raw: &RawConfig, architecture: Architecture) -> usize {
    let (default, sliding) = match architecture {
        Architecture::Llama => (2048, false),
        Architecture::Mistral => (131_072, true),
        Architecture::Qwen2 => (32_768, raw.use_sliding_window == Some(true)),
    };
    let context = raw.max_position_embeddings.unwrap_or(default);
    match raw.sliding_window {
        Some(window) if sliding => context.min(window),
        _ => context,
    }
}

/// Reads `rope_theta` + `rope_scaling` (transformers 4) or `rope_parameters` (transformers 5).
fn rope(raw: &RawConfig, path: &Path) -> Result<(f64, Option<RopeScaling>), LoadError> {
    let parameters = raw.rope_parameters.as_ref();
    if let Some(factor) = parameters.and_then(|p| p.get("partial_rotary_factor"))
        && factor.as_f64() != Some(1.0)
    {
        return Err(LoadError::unsupported(
            path,
            "partial_rotary_factor other than 1",
        ));
    }
    let theta = match parameters.and_then(|p| p.get("rope_theta")) {
        Some(theta) => theta.as_f64().ok_or_else(|| {
            LoadError::damaged(path, "rope_parameters.rope_theta is not a number")
        })?,
        None => raw.rope_theta.unwrap_or(10_000.0),
    };
    let scaling = match parameters.or(raw.rope_scaling.as_ref()) {
        None => None,
        Some(table) => scaling(table, raw, path)?,
    };
    Ok((theta, scaling))
}

fn scaling(
    table: &Map<String, Value>,
    raw: &RawConfig,
    path: &Path,
) -> Result<Option<RopeScaling>, LoadError> {
    let number = |name: &str| {
        table
            .get(name)
            .and_then(Value::as_f64)
            .filter(|value| value.is_finite() && *value > 0.0)
            .ok_or_else(|| LoadError::damaged(path, format!("rope scaling lacks {name}")))
    };
    let kind = table
        .get("rope_type")
        .or_else(|| table.get("type"))
        .and_then(Value::as_str);
    match kind {
        None | Some("default") => Ok(None),
        Some("linear") => Ok(Some(RopeScaling::Linear {
            factor: number("factor")?,
        })),
        Some("llama3") => {
            let original = table
                .get("original_max_position_embeddings")
                .and_then(Value::as_u64)
                .and_then(|value| usize::try_from(value).ok())
                .or(raw.original_max_position_embeddings)
                .ok_or_else(|| {
                    LoadError::damaged(
                        path,
                        "rope scaling llama3 lacks original_max_position_embeddings",
                    )
                })?;
            Ok(Some(RopeScaling::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_max_position_embeddings: original,
            }))
        }
        Some(other) => Err(LoadError::unsupported(
            path,
            format!("rope scaling {other:?}; default, linear and llama3 are"),
        )),
    }
}

pub(super) fn write(config: &LlamaConfig) -> String {
    let architecture = match config.architecture {
        Architecture::Llama => "LlamaForCausalLM",
        Architecture::Mistral => "MistralForCausalLM",
        Architecture::Qwen2 => "Qwen2ForCausalLM",
    };
    let scaling = match &config.rope_scaling {
        // Factors exist only in GGUF files, and those are never written as a folder.
        None | Some(RopeScaling::Factors(_)) => Value::Null,
        Some(RopeScaling::Linear { factor }) => json!({"rope_type": "linear", "factor": factor}),
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        }) => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_position_embeddings,
        }),
    };
    let value = json!({
        "architectures": [architecture],
        "model_type": config.architecture.name(),
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling,
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_ids,
        "torch_dtype": "float32",
    });
    format!("{value:#}\n")
}
