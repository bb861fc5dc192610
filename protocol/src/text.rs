//! Short free text on the wire: reasons and software names.
//!
//! Text from a peer ends up in logs and on terminals, so the type itself excludes what could harm them: control
//! characters, line and paragraph separators, and the characters that reorder a line on screen.

use std::fmt;

use serde::{Deserialize, Serialize};

/// At most [`TEXT_BYTES_MAX`] bytes of UTF-8 on one line, safe to print.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text(String);

impl Text {
    /// Makes a text from our own words: unsafe characters become spaces, and what is too long is cut.
    pub fn new(words: &str) -> Self {
        let mut text = String::new();
        for character in words.chars() {
            let character = if is_unsafe(character) { ' ' } else { character };
            if TEXT_BYTES_MAX < text.len() + character.len_utf8() {
                break;
            }
            text.push(character);
        }
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Text {
    fn from(words: &str) -> Self {
        Self::new(words)
    }
}

impl TryFrom<String> for Text {
    type Error = TextError;

    /// Takes a text from the wire: nothing is repaired.
    fn try_from(text: String) -> Result<Self, TextError> {
        if TEXT_BYTES_MAX < text.len() {
            return Err(TextError::TooLong { found: text.len() });
        }
        if text.chars().any(is_unsafe) {
            return Err(TextError::Unprintable);
        }
        Ok(Self(text))
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

/// Control characters, separators that end a line, and the bidirectional controls.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text from a peer that may not be printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// Longer than [`TEXT_BYTES_MAX`].
    #[error("a text of {found} bytes is longer than {TEXT_BYTES_MAX}")]
    TooLong {
        /// The length in bytes.
        found: usize,
    },
    /// Holds control or reordering characters.
    #[error("a text holds characters that may not be printed")]
    Unprintable,
}

/// The longest text, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_words_are_made_safe_and_cut_at_a_character() {
        assert_eq!(Text::new("a\nb\u{202e}c").as_str(), "a b c");
        let long = Text::new(&"ä".repeat(400));
        assert_eq!(long.as_str().len(), 512);
    }

    #[test]
    fn a_peers_words_are_taken_whole_or_not_at_all() {
        assert_eq!(
            Text::try_from("a\tb".to_owned()),
            Err(TextError::Unprintable)
        );
        assert_eq!(
            Text::try_from("x".repeat(513)),
            Err(TextError::TooLong { found: 513 })
        );
        assert!(Text::try_from("x".repeat(512)).is_ok());
    }
}
