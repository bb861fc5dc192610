//! Conversations as the model's chat template writes them.
//!
//! Templates are Jinja, as in Hugging Face tokenizers, rendered by minijinja with Python's string methods. They come with
//! the model and are code of a stranger: they see only the turns, and their steps are bounded. [`Conversation`] is the
//! tokenized form with the mask of what the assistant said.

use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};

mod conversation;
#[cfg(test)]
mod tests;

pub use conversation::Conversation;

/// Steps that one rendering may take; a conversation of thousands of turns needs fewer.
const STEPS_MAX: u64 = 5_000_000;
/// The template's name inside its environment; without a suffix, nothing is escaped.
const NAME: &str = "chat";

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who speaks: `system`, `user` or `assistant` in most templates.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Turn {
    /// A turn of any role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// What the assistant says.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

/// How a rendering ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// After the last turn.
    Closed,
    /// With the opening of an assistant's turn, for the model to continue.
    Open,
}

/// A conversation or template that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// The template is not valid.
    #[error("the chat template is not valid: {what}")]
    Template {
        /// What the template engine says.
        what: String,
    },
    /// The template refuses the conversation.
    #[error("the chat template refuses the conversation: {what}")]
    Refused {
        /// What the template engine says.
        what: String,
    },
    /// There is no template.
    #[error(
        "the tokenizer has no chat template; use records with prompt and completion, or a model with one"
    )]
    NoTemplate,
    /// Nobody answers.
    #[error("the conversation has no assistant turn to learn from")]
    NoAssistant,
    /// What the assistant said cannot be told apart from the rest.
    #[error(
        "the chat template writes earlier turns differently once turn {turn} follows, so the answer cannot be told apart"
    )]
    Rewritten {
        /// The assistant's turn, counted from 1.
        turn: usize,
    },
    /// A text cannot be tokenized.
    #[error(transparent)]
    Encode(#[from] crate::tokenizer::EncodeError),
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`ChatError::Template`] with the line.
    pub fn new(source: &str, bos_token: &str, eos_token: &str) -> Result<Self, ChatError> {
        let mut environment = Environment::new();
        // As transformers sets up Jinja.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(STEPS_MAX));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |what: String| -> Result<Value, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, what))
            },
        );
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|e| ChatError::Template {
                what: e.to_string(),
            })?;
        Ok(Self {
            environment,
            bos_token: bos_token.to_owned(),
            eos_token: eos_token.to_owned(),
        })
    }

    /// Writes the turns as text.
    ///
    /// # Errors
    /// [`ChatError::Refused`] if the template raises an exception, e.g. for a role that it does not know.
    pub fn render(&self, turns: &[Turn], ending: Ending) -> Result<String, ChatError> {
        let refused = |e: minijinja::Error| ChatError::Refused {
            what: e.to_string(),
        };
        let template = self.environment.get_template(NAME).map_err(refused)?;
        template
            .render(context! {
                messages => turns,
                bos_token => self.bos_token,
                eos_token => self.eos_token,
                add_generation_prompt => ending == Ending::Open,
            })
            .map_err(refused)
    }
}
