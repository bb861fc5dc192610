//! Configurations PEFT writes are read; what would change the numbers is refused.

use serde_json::json;

use super::*;
use crate::layout::AdapterLayout;

/// What PEFT 0.17 writes for a plain LoRA adapter.
fn plain() -> Value {
    json!({
        "alpha_pattern": {}, "auto_mapping": null, "base_model_name_or_path": "org/base",
        "bias": "none", "corda_config": null, "eva_config": null, "exclude_modules": null,
        "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
        "layer_replication": null, "layers_pattern": null, "layers_to_transform": null,
        "loftq_config": {}, "lora_alpha": 32, "lora_bias": false, "lora_dropout": 0.1,
        "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null,
        "peft_type": "LORA", "qalora_group_size": 16, "r": 16, "rank_pattern": {},
        "revision": null, "target_modules": ["v_proj", "q_proj"], "target_parameters": null,
        "task_type": "CAUSAL_LM", "trainable_token_indices": null, "use_dora": false,
        "use_qalora": false, "use_rslora": false
    })
}

fn read(config: &Value) -> Result<PeftConfig, PeftError> {
    PeftConfig::from_json(config.to_string().as_bytes())
}

fn with(key: &str, value: Value) -> Result<PeftConfig, PeftError> {
    let mut config = plain();
    config[key] = value;
    read(&config)
}

#[test]
fn a_configuration_as_peft_writes_it_is_read() {
    let expected = PeftConfig {
        rank: 16,
        alpha: 32.0,
        dropout: 0.1,
        target_modules: vec!["q_proj".to_owned(), "v_proj".to_owned()],
        rslora: false,
        base_model_name_or_path: "org/base".to_owned(),
    };
    assert_eq!(read(&plain()), Ok(expected));
}

#[test]
fn a_short_configuration_has_defaults() {
    let config =
        read(&json!({ "r": 4, "lora_alpha": 8.5, "target_modules": ["up_proj"] })).unwrap();
    assert_eq!(
        (config.dropout, config.rslora, config.alpha),
        (0.0, false, 8.5)
    );
    assert_eq!(config.base_model_name_or_path, "");
}

#[test]
fn what_would_change_the_numbers_is_refused_by_key() {
    for (key, value) in [
        ("bias", json!("all")),
        ("use_dora", json!(true)),
        ("use_qalora", json!(true)),
        ("lora_bias", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("rank_pattern", json!({ "q_proj": 8 })),
        ("alpha_pattern", json!({ "q_proj": 8 })),
        ("modules_to_save", json!(["lm_head"])),
        ("trainable_token_indices", json!([1])),
        ("target_parameters", json!(["x"])),
        ("layer_replication", json!([[0, 4]])),
        ("alora_invocation_tokens", json!([1])),
        ("peft_type", json!("LOHA")),
        ("init_lora_weights", json!("pissa_niter_16")),
        ("r", json!(0)),
        ("r", json!(100_000)),
        ("lora_alpha", json!(-1)),
        ("lora_dropout", json!(1.0)),
        ("target_modules", json!("all-linear")),
        ("target_modules", json!([])),
        ("target_modules", json!(["lm_head"])),
        ("target_modules", json!([3])),
    ] {
        let said = with(key, value).unwrap_err().to_string();
        assert!(
            said.starts_with(&format!("adapter_config.json has {key} = ")),
            "{said}"
        );
    }
}

#[test]
fn what_only_steers_training_is_ignored() {
    for (key, value) in [
        ("init_lora_weights", json!("gaussian")),
        ("init_lora_weights", json!(false)),
        ("inference_mode", json!(false)),
        ("revision", json!("main")),
        ("a_key_of_next_year", json!({ "x": 1 })),
    ] {
        assert!(with(key, value).is_ok(), "{key}");
    }
}

#[test]
fn what_is_no_configuration_is_refused_with_the_place() {
    let refuse = |json: &[u8]| PeftConfig::from_json(json).unwrap_err().to_string();
    assert!(refuse(b"").contains("line 1 column 0"));
    assert!(refuse(b"{}").contains("missing field"));
    assert!(refuse(br#"{"r": -1}"#).contains("invalid value"));
    assert!(refuse(&vec![b' '; BYTES_MAX + 1]).contains("more than"));
    assert!(refuse("[".repeat(100_000).as_bytes()).contains("line 1"));
}

#[test]
fn a_whole_alpha_is_written_as_peft_declares_it() {
    let layout = |alpha| {
        let name = "model.layers.0.self_attn.q_proj".to_owned();
        let modules = vec![crate::ModuleLayout {
            name,
            in_features: 1,
            out_features: 1,
        }];
        AdapterLayout::new(1, alpha, true, modules).unwrap()
    };
    let text = |alpha| String::from_utf8(to_json(&layout(alpha), "b", 0.05)).unwrap();
    assert!(text(32.0).contains("\"lora_alpha\": 32,"));
    assert!(text(0.5).contains("\"lora_alpha\": 0.5,"));
    assert!(text(32.0).contains("\"use_rslora\": true"));
}
