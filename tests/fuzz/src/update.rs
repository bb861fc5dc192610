//! Bytes that claim to be an update, or a folder with an adapter.

use std::sync::Arc;

use aggregation::admission::{self, AdmissionRules};
use aggregation::encoded::EncodedUpdate;
use aggregation::peft::{self, Sidecar};
use aggregation::strategy::fedavg::FedAvg;
use aggregation::strategy::fixed_point::FixedPoint;
use aggregation::{Adapter, AdapterLayout, Encoding, ModuleLayout};

const RULES: AdmissionRules = AdmissionRules {
    norm_max: 4.0,
    weight_max: 9,
};

/// Any bytes are an update that keeps every rule, or refused; what is admitted is finite, and so is the mean of it.
pub fn update(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else {
        return;
    };
    let encoding = match first % 3 {
        0 => Encoding::F32,
        1 => Encoding::Bf16,
        _ => Encoding::Int8,
    };
    let (layout, weight) = (layout(), u64::from(first / 3 % 16));
    // Of the right length as often as not: nearly all random lengths are wrong.
    let expected = encoding.size(layout.parameters());
    let mut rest = rest.to_vec();
    if first < 200 {
        rest.resize(expected, first);
    }
    let update = EncodedUpdate::new(rest.as_slice(), encoding);
    let Ok(admitted) = admission::admit(&layout, update, weight, &RULES) else {
        return;
    };
    assert_eq!(rest.len(), expected, "admitted with another length");
    assert!((1..=RULES.weight_max).contains(&weight));
    assert!(admitted.norm() <= RULES.norm_max);
    let fixed = FixedPoint::for_bounds(3, RULES.weight_max, RULES.norm_max).expect("it fits");
    let mut sum = FedAvg::new(Arc::clone(&layout), fixed);
    sum.fold_admitted(&admitted)
        .expect("what is admitted can be folded");
    let mean = sum.mean().expect("of one");
    mean.check_finite().expect("of finite values");
    let plain = Adapter::from_encoded(layout, encoding, &rest).expect("of that length");
    for (mean, value) in mean.values().iter().zip(plain.values()) {
        assert!((f64::from(*mean) - f64::from(*value)).abs() <= 2.0 * fixed.step() + 1e-6);
    }
}

/// Any bytes in place of an adapter's files are refused or an adapter; damage to good files is not a panic either.
pub fn folder(bytes: &[u8]) {
    // The files are read as they are, and what is wrong with them is an error.
    let _ = peft::load(bytes, bytes);
    let _ = Sidecar::from_json(bytes);
    let good = peft::save(&Adapter::initial(layout(), 1), "tiny", 0.0);
    let (mut config, mut tensors) = (good.config_json, good.safetensors);
    for change in bytes.chunks_exact(3) {
        let place = usize::from(u16::from_le_bytes([change[0], change[1]]));
        let file = if change[0] % 4 == 0 {
            &mut config
        } else {
            &mut tensors
        };
        let place = place % file.len();
        file[place] = change[2];
    }
    if let Ok((adapter, _)) = peft::load(&config, &tensors) {
        assert_eq!(adapter.values().len(), adapter.layout().parameters());
    }
}

fn layout() -> Arc<AdapterLayout> {
    let module = |name: &str, in_features, out_features| ModuleLayout {
        name: format!("model.layers.0.self_attn.{name}"),
        in_features,
        out_features,
    };
    let modules = vec![module("q_proj", 3, 2), module("v_proj", 30, 7)];
    Arc::new(AdapterLayout::new(2, 4.0, false, modules).expect("a layout of our own"))
}
