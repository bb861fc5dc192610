//! Tensor names of PEFT and the canonical order of modules.
//!
//! `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`: PEFT's wrapper, the module's
//! name in the transformers model, the factor. Only the seven projections of a Llama-family layer
//! are known here.

use crate::layout::Factor;

const PREFIX: &str = "base_model.model.";
/// The seven projections in canonical order, with the block they are in.
const PROJECTIONS: [(&str, &str); 7] = [
    ("self_attn", "q_proj"),
    ("self_attn", "k_proj"),
    ("self_attn", "v_proj"),
    ("self_attn", "o_proj"),
    ("mlp", "gate_proj"),
    ("mlp", "up_proj"),
    ("mlp", "down_proj"),
];

/// Where a module stands in the canonical order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    layer: u32,
    projection: usize,
}

impl Place {
    /// The module's name in the transformers model.
    pub(super) fn module_name(&self) -> String {
        let (block, projection) = PROJECTIONS[self.projection];
        format!("model.layers.{}.{block}.{projection}", self.layer)
    }
}

/// Whether this is one of the seven projections.
pub(super) fn is_projection(name: &str) -> bool {
    PROJECTIONS
        .iter()
        .any(|&(_, projection)| projection == name)
}

/// Whether an entry of `target_modules` means this module: PEFT matches whole names and endings.
pub(super) fn is_target(target: &str, place: &Place) -> bool {
    let module = place.module_name();
    module
        .strip_suffix(target)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Where a projection stands in canonical order; others come last.
pub(super) fn projection_order(name: &str) -> usize {
    PROJECTIONS
        .iter()
        .position(|&(_, projection)| projection == name)
        .unwrap_or(PROJECTIONS.len())
}

/// The name of a factor's tensor.
pub(super) fn tensor_name(module: &str, factor: Factor) -> String {
    format!("{PREFIX}{module}.{factor}.weight")
}

/// Which module and factor a tensor is, or why it is none.
pub(super) fn parse(tensor: &str) -> Result<(Place, Factor), &'static str> {
    let name = tensor
        .strip_prefix(PREFIX)
        .ok_or("does not begin with base_model.model.")?;
    let (module, factor) = if let Some(module) = name.strip_suffix(".lora_A.weight") {
        (module, Factor::A)
    } else if let Some(module) = name.strip_suffix(".lora_B.weight") {
        (module, Factor::B)
    } else {
        return Err("is neither a lora_A.weight nor a lora_B.weight");
    };
    let unknown = "is not one of the seven projections of a Llama layer";
    let rest = module.strip_prefix("model.layers.").ok_or(unknown)?;
    let (layer, rest) = rest.split_once('.').ok_or(unknown)?;
    let (block, projection) = rest.split_once('.').ok_or(unknown)?;
    let number: u32 = layer.parse().map_err(|_| unknown)?;
    // "00" and "+0" parse too, but are another spelling of a name that exists.
    if number.to_string() != layer {
        return Err(unknown);
    }
    let known = PROJECTIONS
        .iter()
        .position(|&known| known == (block, projection));
    Ok((
        Place {
            layer: number,
            projection: known.ok_or(unknown)?,
        },
        factor,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_sort_by_layer_then_projection() {
        let modules = [
            "model.layers.2.mlp.down_proj",
            "model.layers.10.self_attn.q_proj",
            "model.layers.2.self_attn.v_proj",
        ];
        let mut places: Vec<_> = modules
            .iter()
            .map(|module| {
                let (place, factor) = parse(&tensor_name(module, Factor::B)).unwrap();
                assert_eq!((place.module_name().as_str(), factor), (*module, Factor::B));
                place
            })
            .collect();
        places.sort();
        let sorted: Vec<_> = places.iter().map(Place::module_name).collect();
        assert_eq!(sorted, [modules[2], modules[0], modules[1]]);
    }

    #[test]
    fn other_spellings_are_not_names() {
        for name in [
            "",
            "base_model.model.lm_head.lora_A.weight",
            "base_model.model.model.layers.01.self_attn.q_proj.lora_A.weight",
            "base_model.model.model.layers.+1.self_attn.q_proj.lora_A.weight",
            "base_model.model.model.layers.0.mlp.q_proj.lora_A.weight",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
            "model.layers.0.self_attn.q_proj.lora_A.weight",
        ] {
            assert!(parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn targets_match_whole_endings_as_in_peft() {
        let name = tensor_name("model.layers.3.self_attn.q_proj", Factor::A);
        let (place, _) = parse(&name).unwrap();
        for target in [
            "q_proj",
            "self_attn.q_proj",
            "model.layers.3.self_attn.q_proj",
        ] {
            assert!(is_target(target, &place), "{target}");
        }
        for target in ["proj", "k_proj", "3", "layers.4.self_attn.q_proj"] {
            assert!(!is_target(target, &place), "{target}");
        }
    }
}
