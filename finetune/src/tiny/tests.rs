use super::*;
use crate::tokenizer::{AddSpecial, Tokenizer};
use crate::weights::{SafetensorsFolder, WeightSource as _};

#[test]
fn written_folder_holds_every_tensor_and_follows_its_seed() {
    let folder = tempfile::tempdir().unwrap();
    let write = |seed| {
        write(folder.path(), &shape(), seed).unwrap();
        std::fs::read(folder.path().join("model.safetensors")).unwrap()
    };
    let first = write(1);
    assert_ne!(write(2), first);
    assert_eq!(write(1), first);
    let source = SafetensorsFolder::open(folder.path()).unwrap();
    assert_eq!(*source.config(), shape());
    for (name, shape) in tensors(&shape()) {
        let values = source.tensor(&name, &shape).unwrap();
        assert!(values.iter().all(|value| value.is_finite()), "{name}");
    }
}

#[test]
fn byte_tokenizer_knows_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &shape(), 1).unwrap();
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(tokenizer.vocab_size(), VOCAB_SIZE);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(257), Some(258)));
    let text = "Grüße\n\t日本 \u{7f}\u{0}\u{ad}<|im_end|>";
    let ids = tokenizer.encode(text, AddSpecial::Yes).unwrap();
    let bytes: Vec<u32> = text.bytes().map(u32::from).collect();
    assert_eq!(ids, bytes);
    assert_eq!(tokenizer.decode(&ids), text);
}

#[test]
fn untied_model_with_biases_has_its_extra_tensors() {
    let config = LlamaConfig {
        tie_word_embeddings: false,
        architecture: Architecture::Qwen2,
        attention_bias: true,
        ..shape()
    };
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config, 1).unwrap();
    let source = SafetensorsFolder::open(folder.path()).unwrap();
    assert_eq!(*source.config(), config);
    assert!(source.contains("lm_head.weight"));
    assert!(source.contains("model.layers.1.self_attn.k_proj.bias"));
}

#[test]
fn known_shapes_have_their_known_sizes() {
    let parameters = |config: &LlamaConfig| {
        tensors(config)
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum::<usize>()
    };
    assert_eq!(parameters(&smollm2_135m()), 134_515_008);
    assert_eq!(parameters(&llama_3_2_1b()), 1_235_814_400);
    assert_eq!(parameters(&llama_3_1_8b()), 8_030_261_248);
    let small = LlamaConfig {
        vocab_size: 100,
        ..shape()
    };
    let error = write(Path::new("/nowhere"), &small, 1)
        .unwrap_err()
        .to_string();
    assert!(error.contains("a vocabulary of 100"), "{error}");
}
