//! One record to one example.

use super::{Example, Record, RecordError};
use crate::chat::{Conversation, Turn};
use crate::tokenizer::{AddSpecial, Tokenizer};
use std::ops::Range;

/// Tokenizes a record; the flag says whether it was cut.
pub(super) fn example(
    record: &Record,
    line: usize,
    tokenizer: &Tokenizer,
    max_tokens: usize,
) -> Result<(Example, bool), RecordError> {
    let Conversation { tokens, response } = match record {
        Record::Text(text) => text_tokens(text, tokenizer)?,
        Record::Messages(turns) => tokenizer.conversation(turns)?,
        Record::Pair { prompt, completion } if tokenizer.chat_template().is_some() => {
            let turns = [
                Turn::user(prompt.as_str()),
                Turn::assistant(completion.as_str()),
            ];
            tokenizer.conversation(&turns)?
        }
        Record::Pair { prompt, completion } => pair_tokens(prompt, completion, tokenizer)?,
    };
    let window = window(&response, max_tokens);
    let cut = window.len() < tokens.len();
    let example = Example {
        tokens: tokens[window.clone()].to_vec(),
        response: response[window].to_vec(),
        line,
    };
    // The first token of an example is predicted by nothing.
    if !example.response.iter().skip(1).any(|asked| *asked) {
        return Err(RecordError::Empty);
    }
    Ok((example, cut))
}

fn text_tokens(text: &str, tokenizer: &Tokenizer) -> Result<Conversation, RecordError> {
    let tokens = tokenizer.encode(text, AddSpecial::Yes)?;
    let response = vec![true; tokens.len()];
    Ok(Conversation { tokens, response })
}

/// Without a template: the prompt, the completion, and the end-of-text token.
///
/// As one text, because some tokenizers put a space before whatever they are given; unless a token would then reach over the prompt's
/// end, where there is an end when the model is asked.
fn pair_tokens(
    prompt: &str,
    completion: &str,
    tokenizer: &Tokenizer,
) -> Result<Conversation, RecordError> {
    let asked = tokenizer.encode(prompt, AddSpecial::Yes)?;
    let given = asked.len();
    let joint = tokenizer.encode(&format!("{prompt}{completion}"), AddSpecial::Yes)?;
    let mut tokens = if joint.starts_with(&asked) {
        joint
    } else {
        [asked, tokenizer.encode(completion, AddSpecial::No)?].concat()
    };
    tokens.extend(tokenizer.eos());
    let response = (0..tokens.len()).map(|index| index >= given).collect();
    Ok(Conversation { tokens, response })
}

/// The part of an over-long example that is kept.
///
/// Its head, if a quarter of the limit or the whole response fits in it behind the prompt; otherwise the prompt loses its
/// beginning, so that this much of the response is kept.
pub(super) fn window(response: &[bool], max_tokens: usize) -> Range<usize> {
    let length = response.len();
    if length <= max_tokens {
        return 0..length;
    }
    let first = response.iter().position(|asked| *asked).unwrap_or(0);
    let wanted = (length - first).min(max_tokens.div_ceil(4));
    let start = (first + wanted).saturating_sub(max_tokens);
    start..start + max_tokens
}
