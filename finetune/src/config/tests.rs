use super::*;
use serde_json::{Value, json};

fn parsed(change: impl FnOnce(&mut Value)) -> Result<LlamaConfig, LoadError> {
    let mut value = json!({
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 64, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "max_position_embeddings": 131072, "tie_word_embeddings": true, "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009]
    });
    change(&mut value);
    LlamaConfig::from_json(&value.to_string(), Path::new("config.json"))
}

fn llama3() -> Value {
    json!({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192})
}

#[test]
fn both_spellings_of_llama3_scaling_are_the_same() {
    let old = parsed(|v| v["rope_scaling"] = llama3()).unwrap();
    let new = parsed(|v| {
        v.as_object_mut().unwrap().remove("rope_theta");
        v["rope_parameters"] = llama3();
        v["rope_parameters"]["rope_theta"] = json!(500000.0);
    })
    .unwrap();
    assert_eq!(old, new);
    assert_eq!(old.eos_token_ids, [128001, 128008, 128009]);
}

#[test]
fn llama3_scaling_keeps_high_and_divides_low_frequencies() {
    let plain = parsed(|_| ()).unwrap().inverse_frequencies();
    let scaled = parsed(|v| v["rope_scaling"] = llama3())
        .unwrap()
        .inverse_frequencies();
    assert_eq!(plain[0], 1.0);
    assert_eq!(scaled[0], 1.0);
    assert!((scaled[31] - plain[31] / 32.0).abs() < 1e-18);
    // transformers 4.57 _compute_llama3_parameters for Llama-3.2-1B: entries between the two bounds.
    for pair in 0..32 {
        let wavelength = std::f64::consts::TAU / plain[pair];
        let ramp = ((8192.0 / wavelength - 1.0) / 3.0).clamp(0.0, 1.0);
        let expected = plain[pair] * (ramp + (1.0 - ramp) / 32.0);
        assert!((scaled[pair] / expected - 1.0).abs() < 1e-12, "pair {pair}");
    }
}

#[test]
fn written_configuration_reads_back() {
    let config = parsed(|v| v["rope_scaling"] = llama3()).unwrap();
    let again = LlamaConfig::from_json(&config.to_json(), Path::new("again")).unwrap();
    assert_eq!(config, again);
}

#[test]
fn mistral_window_limits_the_context() {
    let config = parsed(|v| {
        v["model_type"] = json!("mistral");
        v["sliding_window"] = json!(4096);
    })
    .unwrap();
    assert_eq!(config.max_position_embeddings, 4096);
    assert!(!config.attention_bias);
}

#[test]
fn qwen2_has_attention_biases_and_ignores_an_unused_window() {
    let config = parsed(|v| {
        v["model_type"] = json!("qwen2");
        v["sliding_window"] = json!(4096);
        v["use_sliding_window"] = json!(false);
    })
    .unwrap();
    assert!(config.attention_bias);
    assert_eq!(config.max_position_embeddings, 131_072);
}

#[test]
fn what_the_forward_pass_does_not_do_is_refused_by_name() {
    for (field, value) in [
        ("model_type", json!("gpt_neox")),
        ("hidden_act", json!("gelu")),
        ("mlp_bias", json!(true)),
        ("attention_bias", json!(true)),
        ("partial_rotary_factor", json!(0.5)),
        ("quantization_config", json!({"bits": 4})),
        ("rope_scaling", json!({"type": "yarn", "factor": 2.0})),
    ] {
        let error = parsed(|v| v[field] = value).unwrap_err();
        assert!(
            matches!(error, LoadError::Unsupported { .. }),
            "{field}: {error}"
        );
        let named = if field == "rope_scaling" {
            "rope scaling"
        } else {
            field
        };
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn impossible_shapes_are_damage() {
    for (field, value) in [
        ("vocab_size", json!(0)),
        ("hidden_size", json!(1u64 << 40)),
        ("num_key_value_heads", json!(7)),
        ("head_dim", json!(63)),
        ("rope_theta", json!(-1.0)),
        ("num_attention_heads", json!(0)),
    ] {
        let error = parsed(|v| v[field] = value).unwrap_err();
        assert!(
            matches!(error, LoadError::Damaged { .. }),
            "{field}: {error}"
        );
    }
}
