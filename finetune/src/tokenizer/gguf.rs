//! A tokenizer from GGUF metadata: byte-level BPE with the pre-tokenizers of known model families.
//!
//! The file holds vocabulary and merges, but names its pre-tokenizer only by a word (`tokenizer.ggml.pre`); what the
//! word means is in llama.cpp (llama-vocab.cpp) and in each family's own tokenizer.json, which is followed here.

use super::Parts;
use crate::gguf::header::Header;
use ahash::AHashMap;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior};

/// `LLAMA_TOKEN_TYPE_CONTROL`.
const CONTROL: i64 = 3;
/// `LLAMA_TOKEN_TYPE_USER_DEFINED`.
const USER_DEFINED: i64 = 4;

const LLAMA3_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a family cuts text into words before merging.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Digits one by one, then GPT-2's rule.
    Smollm,
    /// GPT-2's rule.
    Gpt2,
    Llama3,
    Qwen2,
}

pub(super) fn build(header: &Header) -> Result<Parts, String> {
    match header.text("tokenizer.ggml.model") {
        Some("gpt2") => (),
        Some(other) => {
            return Err(format!(
                "its kind {other:?} is not read from GGUF, only gpt2 (byte-level BPE) is; \
                 use the Hugging Face folder of the model"
            ));
        }
        None => return Err("metadata tokenizer.ggml.model is missing".to_owned()),
    }
    let family = match header.text("tokenizer.ggml.pre") {
        Some("smollm") => Family::Smollm,
        Some("llama-bpe" | "llama3" | "llama-v3") => Family::Llama3,
        Some("qwen2") => Family::Qwen2,
        None | Some("default" | "gpt-2") => Family::Gpt2,
        Some(other) => {
            return Err(format!(
                "its pre-tokenizer {other:?} is not known; smollm, llama-bpe, qwen2, gpt-2 and default are; \
                 use the Hugging Face folder of the model"
            ));
        }
    };
    let mut tokenizer = tokenizers::Tokenizer::new(model(header, family)?);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer(family)?));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
    if family == Family::Qwen2 {
        tokenizer
            .with_normalizer(Some(NFC))
            .map_err(|e| e.to_string())?;
    }
    tokenizer
        .add_special_tokens(added(header, true)?)
        .map_err(|e| e.to_string())?;
    tokenizer
        .add_tokens(added(header, false)?)
        .map_err(|e| e.to_string())?;
    let token = |kind: &str| crate::gguf::special_token(header, kind);
    let bos = token("bos");
    if header
        .flag("tokenizer.ggml.add_bos_token")
        .unwrap_or(family == Family::Llama3)
        && let Some(bos) = bos
    {
        let opening = opening(&tokenizer, bos)?;
        tokenizer.with_post_processor(Some(opening));
    }
    Ok(Parts {
        tokenizer,
        bos,
        eos: token("eos"),
        unknown: token("unknown"),
        chat_template: header.text("tokenizer.chat_template").map(str::to_owned),
        digest: None,
    })
}

fn tokens(header: &Header) -> Result<&[String], String> {
    header
        .texts("tokenizer.ggml.tokens")
        .ok_or_else(|| "metadata tokenizer.ggml.tokens is missing".to_owned())
}

fn model(header: &Header, family: Family) -> Result<BPE, String> {
    let tokens = tokens(header)?;
    let mut vocabulary = AHashMap::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        let id = u32::try_from(id).map_err(|_| "too many tokens".to_owned())?;
        vocabulary.insert(token.clone(), id);
    }
    let merges = header
        .texts("tokenizer.ggml.merges")
        .ok_or("metadata tokenizer.ggml.merges is missing")?
        .iter()
        .map(|merge| {
            let (left, right) = merge
                .split_once(' ')
                .ok_or_else(|| format!("merge {merge:?} is not a pair"))?;
            Ok((left.to_owned(), right.to_owned()))
        })
        .collect::<Result<Vec<_>, String>>()?;
    BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .ignore_merges(family == Family::Llama3)
        .build()
        .map_err(|e| format!("vocabulary and merges do not fit: {e}"))
}

fn pre_tokenizer(family: Family) -> Result<PreTokenizerWrapper, String> {
    let split = |pattern: &str| {
        Split::new(
            SplitPattern::Regex(pattern.to_owned()),
            SplitDelimiterBehavior::Isolated,
            false,
        )
        .map_err(|e| e.to_string())
    };
    let words = ByteLevel::new(false, true, true);
    let bytes = ByteLevel::new(false, true, false);
    Ok(match family {
        Family::Gpt2 => words.into(),
        Family::Smollm => Sequence::new(vec![Digits::new(true).into(), words.into()]).into(),
        Family::Llama3 => Sequence::new(vec![split(LLAMA3_SPLIT)?.into(), bytes.into()]).into(),
        Family::Qwen2 => Sequence::new(vec![split(QWEN2_SPLIT)?.into(), bytes.into()]).into(),
    })
}

fn added(header: &Header, special: bool) -> Result<Vec<AddedToken>, String> {
    let wanted = if special { CONTROL } else { USER_DEFINED };
    let tokens = tokens(header)?;
    let Some(kinds) = header.integers("tokenizer.ggml.token_type") else {
        return Ok(Vec::new());
    };
    if kinds.len() != tokens.len() {
        return Err(format!(
            "{} tokens, but {} token types",
            tokens.len(),
            kinds.len()
        ));
    }
    let of_kind = tokens
        .iter()
        .zip(kinds)
        .filter(|(_, kind)| **kind == wanted);
    Ok(of_kind
        .map(|(token, _)| AddedToken::from(token.clone(), special).normalized(false))
        .collect())
}

/// Puts the beginning-of-text token before every whole text.
fn opening(tokenizer: &tokenizers::Tokenizer, bos: u32) -> Result<TemplateProcessing, String> {
    let name = tokenizer
        .id_to_token(bos)
        .ok_or_else(|| format!("the beginning-of-text token {bos} is not in the vocabulary"))?;
    TemplateProcessing::builder()
        .try_single(vec![name.clone(), "$A".to_owned()])
        .map_err(|e| format!("cannot open texts with {name:?}: {e}"))?
        .special_tokens(vec![(name, bos)])
        .build()
        .map_err(|e| e.to_string())
}
