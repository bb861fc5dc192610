//! Continues a prompt token by token, greedily or by seeded sampling.
//!
//! Tokens in, tokens out: chat templates and text belong to the tokenizer. One sequence at a time, with the key/value
//! cache of the model; a server for many is not this.

mod sample;

use std::ops::ControlFlow;

use aggregation::Adapter;

use self::sample::Sampler;
use crate::{base::BaseModel, generate_cache::KvCache, lora::LoraFactors, model::ModelError};

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token always. Default 0.
    pub temperature: f64,
    /// Draws from the likeliest tokens that together have this probability. Default 1, which is all of them.
    pub top_p: f64,
    /// Tokens to generate at most. Default 128.
    pub max_new_tokens: usize,
    /// Seed of the draws. Default 0.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            max_new_tokens: 128,
            seed: 0,
        }
    }
}

/// A prompt that cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// There is nothing to continue.
    #[error("the prompt holds no token: give at least one word")]
    EmptyPrompt,
    /// The model has no room for the prompt.
    #[error("the prompt has {found} tokens, but the model's context ends at {limit}: shorten it")]
    LongPrompt {
        /// Tokens of the prompt.
        found: usize,
        /// The model's context length.
        limit: usize,
    },
    /// A sampling value is out of bounds.
    #[error("{field} is {found}: {rule}")]
    Sampling {
        /// The field of [`Sampling`].
        field: &'static str,
        /// Its value.
        found: f64,
        /// What it must be.
        rule: &'static str,
    },
    /// The model could not compute.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Continues `prompt` until an end-of-text or end-of-turn token, the token limit, or the observer's break.
///
/// The observer hears of each token as it is chosen, for streaming. The end token is neither reported nor returned.
///
/// # Errors
/// [`GenerateError`] for an empty or over-long prompt and for sampling values out of bounds.
pub fn generate(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    prompt: &[u32],
    sampling: &Sampling,
    observe: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Result<Vec<u32>, GenerateError> {
    let mut sampler = Sampler::new(sampling)?;
    let limit = base.llama.config().max_position_embeddings;
    if prompt.is_empty() {
        return Err(GenerateError::EmptyPrompt);
    }
    if prompt.len() >= limit {
        return Err(GenerateError::LongPrompt {
            found: prompt.len(),
            limit,
        });
    }
    let factors = adapter
        .map(|adapter| LoraFactors::upload(adapter, base.llama.device()))
        .transpose()?;
    let ends = end_tokens(base);
    let mut cache = KvCache::new(base.llama.config());
    let mut made: Vec<u32> = Vec::new();
    let room = sampling.max_new_tokens.min(limit - prompt.len());
    let mut logits = base.llama.decode(&mut cache, prompt, factors.as_ref())?;
    while made.len() < room {
        let token = sampler.choose(&logits);
        if ends.contains(&token) {
            break;
        }
        made.push(token);
        if observe(token).is_break() || made.len() == room {
            break;
        }
        logits = base.llama.decode(&mut cache, &[token], factors.as_ref())?;
    }
    Ok(made)
}

/// Gives the tokens that end a text or a turn: those of the configuration and the tokenizer's own.
pub(crate) fn end_tokens(base: &BaseModel) -> Vec<u32> {
    let mut ends = base.llama.config().eos_token_ids.clone();
    ends.extend(base.tokenizer.eos());
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::Batch, train::fixture};

    fn go_on(_: u32) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn cached_greedy_tokens_are_the_likeliest_of_the_full_pass() {
        let base = fixture::base();
        let mut text = base
            .tokenizer
            .encode("hello", crate::tokenizer::AddSpecial::Yes)
            .unwrap();
        let sampling = Sampling {
            max_new_tokens: 6,
            ..Sampling::default()
        };
        let made = generate(&base, None, &text, &sampling, &mut go_on).unwrap();
        for &token in &made {
            let logits = base.llama.logits(&Batch::of_texts(&[&text]), None).unwrap();
            let last = &logits[logits.len() - base.llama.config().vocab_size..];
            let gap = last.iter().copied().fold(f32::MIN, f32::max) - last[token as usize];
            assert!(gap < 1e-4, "token {token} is {gap} below the likeliest");
            text.push(token);
        }
    }

    #[test]
    fn seed_decides_the_sample() {
        let base = fixture::base();
        let sample = |seed| {
            let sampling = Sampling {
                temperature: 1.0,
                max_new_tokens: 16,
                seed,
                ..Sampling::default()
            };
            generate(&base, None, &[104, 105], &sampling, &mut go_on).unwrap()
        };
        assert_eq!(sample(1), sample(1));
        assert_ne!(sample(1), sample(2));
    }

    #[test]
    fn observer_may_break_off() {
        let base = fixture::base();
        let mut heard = 0;
        let mut stop = |_| {
            heard += 1;
            if heard == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let made = generate(&base, None, &[104], &Sampling::default(), &mut stop).unwrap();
        assert_eq!(made.len(), 2);
    }

    #[test]
    fn prompts_without_room_are_refused() {
        let base = fixture::base();
        let refused = |prompt: &[u32]| {
            let made = generate(&base, None, prompt, &Sampling::default(), &mut go_on);
            made.unwrap_err().to_string()
        };
        assert!(refused(&[]).starts_with("the prompt holds no token"));
        let long = refused(&vec![104; 512]);
        assert!(
            long.contains("512 tokens, but the model's context ends at 512"),
            "{long}"
        );
    }
}
