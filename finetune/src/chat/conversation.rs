//! Tokens of a conversation, and which of them the assistant said.
//!
//! The assistant's part is found by rendering, not by searching: the text up to a turn with the assistant's opening, then
//! the text with that turn; the second must begin with the first, and the rest is what the model would have had to
//! write. Its end-of-turn token belongs to it; what the template writes after that does not.
//!
//! Special tokens inside the turns' own text are broken up before rendering by a character that occurs nowhere else,
//! and the text is tokenized in pieces between these characters. So no turn can forge another one, and text without
//! special tokens is tokenized exactly as transformers does it.

use super::{ChatError, Ending, Turn};
use crate::tokenizer::{EncodeError, Tokenizer};
use std::ops::Range;

/// Private-use characters; one that no turn uses becomes the marker.
const MARKERS: std::ops::RangeInclusive<char> = '\u{f8d0}'..='\u{f8ff}';

/// A tokenized conversation up to the end of the last answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// All tokens.
    pub tokens: Vec<u32>,
    /// For each token, whether the assistant said it.
    pub response: Vec<bool>,
}

impl Tokenizer {
    /// Tokenizes a conversation that the model is to continue.
    ///
    /// # Errors
    /// [`ChatError`] without a template, or if it refuses the turns.
    pub fn chat_prompt(&self, turns: &[Turn]) -> Result<Vec<u32>, ChatError> {
        let guarded = Guarded::new(self, turns)?;
        let text = guarded.render(turns.len(), Ending::Open)?;
        Ok(guarded.encode(&text)?)
    }

    /// Tokenizes a conversation to learn from.
    ///
    /// # Errors
    /// [`ChatError`] without a template or without an assistant's turn, or if the turns cannot be told apart.
    pub fn conversation(&self, turns: &[Turn]) -> Result<Conversation, ChatError> {
        let guarded = Guarded::new(self, turns)?;
        let full = guarded.render(turns.len(), Ending::Closed)?;
        let mut answers = Vec::new();
        for (index, turn) in guarded.turns.iter().enumerate() {
            if turn.role == "assistant" {
                answers.push(guarded.answer(index, &full)?);
            }
        }
        let end = answers.last().ok_or(ChatError::NoAssistant)?.end;
        Ok(guarded.tokenize(&full[..end], &answers)?)
    }
}

/// Turns whose text holds no special token any more.
struct Guarded<'a> {
    tokenizer: &'a Tokenizer,
    turns: Vec<Turn>,
    marker: char,
}

impl<'a> Guarded<'a> {
    fn new(tokenizer: &'a Tokenizer, turns: &[Turn]) -> Result<Self, ChatError> {
        let texts = || turns.iter().flat_map(|turn| [&turn.role, &turn.content]);
        let marker = MARKERS
            .into_iter()
            .find(|marker| !texts().any(|text| text.contains(*marker)))
            .ok_or_else(|| EncodeError {
                what: "it uses every private-use character from U+F8D0 to U+F8FF".to_owned(),
            })?;
        let specials = tokenizer.specials();
        let turns = turns
            .iter()
            .map(|turn| Turn {
                role: specials.broken_up(&turn.role, marker),
                content: specials.broken_up(&turn.content, marker),
            })
            .collect();
        Ok(Self {
            tokenizer,
            turns,
            marker,
        })
    }

    fn render(&self, count: usize, ending: Ending) -> Result<String, ChatError> {
        let template = self
            .tokenizer
            .chat_template()
            .ok_or(ChatError::NoTemplate)?;
        template.render(&self.turns[..count], ending)
    }

    /// The bytes of `full` that the assistant's turn `index` is, end of turn included.
    fn answer(&self, index: usize, full: &str) -> Result<Range<usize>, ChatError> {
        let rewritten = ChatError::Rewritten { turn: index + 1 };
        let prompt = self.render(index, Ending::Open)?;
        let through = self.render(index + 1, Ending::Closed)?;
        if !full.starts_with(&through) {
            return Err(rewritten);
        }
        let Some(answer) = through.strip_prefix(&prompt) else {
            return Err(rewritten);
        };
        let content = self.turns[index].content.trim();
        let said = answer.find(content).ok_or(rewritten)? + content.len();
        let end = self
            .tokenizer
            .specials()
            .find(answer, said)
            .map_or(answer.len(), |end| end.end);
        Ok(prompt.len()..prompt.len() + end)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        let mut ids = Vec::new();
        for piece in text.split(self.marker).filter(|piece| !piece.is_empty()) {
            ids.extend(self.tokenizer.encode_template(piece)?);
        }
        self.check_specials(text, &ids)?;
        Ok(ids)
    }

    /// Every special token must be one that the template wrote.
    fn check_specials(&self, text: &str, ids: &[u32]) -> Result<(), EncodeError> {
        let specials = self.tokenizer.specials();
        let found = ids.iter().filter(|id| specials.has(**id)).count();
        let (mut written, mut from) = (0, 0);
        while let Some(range) = specials.find(text, from) {
            (written, from) = (written + 1, range.end);
        }
        if found > written {
            return Err(EncodeError {
                what: "a turn holds text that the tokenizer takes for a special token; remove it"
                    .to_owned(),
            });
        }
        Ok(())
    }

    fn tokenize(&self, text: &str, answers: &[Range<usize>]) -> Result<Conversation, EncodeError> {
        let cuts: Vec<usize> = answers
            .iter()
            .flat_map(|answer| [answer.start, answer.end])
            .collect();
        let tokens = self.encode(text)?;
        let mut lengths = Vec::with_capacity(cuts.len());
        for cut in &cuts {
            let head = self.encode(&text[..*cut])?;
            if !tokens.starts_with(&head) {
                return self.tokenize_in_pieces(text, &cuts);
            }
            lengths.push(head.len());
        }
        let mut response = vec![false; tokens.len()];
        for answer in lengths.as_chunks::<2>().0 {
            response[answer[0]..answer[1]].fill(true);
        }
        Ok(Conversation { tokens, response })
    }

    /// For templates where a token would reach over an answer's border: the border wins, as it does when generating.
    fn tokenize_in_pieces(&self, text: &str, cuts: &[usize]) -> Result<Conversation, EncodeError> {
        let mut conversation = Conversation {
            tokens: Vec::new(),
            response: Vec::new(),
        };
        let mut from = 0;
        for (index, cut) in cuts.iter().enumerate() {
            conversation.tokens.extend(self.encode(&text[from..*cut])?);
            conversation
                .response
                .resize(conversation.tokens.len(), index % 2 == 1);
            from = *cut;
        }
        Ok(conversation)
    }
}
