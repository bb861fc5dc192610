use super::*;
use crate::config::{Architecture, RopeScaling};
use proptest::prelude::*;
use std::io::Write;

/// Writes GGUF files for tests.
struct Writer {
    version: u32,
    entries: Vec<Vec<u8>>,
    tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

fn text(value: &str) -> Vec<u8> {
    [&(value.len() as u64).to_le_bytes()[..], value.as_bytes()].concat()
}

impl Writer {
    fn tiny(architecture: &str) -> Self {
        let mut writer = Self {
            version: 3,
            entries: Vec::new(),
            tensors: Vec::new(),
        };
        writer.entry("general.architecture", 8, &text(architecture));
        for (key, value) in [
            ("embedding_length", 8u32),
            ("block_count", 1),
            ("feed_forward_length", 16),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
            ("context_length", 64),
        ] {
            writer.entry(&format!("{architecture}.{key}"), 4, &value.to_le_bytes());
        }
        writer.entry(
            &format!("{architecture}.attention.layer_norm_rms_epsilon"),
            6,
            &1e-5f32.to_le_bytes(),
        );
        writer.tensor("token_embd.weight", &[8, 3], |i| i as f32);
        writer.tensor("blk.0.attn_q.weight", &[8, 8], |i| (i / 8) as f32);
        writer.tensor("blk.0.attn_k.weight", &[8, 4], |i| (i / 8) as f32);
        writer.tensor("blk.0.attn_v.weight", &[8, 4], |i| (i / 8) as f32);
        writer
    }

    fn entry(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.entries
            .push([&text(key)[..], &kind.to_le_bytes(), value].concat());
    }

    fn tensor(&mut self, name: &str, dimensions: &[u64], value: impl Fn(usize) -> f32) {
        let count = dimensions.iter().product::<u64>() as usize;
        let bytes = (0..count).flat_map(|i| value(i).to_le_bytes()).collect();
        self.tensors
            .push((name.to_owned(), dimensions.to_vec(), 0, bytes));
    }

    fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.entries.len() as u64).to_le_bytes());
        file.extend(self.entries.iter().flatten());
        let mut data = Vec::new();
        for (name, dimensions, kind, bytes) in &self.tensors {
            file.extend(text(name));
            file.extend((dimensions.len() as u32).to_le_bytes());
            file.extend(dimensions.iter().flat_map(|d| d.to_le_bytes()));
            file.extend(kind.to_le_bytes());
            file.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(data);
        file
    }

    fn open(&self) -> Result<GgufFile, LoadError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&self.bytes()).unwrap();
        GgufFile::open(file.path())
    }
}

