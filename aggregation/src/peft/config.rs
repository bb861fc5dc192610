//! `adapter_config.json`: what of PEFT's `LoraConfig` is honoured, and what is refused.
//!
//! Keys that only steer training or initialisation are ignored; keys that change what the numbers
//! mean are refused unless they have the value that leaves the numbers alone. Read in PEFT 0.17's
//! `LoraConfig`.

mod refused;
mod written;

use serde::Deserialize;
use serde_json::Value;

use super::{PeftError, names};
use crate::layout::RANK_MAX;
pub(super) use written::to_json;

const FILE: &str = "adapter_config.json";
const BYTES_MAX: usize = 1 << 20;

/// What an `adapter_config.json` says.
#[derive(Debug, Clone, PartialEq)]
pub struct PeftConfig {
    /// The rank of every module.
    pub rank: usize,
    /// The numerator of the scale.
    pub alpha: f64,
    /// The dropout probability used in training.
    pub dropout: f64,
    /// Names or endings of the adapted modules, as listed.
    pub target_modules: Vec<String>,
    /// Whether the scale divides by the square root of the rank.
    pub rslora: bool,
    /// The base model as the file names it; empty if it does not.
    pub base_model_name_or_path: String,
}

/// The keys that are looked at; all others only steer training.
#[derive(Deserialize)]
struct Raw {
    r: usize,
    lora_alpha: f64,
    target_modules: Value,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    #[serde(default)]
    peft_type: Value,
    #[serde(default)]
    bias: Value,
    #[serde(default)]
    lora_bias: Value,
    #[serde(default)]
    use_dora: Value,
    #[serde(default)]
    use_qalora: Value,
    #[serde(default)]
    fan_in_fan_out: Value,
    #[serde(default)]
    rank_pattern: Value,
    #[serde(default)]
    alpha_pattern: Value,
    #[serde(default)]
    modules_to_save: Value,
    #[serde(default)]
    trainable_token_indices: Value,
    #[serde(default)]
    target_parameters: Value,
    #[serde(default)]
    layer_replication: Value,
    #[serde(default)]
    alora_invocation_tokens: Value,
    #[serde(default)]
    init_lora_weights: Value,
}

impl PeftConfig {
    /// Reads the bytes of `adapter_config.json`.
    ///
    /// # Errors
    /// [`PeftError::Json`] if it is not the JSON of a LoRA configuration,
    /// [`PeftError::Unsupported`] with a sentence for what is refused.
    pub fn from_json(json: &[u8]) -> Result<Self, PeftError> {
        if json.len() > BYTES_MAX {
            return Err(PeftError::JsonSize {
                file: FILE,
                found: json.len(),
                limit: BYTES_MAX,
            });
        }
        let raw: Raw = serde_json::from_slice(json).map_err(|error| {
            // The reader's messages can repeat what the file says.
            let what = error.to_string().escape_debug().take(200).collect();
            PeftError::Json { file: FILE, what }
        })?;
        refused::refuse_unsupported(&raw)?;
        check_numbers(&raw)?;
        Ok(Self {
            rank: raw.r,
            alpha: raw.lora_alpha,
            dropout: raw.lora_dropout,
            target_modules: targets(&raw.target_modules)?,
            rslora: raw.use_rslora,
            base_model_name_or_path: raw.base_model_name_or_path.unwrap_or_default(),
        })
    }
}

fn check_numbers(raw: &Raw) -> Result<(), PeftError> {
    if !(1..=RANK_MAX).contains(&raw.r) {
        return Err(unsupported(
            "r",
            &Value::from(raw.r),
            "the rank must be from 1 to 4096",
        ));
    }
    if !(raw.lora_alpha.is_finite() && raw.lora_alpha > 0.0) {
        let found = Value::from(raw.lora_alpha);
        return Err(unsupported("lora_alpha", &found, "alpha must be positive"));
    }
    if !(0.0..1.0).contains(&raw.lora_dropout) {
        let found = Value::from(raw.lora_dropout);
        return Err(unsupported(
            "lora_dropout",
            &found,
            "a probability below 1 is needed",
        ));
    }
    Ok(())
}

fn targets(value: &Value) -> Result<Vec<String>, PeftError> {
    let key = "target_modules";
    let Value::Array(items) = value else {
        return Err(unsupported(
            key,
            value,
            "a list of module names is needed, no pattern",
        ));
    };
    let mut targets = Vec::new();
    for item in items {
        let known = item
            .as_str()
            .filter(|name| names::is_projection(name.rsplit('.').next().unwrap_or_default()));
        let Some(name) = known else {
            let why = "only q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj can \
                       be adapted";
            return Err(unsupported(key, item, why));
        };
        targets.push(name.to_owned());
    }
    if targets.is_empty() {
        return Err(unsupported(key, value, "at least one module is needed"));
    }
    targets.sort_by_key(|name| {
        (
            names::projection_order(name.rsplit('.').next().unwrap_or_default()),
            name.clone(),
        )
    });
    targets.dedup();
    Ok(targets)
}

fn unsupported(key: &'static str, found: &Value, why: &'static str) -> PeftError {
    let found = found.to_string().escape_debug().take(64).collect();
    PeftError::Unsupported { key, found, why }
}

#[cfg(test)]
mod tests;
