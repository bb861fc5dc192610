//! The keys that change what the numbers mean, and the values that leave them alone.

use serde_json::Value;

use super::{PeftError, Raw, unsupported};

type Rule<'a> = (&'static str, &'a Value, &'static str);

/// Refuses what would have to be honoured to compute `s * B * A` rightly.
pub(super) fn refuse_unsupported(raw: &Raw) -> Result<(), PeftError> {
    let is_absent = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Number(_) | Value::String(_) | Value::Bool(true) => false,
    };
    if let Some((key, value, why)) = must_be_absent(raw)
        .into_iter()
        .find(|(_, value, _)| !is_absent(value))
    {
        return Err(unsupported(key, value, why));
    }
    let is = |value: &Value, wanted: &[&str]| {
        value.is_null() || value.as_str().is_some_and(|found| wanted.contains(&found))
    };
    if !is(&raw.peft_type, &["LORA"]) {
        return Err(unsupported(
            "peft_type",
            &raw.peft_type,
            "only LORA adapters are supported",
        ));
    }
    if !is(&raw.bias, &["none"]) {
        return Err(unsupported(
            "bias",
            &raw.bias,
            "biases are not exchanged; train with none",
        ));
    }
    let start = &raw.init_lora_weights;
    if !start.is_boolean() && !is(start, &["gaussian", "eva", "orthogonal"]) {
        let why = "this initialisation changes the base model; convert the adapter to plain LoRA";
        return Err(unsupported("init_lora_weights", start, why));
    }
    Ok(())
}

fn must_be_absent(raw: &Raw) -> [Rule<'_>; 11] {
    let one_rank = "every module must have the same rank and alpha";
    let only_factors = "only the LoRA factors of the seven projections are exchanged";
    let activated = "activated LoRA depends on the prompt; train plain LoRA";
    let dora = "DoRA has magnitudes beside A and B; train plain LoRA";
    [
        ("use_dora", &raw.use_dora, dora),
        (
            "use_qalora",
            &raw.use_qalora,
            "QALoRA pools its inputs; train plain LoRA",
        ),
        (
            "lora_bias",
            &raw.lora_bias,
            "a bias of B has no place in s * B * A",
        ),
        (
            "fan_in_fan_out",
            &raw.fan_in_fan_out,
            "Llama-family weights are stored [out, in]",
        ),
        ("rank_pattern", &raw.rank_pattern, one_rank),
        ("alpha_pattern", &raw.alpha_pattern, one_rank),
        ("modules_to_save", &raw.modules_to_save, only_factors),
        (
            "trainable_token_indices",
            &raw.trainable_token_indices,
            only_factors,
        ),
        ("target_parameters", &raw.target_parameters, only_factors),
        (
            "layer_replication",
            &raw.layer_replication,
            "it changes the base model's layers",
        ),
        (
            "alora_invocation_tokens",
            &raw.alora_invocation_tokens,
            activated,
        ),
    ]
}
