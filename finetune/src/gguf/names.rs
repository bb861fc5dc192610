//! Tensor names of GGUF and of Hugging Face.

/// The GGUF name of a Hugging Face tensor, or `None` for one that a Llama-family file never has.
pub fn gguf_name(hf_name: &str) -> Option<String> {
    match hf_name {
        "model.embed_tokens.weight" => return Some("token_embd.weight".to_owned()),
        "model.norm.weight" => return Some("output_norm.weight".to_owned()),
        "lm_head.weight" => return Some("output.weight".to_owned()),
        _ => (),
    }
    let (layer, rest) = hf_name.strip_prefix("model.layers.")?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let (module, kind) = rest.rsplit_once('.')?;
    let module = match module {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    matches!(kind, "weight" | "bias").then(|| format!("blk.{layer}.{module}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::gguf_name;

    #[test]
    fn known_names_map_and_unknown_ones_do_not() {
        for (hf, gguf) in [
            ("model.embed_tokens.weight", Some("token_embd.weight")),
            (
                "model.layers.7.self_attn.o_proj.weight",
                Some("blk.7.attn_output.weight"),
            ),
            (
                "model.layers.0.self_attn.q_proj.bias",
                Some("blk.0.attn_q.bias"),
            ),
            (
                "model.layers.12.mlp.down_proj.weight",
                Some("blk.12.ffn_down.weight"),
            ),
            ("lm_head.weight", Some("output.weight")),
            ("model.layers.x.mlp.down_proj.weight", None),
            ("model.layers.0.mlp.experts.weight", None),
            ("", None),
        ] {
            assert_eq!(gguf_name(hf).as_deref(), gguf, "{hf}");
        }
    }
}
