//! Anchor files: round trips, bounds, and what is refused.

use proptest::prelude::*;

use super::*;
use crate::properties::fixed_seed;

fn anchor() -> Anchor {
    let fisher = |u: &[f32], v: &[f32]| ModuleFisher {
        u: u.to_vec(),
        v: v.to_vec(),
    };
    Anchor {
        base_fingerprint: [7; 32],
        tokens: 1000,
        examples: 10,
        modules: BTreeMap::from([
            (
                "model.layers.0.self_attn.q_proj".to_owned(),
                fisher(&[1.0, 2.0], &[3.0, 4.0, 0.5]),
            ),
            (
                "model.layers.0.self_attn.v_proj".to_owned(),
                fisher(&[0.0], &[1e-9, 4.0]),
            ),
        ]),
    }
}

fn layout(name: &str, out_features: usize, in_features: usize) -> Arc<AdapterLayout> {
    let modules = vec![ModuleLayout {
        name: name.to_owned(),
        in_features,
        out_features,
    }];
    Arc::new(AdapterLayout::new(1, 1.0, false, modules).unwrap())
}

#[test]
fn an_anchor_file_round_trips_and_is_the_same_every_time() {
    let (anchor, bytes) = (anchor(), anchor().to_bytes());
    assert_eq!(Anchor::from_bytes(&bytes), Ok(anchor.clone()));
    assert_eq!(bytes, anchor.to_bytes());
    assert_eq!(
        anchor.sha256(),
        Anchor::from_bytes(&bytes).unwrap().sha256()
    );
}

#[test]
fn another_base_model_is_refused_with_both_fingerprints() {
    let layout = layout("model.layers.0.self_attn.q_proj", 2, 3);
    let said = anchor().bind(&layout, &[8; 32]).unwrap_err().to_string();
    assert!(
        said.contains(&"07".repeat(32)) && said.contains(&"08".repeat(32)),
        "{said}"
    );
}

#[test]
fn an_anchor_binds_to_a_subset_of_its_modules() {
    let bound = anchor()
        .bind(&layout("model.layers.0.self_attn.v_proj", 1, 2), &[7; 32])
        .unwrap();
    assert_eq!(bound.module(0).v, [1e-9, 4.0]);
}

#[test]
fn a_module_that_is_missing_or_of_another_shape_is_refused() {
    let missing = anchor().bind(&layout("m", 1, 1), &[7; 32]).unwrap_err();
    assert_eq!(
        missing,
        AnchorError::MissingModule {
            module: "m".to_owned()
        }
    );
    let wrong = anchor().bind(&layout("model.layers.0.self_attn.q_proj", 3, 2), &[7; 32]);
    let said = wrong.unwrap_err().to_string();
    assert!(
        said.contains("is 2 x 3 in the anchor, 3 x 2 in the adapter"),
        "{said}"
    );
}

/// The bytes of a file with these tensors and the metadata of a good anchor, less one entry.
fn file(tensors: &[(&str, Vec<usize>, &[f32])], without: &str) -> Vec<u8> {
    let mut metadata = BTreeMap::from([
        ("format".to_owned(), FORMAT.to_owned()),
        ("base_fingerprint".to_owned(), "00".repeat(32)),
        ("tokens".to_owned(), "1".to_owned()),
        ("examples".to_owned(), "1".to_owned()),
    ]);
    metadata.remove(without);
    let tensors = tensors.iter().map(|(name, shape, values)| {
        (
            (*name).to_owned(),
            Source {
                shape: shape.clone(),
                values,
            },
        )
    });
    safetensors_bytes::write(&metadata, &tensors.collect())
}

#[test]
fn files_that_are_no_anchor_are_refused_with_the_tensor() {
    let one = || vec![1];
    let refuse = |tensors: &[(&str, Vec<usize>, &[f32])]| {
        Anchor::from_bytes(&file(tensors, ""))
            .unwrap_err()
            .to_string()
    };
    assert!(refuse(&[("m.u", one(), &[1.0])]).contains("no partner with .v"));
    assert!(refuse(&[("m.v", one(), &[1.0])]).contains("no partner with .u"));
    assert!(refuse(&[("m", one(), &[1.0])]).contains("neither"));
    assert!(refuse(&[]).contains("no usable example"));
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        assert!(refuse(&[("m.u", one(), &[bad]), ("m.v", one(), &[1.0])]).contains("negative"));
    }
    assert!(
        refuse(&[("m.u", vec![1, 1], &[1.0]), ("m.v", one(), &[1.0])]).contains("not a vector")
    );
    assert!(refuse(&[("m.u", vec![0], &[]), ("m.v", one(), &[1.0])]).contains("not a vector"));
}

#[test]
fn missing_metadata_is_refused_by_key() {
    let tensors: [(&str, Vec<usize>, &[f32]); 2] =
        [("m.u", vec![1], &[1.0]), ("m.v", vec![1], &[1.0])];
    assert!(Anchor::from_bytes(&file(&tensors, "")).is_ok());
    for key in ["format", "base_fingerprint", "tokens", "examples"] {
        let said = Anchor::from_bytes(&file(&tensors, key))
            .unwrap_err()
            .to_string();
        assert!(said.contains(key), "{said}");
    }
}

#[test]
fn a_header_that_claims_gigabytes_is_refused_before_it_is_read() {
    let bytes = (1_u64 << 40).to_le_bytes();
    let header = ContainerError::Header { found: 1 << 40 };
    assert_eq!(
        Anchor::from_bytes(&bytes),
        Err(AnchorError::Container(header))
    );
    // One tensor that claims 2^61 values in a file of a few bytes.
    let json = br#"{"m.u":{"dtype":"F32","shape":[2305843009213693951],"data_offsets":[0,9223372036854775804]}}"#;
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json);
    assert!(Anchor::from_bytes(&bytes).is_err());
}

#[test]
fn every_truncation_is_refused() {
    let bytes = anchor().to_bytes();
    for length in 0..bytes.len() {
        assert!(
            Anchor::from_bytes(&bytes[..length]).is_err(),
            "{length} bytes were accepted"
        );
    }
}

proptest! {
    #![proptest_config(fixed_seed())]

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Anchor::from_bytes(&bytes);
    }

    #[test]
    fn any_damage_decodes_or_is_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = anchor().to_bytes();
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Ok(anchor) = Anchor::from_bytes(&bytes) {
            let again = Anchor::from_bytes(&anchor.to_bytes()).unwrap();
            prop_assert_eq!(again.sha256(), anchor.sha256());
        }
    }

    #[test]
    fn any_header_decodes_or_is_refused(header in "[\\[\\]{}\":,a-z0-9_.]{0,80}") {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        let _ = Anchor::from_bytes(&bytes);
    }
}
