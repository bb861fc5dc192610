//! Text to tokens and back, for the tokenizers of Llama-family models.
//!
//! The encoding itself is the `tokenizers` crate's. What is decided here: where a tokenizer comes from
//! ([`Tokenizer::from_folder`], [`Tokenizer::from_gguf`]), and that special tokens are never parsed out of data. A
//! record that contains `<|im_end|>` as text must not be able to end a turn; only the chat template's own text may. So
//! two instances are kept: one that takes such text literally, for data, and one that parses it, for templates.

use crate::chat::ChatTemplate;
use crate::error::LoadError;
use std::path::Path;

mod folder;
mod gguf;
mod specials;
#[cfg(test)]
mod tests;

pub(crate) use specials::Specials;

/// Whether a text opens with the tokens that the model expects at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddSpecial {
    /// Add what the tokenizer adds, e.g. the beginning-of-text token; for whole texts.
    Yes,
    /// Only the text; for continuations, and for templates, which write their own.
    No,
}

/// Text that cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text cannot be tokenized: {what}")]
pub struct EncodeError {
    /// The reason.
    pub what: String,
}

/// A tokenizer with its special tokens and chat template.
#[derive(Debug)]
pub struct Tokenizer {
    /// Takes special tokens in the text as text.
    literal: tokenizers::Tokenizer,
    /// Parses them.
    parsing: tokenizers::Tokenizer,
    specials: Specials,
    bos: Option<u32>,
    eos: Option<u32>,
    chat_template: Option<ChatTemplate>,
    digest: Option<[u8; 32]>,
}

/// What a tokenizer is made of.
struct Parts {
    /// Of the files of a folder; a GGUF file has it all in itself.
    digest: Option<[u8; 32]>,
    tokenizer: tokenizers::Tokenizer,
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
    chat_template: Option<String>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, and beside it `tokenizer_config.json` and `chat_template.jinja` where they exist.
    ///
    /// # Errors
    /// [`LoadError`] with the file.
    pub fn from_folder(folder: &Path) -> Result<Self, LoadError> {
        Self::from_parts(folder::read(folder)?, folder)
    }

    /// Builds the tokenizer from the metadata of a GGUF file; `path` is for messages.
    ///
    /// # Errors
    /// [`LoadError::Tokenizer`] for a kind of tokenizer that is not known, or metadata that does not fit together.
    pub fn from_gguf(header: &crate::gguf::header::Header, path: &Path) -> Result<Self, LoadError> {
        let parts = gguf::build(header).map_err(|what| LoadError::tokenizer(path, what))?;
        Self::from_parts(parts, path)
    }

    fn from_parts(parts: Parts, path: &Path) -> Result<Self, LoadError> {
        let mut parsing = parts.tokenizer;
        parsing.with_padding(None);
        parsing
            .with_truncation(None)
            .map_err(|e| LoadError::tokenizer(path, e.to_string()))?;
        let mut literal = parsing.clone();
        literal.set_encode_special_tokens(true);
        let specials = Specials::of(&parsing, parts.unknown);
        let name = |id: Option<u32>| {
            id.and_then(|id| parsing.id_to_token(id))
                .unwrap_or_default()
        };
        let chat_template = match parts.chat_template {
            None => None,
            Some(source) => Some(
                ChatTemplate::new(&source, &name(parts.bos), &name(parts.eos))
                    .map_err(|e| LoadError::tokenizer(path, e.to_string()))?,
            ),
        };
        Ok(Self {
            literal,
            parsing,
            specials,
            bos: parts.bos,
            eos: parts.eos,
            chat_template,
            digest: parts.digest,
        })
    }

    /// Encodes data: special tokens that stand in the text are encoded as the characters they are.
    ///
    /// # Errors
    /// [`EncodeError`] if the tokenizer refuses the text, or would give a special token for it all the same.
    pub fn encode(&self, text: &str, add: AddSpecial) -> Result<Vec<u32>, EncodeError> {
        let encoding = self
            .literal
            .encode_fast(text, add == AddSpecial::Yes)
            .map_err(|e| EncodeError {
                what: e.to_string(),
            })?;
        let added = encoding.get_special_tokens_mask();
        let ids = encoding.get_ids();
        let parsed = ids
            .iter()
            .zip(added)
            .find(|(id, added)| **added == 0 && self.specials.has(**id));
        match parsed {
            None => Ok(ids.to_vec()),
            Some((id, _)) => Err(EncodeError {
                what: format!(
                    "it would become the special token {:?}; remove it from the text",
                    self.parsing.id_to_token(*id).unwrap_or_default()
                ),
            }),
        }
    }

    /// Encodes text of a chat template, in which special tokens are meant; never give it data.
    ///
    /// # Errors
    /// [`EncodeError`] if the tokenizer refuses the text.
    pub fn encode_template(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        let encoding = self.parsing.encode_fast(text, false);
        Ok(encoding
            .map_err(|e| EncodeError {
                what: e.to_string(),
            })?
            .get_ids()
            .to_vec())
    }

    /// The text of tokens, special ones included; bytes that are no UTF-8 become U+FFFD.
    ///
    /// Unknown ids are left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.parsing.decode(ids, false).unwrap_or_default()
    }

    /// SHA-256 over all that decides which tokens a text becomes; none if the file of the weights holds that too.
    pub(crate) fn digest(&self) -> Option<[u8; 32]> {
        self.digest
    }

    /// The token that opens a text, if the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text or a turn, if the model has one.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Number of tokens, special ones included.
    pub fn vocab_size(&self) -> usize {
        self.parsing.get_vocab_size(true)
    }

    /// The chat template that came with the tokenizer.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    pub(crate) fn specials(&self) -> &Specials {
        &self.specials
    }
}
