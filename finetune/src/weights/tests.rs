use super::*;
use crate::weights::safetensors_folder::check_header;
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};

fn config_json() -> &'static str {
    r#"{"model_type": "llama", "vocab_size": 4, "hidden_size": 4, "intermediate_size": 4,
        "num_hidden_layers": 1, "num_attention_heads": 2}"#
}

fn file_bytes(tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (*name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config_json()).unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn three_types() -> Vec<u8> {
    let f16s: Vec<u8> = [1.0f32, -2.5]
        .iter()
        .flat_map(|v| half::f16::from_f32(*v).to_le_bytes())
        .collect();
    let bf16s: Vec<u8> = [1.0f32, -2.5]
        .iter()
        .flat_map(|v| half::bf16::from_f32(*v).to_le_bytes())
        .collect();
    let f32s: Vec<u8> = [1.0f32, -2.5]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    file_bytes(&[
        ("a", Dtype::F32, vec![1, 2], f32s),
        ("b", Dtype::F16, vec![2], f16s),
        ("c", Dtype::BF16, vec![2, 1], bf16s),
        ("d", Dtype::I8, vec![1], vec![0]),
    ])
}

#[test]
fn three_float_types_widen_to_f32_and_others_are_refused() {
    let folder = folder(&[("model.safetensors", &three_types())]);
    let source = SafetensorsFolder::open(folder.path()).unwrap();
    assert_eq!(source.tensor("a", &[1, 2]).unwrap(), [1.0, -2.5]);
    assert_eq!(source.tensor("b", &[2]).unwrap(), [1.0, -2.5]);
    assert_eq!(source.tensor("c", &[2, 1]).unwrap(), [1.0, -2.5]);
    let error = source.tensor("d", &[1]).unwrap_err().to_string();
    assert!(error.contains("tensor d is I8"), "{error}");
    assert!(source.config().tie_word_embeddings, "no lm_head means tied");
}

#[test]
fn missing_tensor_and_wrong_shape_are_named() {
    let folder = folder(&[("model.safetensors", &three_types())]);
    let source = SafetensorsFolder::open(folder.path()).unwrap();
    assert!(!source.contains("x"));
    assert!(matches!(
        source.tensor("x", &[1]),
        Err(LoadError::MissingTensor { .. })
    ));
    let error = source.tensor("a", &[2, 2]).unwrap_err().to_string();
    assert!(
        error.contains("tensor a in ") && error.contains("[1, 2]"),
        "{error}"
    );
}

#[test]
fn shards_of_an_index_are_one_source() {
    let one = file_bytes(&[("x", Dtype::F32, vec![1], 1.0f32.to_le_bytes().to_vec())]);
    let two = file_bytes(&[("y", Dtype::F32, vec![1], 2.0f32.to_le_bytes().to_vec())]);
    let index = br#"{"metadata": {}, "weight_map": {"x": "1.safetensors", "y": "2.safetensors"}}"#;
    let good = folder(&[
        ("1.safetensors", &one),
        ("2.safetensors", &two),
        ("model.safetensors.index.json", index),
    ]);
    let source = SafetensorsFolder::open(good.path()).unwrap();
    assert_eq!(source.tensor("x", &[1]).unwrap(), [1.0]);
    assert_eq!(source.tensor("y", &[1]).unwrap(), [2.0]);

    let absent = folder(&[
        ("1.safetensors", &one),
        ("model.safetensors.index.json", index),
    ]);
    let error = SafetensorsFolder::open(absent.path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("2.safetensors"), "{error}");

    let hostile = br#"{"weight_map": {"x": "../../etc/passwd"}}"#;
    let outside = folder(&[("model.safetensors.index.json", hostile)]);
    let error = SafetensorsFolder::open(outside.path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("plain file name"), "{error}");
}

#[test]
fn truncated_file_is_refused_at_every_length() {
    let whole = three_types();
    for length in 0..whole.len() {
        let error = check_header(&whole[..length]).unwrap_err().to_string();
        assert!(error.contains("any is damaged"), "{length}: {error}");
    }
    check_header(&whole).unwrap();
    let cut = check_header(&whole[..whole.len() - 3])
        .unwrap_err()
        .to_string();
    assert!(cut.contains("truncated in tensor"), "{cut}");
    let mut longer = whole;
    longer.push(0);
    assert!(check_header(&longer).is_err());
}

#[test]
fn stories_folder_opens_and_its_tensors_have_the_configured_shapes() {
    let Some(stories) = crate::shared::models("stories260K") else {
        return;
    };
    let source = SafetensorsFolder::open(&stories).unwrap();
    let config = source.config().clone();
    assert_eq!(
        (
            config.hidden_size,
            config.num_key_value_heads,
            config.head_dim
        ),
        (64, 4, 8)
    );
    let embedding = source
        .tensor("model.embed_tokens.weight", &[512, 64])
        .unwrap();
    assert_eq!(embedding.len(), 512 * 64);
    assert!(source.contains("model.layers.4.mlp.down_proj.weight"));
}

proptest! {
    #![proptest_config(crate::properties::fixed_seed())]

    #[test]
    fn any_bytes_are_refused_or_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = check_header(&bytes);
    }

    #[test]
    fn damaged_header_never_panics(at in 0usize..400, byte in any::<u8>()) {
        let mut bytes = three_types();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = check_header(&bytes);
    }
}