#[test]
fn versions_two_and_three_read_alike_and_others_are_refused() {
    for version in [2, 3] {
        let file = Writer {
            version,
            ..Writer::tiny("llama")
        }
        .open()
        .unwrap();
        let config = file.config();
        assert_eq!(config.architecture, Architecture::Llama);
        assert_eq!(
            (
                config.vocab_size,
                config.head_dim,
                config.num_key_value_heads
            ),
            (3, 4, 1)
        );
        assert_eq!(config.rms_norm_eps, 1e-5);
        assert!(config.tie_word_embeddings);
        let embedding = file.tensor("model.embed_tokens.weight", &[3, 8]).unwrap();
        assert_eq!(embedding[8], 8.0);
    }
    for (version, named) in [(1u32, "version is 1"), (3u32.swap_bytes(), "big-endian")] {
        let error = Writer {
            version,
            ..Writer::tiny("llama")
        }
        .open()
        .unwrap_err()
        .to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn llama_query_and_key_rows_return_to_half_rotation_order() {
    let file = Writer::tiny("llama").open().unwrap();
    let rows = |name: &str, shape: &[usize]| -> Vec<f32> {
        file.tensor(name, shape)
            .unwrap()
            .into_iter()
            .step_by(8)
            .collect()
    };
    // Head of width 4: interleaved rows 0 1 2 3 hold pair 0 (0, 1) and pair 1 (2, 3).
    let q = rows("model.layers.0.self_attn.q_proj.weight", &[8, 8]);
    assert_eq!(q, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    assert_eq!(
        rows("model.layers.0.self_attn.k_proj.weight", &[4, 8]),
        [0.0, 2.0, 1.0, 3.0]
    );
    assert_eq!(
        rows("model.layers.0.self_attn.v_proj.weight", &[4, 8]),
        [0.0, 1.0, 2.0, 3.0]
    );
}

#[test]
fn qwen2_rows_stay_and_have_biases() {
    let mut writer = Writer::tiny("qwen2");
    writer.tensor("blk.0.attn_q.bias", &[8], |i| i as f32);
    let file = writer.open().unwrap();
    assert!(file.config().attention_bias);
    let q = file
        .tensor("model.layers.0.self_attn.q_proj.weight", &[8, 8])
        .unwrap();
    assert_eq!(q[8], 1.0);
    assert!(file.contains("model.layers.0.self_attn.q_proj.bias"));
}

#[test]
fn rope_factors_and_special_tokens_come_from_the_file() {
    let mut writer = Writer::tiny("llama");
    writer.tensor("rope_freqs.weight", &[2], |i| 1.0 + i as f32);
    writer.tensor("output.weight", &[8, 3], |_| 0.0);
    writer.entry("tokenizer.ggml.bos_token_id", 4, &7u32.to_le_bytes());
    writer.entry("tokenizer.ggml.eos_token_id", 4, &8u32.to_le_bytes());
    writer.entry("tokenizer.ggml.eot_token_id", 4, &9u32.to_le_bytes());
    let config = writer.open().unwrap().config().clone();
    assert_eq!(
        config.rope_scaling,
        Some(RopeScaling::Factors(vec![1.0, 2.0]))
    );
    let frequencies = config.inverse_frequencies();
    assert!((frequencies[1] - 0.01 / 2.0).abs() < 1e-12);
    assert_eq!(
        (config.bos_token_id, config.eos_token_ids),
        (Some(7), vec![8, 9])
    );
    assert!(!config.tie_word_embeddings);
}

#[test]
fn unsupported_models_are_refused_with_a_sentence() {
    let error = Writer::tiny("gemma").open().unwrap_err().to_string();
    assert!(error.contains("architecture \"gemma\""), "{error}");
    let mut experts = Writer::tiny("llama");
    experts.entry("llama.expert_count", 4, &8u32.to_le_bytes());
    assert!(
        experts
            .open()
            .unwrap_err()
            .to_string()
            .contains("mixture of experts")
    );
    let mut yarn = Writer::tiny("llama");
    yarn.entry("llama.rope.scaling.type", 8, &text("yarn"));
    yarn.entry("llama.rope.scaling.factor", 6, &4f32.to_le_bytes());
    assert!(yarn.open().unwrap_err().to_string().contains("\"yarn\""));
}

#[test]
fn hostile_numbers_are_refused_before_any_allocation() {
    let good = Writer::tiny("llama").bytes();
    Header::read(&good).unwrap();
    let with_u64 = |at: usize, value: u64| {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        Header::read(&bytes).unwrap_err()
    };
    assert!(with_u64(8, u64::MAX).contains("tensors"));
    assert!(with_u64(16, 1 << 60).contains("metadata entries"));
    assert!(with_u64(24, u64::MAX - 3).contains("bytes of text"));

    let mut huge = Writer::tiny("llama");
    huge.tensors
        .push(("big".to_owned(), vec![1 << 40, 1 << 40], 0, Vec::new()));
    assert!(
        Header::read(&huge.bytes())
            .unwrap_err()
            .contains("larger than any file")
    );
    let mut odd = Writer::tiny("llama");
    odd.tensors
        .push(("odd".to_owned(), vec![33], 3, Vec::new()));
    assert!(
        Header::read(&odd.bytes())
            .unwrap_err()
            .contains("blocks of 32")
    );
    let mut twice = Writer::tiny("llama");
    twice.entry("general.architecture", 8, &text("llama"));
    assert!(Header::read(&twice.bytes()).unwrap_err().contains("twice"));
    let mut array = Writer::tiny("llama");
    array.entry(
        "x",
        9,
        &[&8u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat(),
    );
    assert!(Header::read(&array.bytes()).unwrap_err().contains("texts"));
}

#[test]
fn truncated_file_is_refused_at_every_length() {
    let whole = Writer::tiny("llama").bytes();
    for length in 0..whole.len() {
        assert!(
            Header::read(&whole[..length]).is_err(),
            "{length} bytes were accepted"
        );
    }
    let error = Header::read(&whole[..whole.len() - 40]).unwrap_err();
    assert!(
        error.contains("truncated in tensor blk.0.attn_v.weight"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(crate::properties::fixed_seed())]

    #[test]
    fn any_bytes_after_the_magic_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Header::read(&bytes);
        let _ = Header::read(&[b"GGUF\x03\0\0\0", &bytes[..]].concat());
    }

    #[test]
    fn damaged_file_never_panics(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = Writer::tiny("llama").bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(header) = Header::read(&bytes) {
            if let Ok(config) = shape::config(&header, &bytes, Path::new("any")) {
                prop_assert!(config.head_dim > 0);
            }
            for place in header.tensors.values() {
                let _ = place.format.widen(&bytes[place.bytes.clone()]);
            }
        }
    }
}
