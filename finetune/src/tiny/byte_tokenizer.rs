//! A tokenizer with one token a byte, as the files of a Hugging Face folder.

use serde_json::{Map, json};

/// Ends a text; also the unknown token's place in many vocabularies.
const TEXT_END: u32 = 256;
/// Opens a turn.
pub(super) const START: u32 = 257;
/// Ends a turn.
pub(super) const END: u32 = 258;

/// The ChatML layout, without the default system turn that some models put first.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// The character that stands for a byte in byte-level vocabularies (GPT-2's `bytes_to_unicode`).
fn letter(byte: u8) -> char {
    let printable = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|b| !printable(*b)).count() as u32;
    char::from_u32(256 + before).expect("at most 68 bytes are not printable")
}

pub(super) fn json() -> String {
    let mut vocabulary = Map::new();
    for byte in 0..=255u8 {
        vocabulary.insert(letter(byte).to_string(), byte.into());
    }
    let special = [
        ("<|endoftext|>", TEXT_END),
        ("<|im_start|>", START),
        ("<|im_end|>", END),
    ];
    let added: Vec<_> = special
        .into_iter()
        .map(|(content, id)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": []},
    })
    .to_string()
}

pub(super) fn config_json() -> String {
    json!({
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "chat_template": CHAT_TEMPLATE,
    })
    .to_string()
}
