//! PEFT folders: round trips, other types, canonical order, and what is refused.

use half::{bf16, f16};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::properties::fixed_seed;

const Q: &str = "model.layers.0.self_attn.q_proj";
const DOWN: &str = "model.layers.0.mlp.down_proj";
const Q10: &str = "model.layers.10.self_attn.q_proj";

fn layout(names: &[&str]) -> Arc<AdapterLayout> {
    let modules = names.iter().map(|name| ModuleLayout {
        name: (*name).to_owned(),
        in_features: 3,
        out_features: 2,
    });
    Arc::new(AdapterLayout::new(2, 4.0, false, modules.collect()).unwrap())
}

fn adapter(names: &[&str], seed: u64) -> Adapter {
    let mut adapter = Adapter::initial(layout(names), seed);
    for module in 0..names.len() {
        let a = adapter.a(module).to_vec();
        adapter.b_mut(module).copy_from_slice(&a[..4]);
    }
    adapter
}

/// A safetensors file of tensors of any type, written by hand.
fn file(tensors: &[(&str, &str, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
        header.insert((*name).to_owned(), entry);
        data.extend_from_slice(bytes);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    file
}

fn config(rank: usize, targets: &[&str]) -> Vec<u8> {
    json!({ "r": rank, "lora_alpha": 2, "target_modules": targets })
        .to_string()
        .into_bytes()
}

fn name(module: &str, factor: Factor) -> String {
    names::tensor_name(module, factor)
}

#[test]
fn an_adapter_round_trips_and_is_the_same_every_time() {
    let adapter = adapter(&[Q, DOWN, Q10], 3);
    let folder = save(&adapter, "org/base", 0.1);
    assert_eq!(folder, save(&adapter, "org/base", 0.1));
    let (back, config) = load(&folder.config_json, &folder.safetensors).unwrap();
    assert_eq!(back, adapter);
    assert_eq!(back.layout().digest(), adapter.layout().digest());
    assert_eq!(
        (config.dropout, config.base_model_name_or_path.as_str()),
        (0.1, "org/base")
    );
    assert_eq!(config.target_modules, ["q_proj", "down_proj"]);
}

#[test]
fn modules_come_in_canonical_order_whatever_the_order_in_the_file() {
    let shuffled = adapter(&[Q10, DOWN, Q], 3);
    let folder = save(&shuffled, "b", 0.0);
    let (back, _) = load(&folder.config_json, &folder.safetensors).unwrap();
    let names: Vec<_> = back
        .layout()
        .modules()
        .iter()
        .map(|m| m.name.as_str())
        .collect();
    assert_eq!(names, [Q, DOWN, Q10]);
    assert_eq!((back.a(0), back.b(2)), (shuffled.a(2), shuffled.b(0)));
}

#[test]
fn half_precision_factors_are_widened() {
    let narrow = |widen: fn(f32) -> [u8; 2], values: &[f32]| -> Vec<u8> {
        values.iter().flat_map(|&value| widen(value)).collect()
    };
    let (a, b) = ([0.5, -2.0, 3.0], [1.0, 0.25]);
    for (dtype, widen) in [
        (
            "F16",
            (|v| f16::from_f32(v).to_le_bytes()) as fn(f32) -> [u8; 2],
        ),
        ("BF16", |v| bf16::from_f32(v).to_le_bytes()),
    ] {
        let bytes = file(&[
            (&name(Q, Factor::A), dtype, vec![1, 3], narrow(widen, &a)),
            (&name(Q, Factor::B), dtype, vec![2, 1], narrow(widen, &b)),
        ]);
        let (adapter, _) = load(&config(1, &["q_proj"]), &bytes).unwrap();
        assert_eq!(adapter.values(), [0.5, -2.0, 3.0, 1.0, 0.25]);
    }
}

#[test]
fn a_tensor_that_does_not_belong_is_refused_by_name() {
    let zeros = |count: usize| vec![0; 4 * count];
    let (a, b) = (name(Q, Factor::A), name(Q, Factor::B));
    let good_a = || (a.as_str(), "F32", vec![1, 3], zeros(3));
    let good_b = || (b.as_str(), "F32", vec![2, 1], zeros(2));
    let refuse = |tensors: &[(&str, &str, Vec<usize>, Vec<u8>)], targets: &[&str]| {
        load(&config(1, targets), &file(tensors))
            .unwrap_err()
            .to_string()
    };
    let q = ["q_proj"];
    assert!(load(&config(1, &q), &file(&[good_a(), good_b()])).is_ok());
    assert!(refuse(&[good_a()], &q).contains("lora_B is missing"));
    assert!(refuse(&[good_b()], &q).contains("lora_A is missing"));
    assert!(refuse(&[good_a(), good_b()], &["k_proj"]).contains("is not among target_modules"));
    assert!(refuse(&[good_a(), good_b()], &["q_proj", "k_proj"]).contains("no tensor of it"));
    let head = ("lm_head.weight", "F32", vec![1], zeros(1));
    assert!(refuse(&[good_a(), good_b(), head], &q).contains("\"lm_head.weight\""));
    let wide = (b.as_str(), "F32", vec![1, 2], zeros(2));
    assert!(refuse(&[good_a(), wide], &q).contains("has rank 2 where"));
    let flat = (b.as_str(), "F32", vec![2], zeros(2));
    assert!(refuse(&[good_a(), flat], &q).contains("is not a matrix"));
    let whole = (b.as_str(), "I32", vec![2, 1], zeros(2));
    assert!(refuse(&[good_a(), whole], &q).contains("is not f32, f16 or bf16"));
    let nan = (
        b.as_str(),
        "F32",
        vec![2, 1],
        [0.0_f32, f32::NAN].map(f32::to_le_bytes).concat(),
    );
    assert!(refuse(&[good_a(), nan], &q).contains("lora_B of model.layers.0.self_attn.q_proj"));
    let empty = (b.as_str(), "F32", vec![0, 1], zeros(0));
    assert!(refuse(&[good_a(), empty], &q).contains("output width"));
}

#[test]
fn every_truncation_is_refused() {
    let folder = save(&adapter(&[Q], 1), "b", 0.0);
    for length in 0..folder.safetensors.len() {
        assert!(load(&folder.config_json, &folder.safetensors[..length]).is_err());
    }
    let mut longer = folder.safetensors.clone();
    longer.push(0);
    let said = load(&folder.config_json, &longer).unwrap_err().to_string();
    assert!(
        said.contains("truncated or has bytes beyond its end"),
        "{said}"
    );
}

#[test]
fn refusals_do_not_repeat_control_characters() {
    let hostile = "\u{1b}[31m\n".repeat(100);
    let bytes = file(&[(&hostile, "F32", vec![1], vec![0; 4])]);
    let said = load(&config(1, &["q_proj"]), &bytes)
        .unwrap_err()
        .to_string();
    assert!(
        !said.contains(['\u{1b}', '\n']) && said.len() < 2000,
        "{said}"
    );
}

proptest! {
    #![proptest_config(fixed_seed())]

    #[test]
    fn any_adapter_round_trips(
        values in prop::collection::vec(-1e6_f32..1e6, 30),
        hundredths in 1..100_000_u32,
        rslora in any::<bool>(),
    ) {
        // Without its feature float_roundtrip, serde_json reads numbers of more than 15 digits to
        // the last bit but one; no alpha has that many.
        let alpha = f64::from(hundredths) / 100.0;
        let modules = layout(&[Q, DOWN, Q10]).modules().to_vec();
        let layout = Arc::new(AdapterLayout::new(2, alpha, rslora, modules).unwrap());
        let adapter = Adapter::from_values(layout, values).unwrap();
        let folder = save(&adapter, "b", 0.0);
        let (back, _) = load(&folder.config_json, &folder.safetensors).unwrap();
        prop_assert_eq!(back, adapter);
    }

    #[test]
    fn any_bytes_load_or_are_refused(
        config_json in prop::collection::vec(any::<u8>(), 0..100),
        safetensors in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let good = save(&adapter(&[Q], 1), "b", 0.0);
        let _ = load(&config_json, &good.safetensors);
        let _ = load(&good.config_json, &safetensors);
    }

    #[test]
    fn any_damage_loads_or_is_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        in_config in any::<bool>(),
    ) {
        let mut folder = save(&adapter(&[Q, DOWN], 1), "b", 0.0);
        let bytes = if in_config { &mut folder.config_json } else { &mut folder.safetensors };
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Ok((adapter, _)) = load(&folder.config_json, &folder.safetensors) {
            prop_assert!(adapter.check_finite().is_ok());
        }
    }
}
