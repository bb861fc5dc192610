//! Small random models, written in milliseconds, for tests and simulations; and the shapes of known ones.
//!
//! A written model is a Hugging Face folder like any other: configuration, safetensors, byte-level tokenizer, chat
//! template. Its weights are random, so it knows nothing; it can learn, which is what tests need.

use crate::config::{Architecture, LlamaConfig, RopeScaling};
use crate::error::LoadError;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use safetensors::tensor::{Dtype, TensorView};
use std::path::Path;

mod byte_tokenizer;
#[cfg(test)]
mod tests;

/// Tokens of the written tokenizer: 256 bytes and three special ones.
pub const VOCAB_SIZE: usize = 259;

/// The shape of the smallest model that exercises everything: two layers, grouped-query attention, tied embedding.
pub fn shape() -> LlamaConfig {
    LlamaConfig {
        architecture: Architecture::Llama,
        vocab_size: VOCAB_SIZE,
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 512,
        tie_word_embeddings: true,
        attention_bias: false,
        bos_token_id: Some(byte_tokenizer::START),
        eos_token_ids: vec![byte_tokenizer::END],
    }
}

/// The shape of SmolLM2-135M.
pub fn smollm2_135m() -> LlamaConfig {
    LlamaConfig {
        vocab_size: 49_152,
        hidden_size: 576,
        intermediate_size: 1536,
        num_hidden_layers: 30,
        num_attention_heads: 9,
        num_key_value_heads: 3,
        head_dim: 64,
        rope_theta: 100_000.0,
        max_position_embeddings: 8192,
        bos_token_id: Some(1),
        eos_token_ids: vec![2],
        ..shape()
    }
}

/// The shape of Llama 3.2 1B.
pub fn llama_3_2_1b() -> LlamaConfig {
    LlamaConfig {
        vocab_size: 128_256,
        hidden_size: 2048,
        intermediate_size: 8192,
        num_hidden_layers: 16,
        num_attention_heads: 32,
        num_key_value_heads: 8,
        head_dim: 64,
        rope_theta: 500_000.0,
        rope_scaling: Some(llama3_scaling(32.0)),
        max_position_embeddings: 131_072,
        bos_token_id: Some(128_000),
        eos_token_ids: vec![128_001, 128_008, 128_009],
        ..shape()
    }
}

/// The shape of Llama 3.1 8B.
pub fn llama_3_1_8b() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 4096,
        intermediate_size: 14_336,
        num_hidden_layers: 32,
        head_dim: 128,
        rope_scaling: Some(llama3_scaling(8.0)),
        tie_word_embeddings: false,
        ..llama_3_2_1b()
    }
}

fn llama3_scaling(factor: f64) -> RopeScaling {
    RopeScaling::Llama3 {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    }
}

/// Names and shapes of every tensor of a model, in the order of the layers.
pub fn tensors(config: &LlamaConfig) -> Vec<(String, Vec<usize>)> {
    let hidden = config.hidden_size;
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    let mut tensors = vec![(
        "model.embed_tokens.weight".to_owned(),
        vec![config.vocab_size, hidden],
    )];
    for layer in 0..config.num_hidden_layers {
        let mut add = |name: &str, shape: Vec<usize>| {
            tensors.push((format!("model.layers.{layer}.{name}"), shape));
        };
        add("input_layernorm.weight", vec![hidden]);
        for (projection, rows) in [("q", queries), ("k", keys), ("v", keys)] {
            add(
                &format!("self_attn.{projection}_proj.weight"),
                vec![rows, hidden],
            );
            if config.attention_bias {
                add(&format!("self_attn.{projection}_proj.bias"), vec![rows]);
            }
        }
        add("self_attn.o_proj.weight", vec![hidden, queries]);
        add("post_attention_layernorm.weight", vec![hidden]);
        add(
            "mlp.gate_proj.weight",
            vec![config.intermediate_size, hidden],
        );
        add("mlp.up_proj.weight", vec![config.intermediate_size, hidden]);
        add(
            "mlp.down_proj.weight",
            vec![hidden, config.intermediate_size],
        );
    }
    tensors.push(("model.norm.weight".to_owned(), vec![hidden]));
    if !config.tie_word_embeddings {
        tensors.push(("lm_head.weight".to_owned(), vec![config.vocab_size, hidden]));
    }
    tensors
}

/// Writes a random model of a shape into a folder, which is made if need be.
///
/// Matrices are uniform with the variance `1 / columns`, norms are near 1; equal seeds write equal files.
///
/// # Errors
/// [`LoadError::Io`] if the folder cannot be written, [`LoadError::Unsupported`] if the vocabulary has no room for
/// [`VOCAB_SIZE`] tokens.
pub fn write(folder: &Path, config: &LlamaConfig, seed: u64) -> Result<(), LoadError> {
    if config.vocab_size < VOCAB_SIZE {
        return Err(LoadError::unsupported(
            folder,
            format!(
                "a vocabulary of {}; the byte tokenizer needs {VOCAB_SIZE}",
                config.vocab_size
            ),
        ));
    }
    std::fs::create_dir_all(folder).map_err(|e| LoadError::io("write", folder, e))?;
    let save = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(|e| LoadError::io("write", path, e))
    };
    save("config.json", config.to_json().as_bytes())?;
    save("tokenizer.json", byte_tokenizer::json().as_bytes())?;
    save(
        "tokenizer_config.json",
        byte_tokenizer::config_json().as_bytes(),
    )?;
    save("model.safetensors", &weights(config, seed))
}

fn weights(config: &LlamaConfig, seed: u64) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = |half_width: f32| {
        let unit = random.next_u32() as f32 / u32::MAX as f32;
        (2.0 * unit - 1.0) * half_width
    };
    let filled: Vec<(String, Vec<usize>, Vec<u8>)> = tensors(config)
        .into_iter()
        .map(|(name, shape)| {
            let count: usize = shape.iter().product();
            let (centre, half_width) = match (shape.len(), name.ends_with(".bias")) {
                (2, _) => (0.0, (3.0 / shape[1] as f32).sqrt()),
                (_, true) => (0.0, 0.1),
                (_, false) => (1.0, 0.1),
            };
            let values = (0..count).flat_map(|_| (centre + uniform(half_width)).to_le_bytes());
            let bytes = values.collect();
            (name, shape, bytes)
        })
        .collect();
    let views = filled.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes)
            .expect("the bytes were made for this shape");
        (name.as_str(), view)
    });
    safetensors::serialize(views, None).expect("names are unique and sizes are right")
}
