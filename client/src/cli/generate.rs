//! `foedus-client generate`.

use std::ops::ControlFlow;

use finetune::{
    chat::Turn,
    generate::Sampling,
    tokenizer::{AddSpecial, Tokenizer},
};

use super::{
    answer::{self, say},
    arguments::GenerateArguments,
    failure::Failure,
    open,
};

/// Answers the prompt on stdout, as it is generated.
pub(super) fn generate(arguments: &GenerateArguments) -> Result<(), Failure> {
    let base = open::base(&arguments.model)?;
    let adapter = arguments
        .adapter
        .as_deref()
        .map(|folder| open::adapter(folder, &base));
    let adapter = adapter.transpose()?;
    let prompt = prompt(arguments, &base.tokenizer)?;
    let sampling = Sampling {
        temperature: arguments.temperature,
        top_p: arguments.top_p,
        max_new_tokens: arguments.max_new_tokens,
        seed: arguments.seed,
    };
    let mut made = Vec::new();
    let mut shown = String::new();
    let mut heard = Ok(true);
    finetune::generate::generate(
        &base,
        adapter.as_ref().map(|read| &read.adapter),
        &prompt,
        &sampling,
        &mut |token| {
            made.push(token);
            let text = base.tokenizer.decode(&made);
            // A character may be spread over tokens: it is shown once it is whole.
            if !text.ends_with('\u{fffd}')
                && let Some(fresh) = text.strip_prefix(shown.as_str())
            {
                heard = answer::part(format_args!("{fresh}"));
                // Nobody who listens, nothing to go on for.
                if !matches!(heard, Ok(true)) {
                    return ControlFlow::Break(());
                }
                shown = text;
            }
            ControlFlow::Continue(())
        },
    )
    .map_err(anyhow::Error::from)?;
    heard?;
    say!("")?;
    Ok(())
}

/// Tokenizes the prompt: as the user's turn, or as it stands.
fn prompt(arguments: &GenerateArguments, tokenizer: &Tokenizer) -> Result<Vec<u32>, Failure> {
    if arguments.raw || tokenizer.chat_template().is_none() {
        let tokens = tokenizer.encode(&arguments.prompt, AddSpecial::Yes);
        return Ok(tokens.map_err(anyhow::Error::from)?);
    }
    let tokens = tokenizer.chat_prompt(&[Turn::user(&arguments.prompt)]);
    Ok(tokens.map_err(anyhow::Error::from)?)
}
