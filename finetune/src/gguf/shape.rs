//! The decoder's configuration from GGUF metadata.

use super::header::Header;
use crate::config::{Architecture, LlamaConfig, RopeScaling};
use crate::error::LoadError;
use std::path::Path;

pub(super) fn config(header: &Header, file: &[u8], path: &Path) -> Result<LlamaConfig, LoadError> {
    let name = header
        .text("general.architecture")
        .ok_or_else(|| LoadError::damaged(path, "metadata general.architecture is missing"))?;
    let architecture = match name {
        "llama" => Architecture::Llama,
        "qwen2" => Architecture::Qwen2,
        _ => {
            return Err(LoadError::unsupported(
                path,
                format!("architecture {name:?}; llama and qwen2 are"),
            ));
        }
    };
    let keys = Keys { header, name, path };
    let heads = keys.size("attention.head_count")?;
    let hidden_size = keys.size("embedding_length")?;
    let head_dim = match keys.optional("attention.key_length") {
        Some(length) => length,
        None => hidden_size
            .checked_div(heads)
            .ok_or_else(|| LoadError::damaged(path, "attention.head_count is 0"))?,
    };
    keys.refuse_unsupported(head_dim)?;
    LlamaConfig {
        architecture,
        vocab_size: vocab_size(&keys)?,
        hidden_size,
        intermediate_size: keys.size("feed_forward_length")?,
        num_hidden_layers: keys.size("block_count")?,
        num_attention_heads: heads,
        num_key_value_heads: keys.optional("attention.head_count_kv").unwrap_or(heads),
        head_dim,
        rms_norm_eps: keys
            .number("attention.layer_norm_rms_epsilon")
            .unwrap_or(1e-5),
        rope_theta: keys.number("rope.freq_base").unwrap_or(10_000.0),
        rope_scaling: rope_scaling(&keys, file)?,
        max_position_embeddings: context_length(&keys)?,
        tie_word_embeddings: !header.tensors.contains_key("output.weight"),
        attention_bias: architecture == Architecture::Qwen2,
        bos_token_id: special_token(header, "bos"),
        eos_token_ids: ["eos", "eot", "eom"]
            .iter()
            .filter_map(|kind| special_token(header, kind))
            .fold(Vec::new(), |mut ids, id| {
                if !ids.contains(&id) {
                    ids.push(id);
                }
                ids
            }),
    }
    .check(path)
}

/// The id of a special token, if the metadata names one.
pub(crate) fn special_token(header: &Header, kind: &str) -> Option<u32> {
    let id = header.integer(&format!("tokenizer.ggml.{kind}_token_id"))?;
    u32::try_from(id).ok()
}

/// Metadata of one architecture.
struct Keys<'a> {
    header: &'a Header,
    name: &'a str,
    path: &'a Path,
}

impl Keys<'_> {
    fn key(&self, rest: &str) -> String {
        format!("{}.{rest}", self.name)
    }

    fn optional(&self, rest: &str) -> Option<usize> {
        self.header.size(&self.key(rest))
    }

    fn size(&self, rest: &str) -> Result<usize, LoadError> {
        self.optional(rest).ok_or_else(|| {
            LoadError::damaged(
                self.path,
                format!("metadata {} is missing or no size", self.key(rest)),
            )
        })
    }

    fn number(&self, rest: &str) -> Option<f64> {
        // An f32 such as 1e-5 is meant as the decimal that it prints as.
        let value = self.header.number(&self.key(rest))?;
        format!("{}", value as f32).parse().ok()
    }

    fn refuse_unsupported(&self, head_dim: usize) -> Result<(), LoadError> {
        let refuse = |what: &str| Err(LoadError::unsupported(self.path, what));
        if self.optional("expert_count").is_some_and(|count| count > 0) {
            return refuse("a mixture of experts; use a dense model");
        }
        if self
            .optional("rope.dimension_count")
            .is_some_and(|width| width != head_dim)
        {
            return refuse("rotary embedding of a part of each head");
        }
        if self
            .optional("attention.value_length")
            .is_some_and(|width| width != head_dim)
        {
            return refuse("value heads wider or narrower than key heads");
        }
        if self.name == "llama" && self.header.tensors.contains_key("blk.0.attn_q.bias") {
            return refuse("attention biases in architecture llama");
        }
        Ok(())
    }
}

fn vocab_size(keys: &Keys<'_>) -> Result<usize, LoadError> {
    let embedding = keys
        .header
        .tensors
        .get("token_embd.weight")
        .ok_or_else(|| LoadError::MissingTensor {
            path: keys.path.to_owned(),
            name: "token_embd.weight".to_owned(),
        })?;
    embedding
        .dimensions
        .get(1)
        .copied()
        .ok_or_else(|| LoadError::damaged(keys.path, "tensor token_embd.weight has one dimension"))
}

/// Within its window, sliding attention is plain causal attention.
fn context_length(keys: &Keys<'_>) -> Result<usize, LoadError> {
    let context = keys.size("context_length")?;
    Ok(match keys.optional("attention.sliding_window") {
        Some(window) if window > 0 => context.min(window),
        _ => context,
    })
}

/// Llama 3.x files carry one divisor a frequency as a tensor; older stretched models a linear factor.
fn rope_scaling(keys: &Keys<'_>, file: &[u8]) -> Result<Option<RopeScaling>, LoadError> {
    if let Some(place) = keys.header.tensors.get("rope_freqs.weight") {
        let factors = file
            .get(place.bytes.clone())
            .and_then(|bytes| place.format.widen(bytes))
            .ok_or_else(|| {
                LoadError::damaged(keys.path, "tensor rope_freqs.weight is unreadable")
            })?;
        return Ok(Some(RopeScaling::Factors(factors)));
    }
    let factor = keys.number("rope.scaling.factor");
    match (keys.header.text(&keys.key("rope.scaling.type")), factor) {
        (None | Some("none"), _) | (_, Some(1.0)) => Ok(None),
        (Some("linear"), Some(factor)) => Ok(Some(RopeScaling::Linear { factor })),
        (Some(kind), _) => Err(LoadError::unsupported(
            keys.path,
            format!("rope scaling {kind:?}; none, linear and per-frequency factors are"),
        )),
    }
}
