//! What is written as `adapter_config.json`.

use serde::Serialize;

use super::names;
use crate::layout::AdapterLayout;

/// The keys that are written: all that PEFT needs, and those it refuses to guess.
#[derive(Serialize)]
struct Written<'a> {
    alpha_pattern: Empty,
    auto_mapping: (),
    base_model_name_or_path: &'a str,
    bias: &'static str,
    fan_in_fan_out: bool,
    inference_mode: bool,
    init_lora_weights: bool,
    layers_pattern: (),
    layers_to_transform: (),
    lora_alpha: Number,
    lora_dropout: f64,
    modules_to_save: (),
    peft_type: &'static str,
    r: usize,
    rank_pattern: Empty,
    revision: (),
    target_modules: Vec<&'a str>,
    task_type: &'static str,
    use_dora: bool,
    use_rslora: bool,
}

#[derive(Serialize)]
struct Empty {}

/// PEFT declares alpha as an integer; a whole one is written without a decimal point.
#[derive(Serialize)]
#[serde(untagged)]
enum Number {
    Whole(u64),
    Real(f64),
}

impl Number {
    fn of(value: f64) -> Self {
        // Whole numbers up to 2^53 are exact in f64.
        if value.fract() == 0.0 && value < 2f64.powi(53) {
            Self::Whole(value as u64)
        } else {
            Self::Real(value)
        }
    }
}

/// The bytes of `adapter_config.json` for this layout.
pub(in crate::peft) fn to_json(layout: &AdapterLayout, base_name: &str, dropout: f64) -> Vec<u8> {
    let mut target_modules: Vec<_> = layout
        .modules()
        .iter()
        .filter_map(|module| module.name.rsplit('.').next())
        .collect();
    target_modules.sort_by_key(|name| (names::projection_order(name), *name));
    target_modules.dedup();
    let written = Written {
        alpha_pattern: Empty {},
        auto_mapping: (),
        base_model_name_or_path: base_name,
        bias: "none",
        fan_in_fan_out: false,
        inference_mode: true,
        init_lora_weights: true,
        layers_pattern: (),
        layers_to_transform: (),
        lora_alpha: Number::of(layout.alpha()),
        lora_dropout: dropout,
        modules_to_save: (),
        peft_type: "LORA",
        r: layout.rank(),
        rank_pattern: Empty {},
        revision: (),
        target_modules,
        task_type: "CAUSAL_LM",
        use_dora: false,
        use_rslora: layout.rslora(),
    };
    let mut json = serde_json::to_vec_pretty(&written).expect("plain values are valid JSON");
    json.push(b'\n');
    json
}
