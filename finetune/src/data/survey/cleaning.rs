//! Untidy text: what is wrong with it, and the same text without it where that cannot change what it says.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;
use serde_json::Value;

/// A way in which text is untidy.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Untidiness {
    /// Characters that nobody sees: controls, marks of byte order, soft hyphens. Taken out.
    Invisible,
    /// Carriage returns. They become line breaks.
    CarriageReturns,
    /// Spaces that cannot be broken, spaces at the end of a line, or more than two line breaks on end. They become ordinary ones.
    Spaces,
    /// Replacement characters (U+FFFD): something was lost when the file was made. Left.
    Lost,
    /// What UTF-8 looks like that was read in another encoding, as "Ã¼" for "ü". Left.
    Misread,
}

impl Untidiness {
    /// Whether a cleaned copy is without it.
    pub fn is_mended(self) -> bool {
        !matches!(self, Self::Lost | Self::Misread)
    }
}

impl fmt::Display for Untidiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invisible => "characters that nobody sees",
            Self::CarriageReturns => "carriage returns",
            Self::Spaces => "spaces at line ends, fixed spaces or heaps of empty lines",
            Self::Lost => "replacement characters (U+FFFD), where something was lost",
            Self::Misread => "UTF-8 that was read in another encoding",
        })
    }
}

/// What a line of JSON is with its texts tidied.
pub(super) struct CleanLine {
    /// The line, if it had to be mended.
    pub(super) mended: Option<String>,
    pub(super) untidy: Vec<Untidiness>,
}

/// Tidies what a training reads of a line; its other fields stay as they are.
pub(super) fn clean_line(text: &str) -> Result<CleanLine, String> {
    let mut line: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut untidy = BTreeSet::new();
    for key in ["text", "prompt", "completion"] {
        if let Some(Value::String(text)) = line.get_mut(key) {
            *text = clean(text, &mut untidy);
        }
    }
    if let Some(Value::Array(turns)) = line.get_mut("messages") {
        for turn in turns {
            if let Some(Value::String(text)) = turn.get_mut("content") {
                *text = clean(text, &mut untidy);
            }
        }
    }
    let is_mended = untidy.iter().any(|untidiness| untidiness.is_mended());
    Ok(CleanLine {
        mended: is_mended.then(|| line.to_string()),
        untidy: untidy.into_iter().collect(),
    })
}

/// Tidies a text, and notes what was untidy.
fn clean(text: &str, untidy: &mut BTreeSet<Untidiness>) -> String {
    if text.contains('\u{fffd}') {
        untidy.insert(Untidiness::Lost);
    }
    if is_misread(text) {
        // What looks like a control in it is half of a character, by which it can still be mended.
        untidy.insert(Untidiness::Misread);
        return text.to_owned();
    }
    let mut tidy = text.to_owned();
    let mut step = |untidiness, next: String| {
        if next != tidy {
            untidy.insert(untidiness);
            tidy = next;
        }
        tidy.clone()
    };
    let text = step(
        Untidiness::CarriageReturns,
        text.replace("\r\n", "\n").replace('\r', "\n"),
    );
    let text = step(
        Untidiness::Invisible,
        text.chars().filter(|&c| !is_invisible(c)).collect(),
    );
    step(Untidiness::Spaces, spaced(&text))
}

fn is_invisible(character: char) -> bool {
    let is_kept = matches!(character, '\n' | '\t');
    let is_mark = matches!(character, '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}');
    (character.is_control() && !is_kept) || is_mark
}

/// Ordinary spaces for fixed ones, none before a line break, and two line breaks on end at most. What is at either end of the text stays:
/// a completion may begin with a space because its prompt ends without one.
fn spaced(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\u{a0}' | '\u{202f}' => spaced.push(' '),
            '\n' => {
                spaced.truncate(spaced.trim_end_matches([' ', '\t']).len());
                if !spaced.ends_with("\n\n") {
                    spaced.push('\n');
                }
            }
            other => spaced.push(other),
        }
    }
    spaced
}

/// Whether two characters stand side by side that are the bytes of one in UTF-8, read as Latin-1 or Windows-1252.
fn is_misread(text: &str) -> bool {
    let pairs = text.chars().zip(text.chars().skip(1));
    pairs.into_iter().any(|pair| {
        matches!(
            pair,
            ('\u{c2}'..='\u{c3}', '\u{80}'..='\u{bf}') | ('\u{e2}', '\u{80}' | '\u{20ac}')
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(text: &str) -> (String, Vec<Untidiness>) {
        let mut untidy = BTreeSet::new();
        let tidy = clean(text, &mut untidy);
        (tidy, untidy.into_iter().collect())
    }

    #[test]
    fn each_untidiness_is_named_and_mended_where_nothing_is_lost_by_it() {
        use Untidiness::*;
        for (untidy, tidy, named) in [
            (
                "fever,\tchills\n\n1. rest",
                "fever,\tchills\n\n1. rest",
                vec![],
            ),
            (" begins with one", " begins with one", vec![]),
            (
                "one\r\ntwo\rthree",
                "one\ntwo\nthree",
                vec![CarriageReturns],
            ),
            ("a\u{feff}b\u{200b}c\u{7}d\u{ad}e", "abcde", vec![Invisible]),
            (
                "5\u{a0}mg  \nat\u{202f}night",
                "5 mg\nat night",
                vec![Spaces],
            ),
            ("a\n\n\n\n\nb", "a\n\nb", vec![Spaces]),
            (
                "a\r\n\r\n \r\n\u{0}b",
                "a\n\nb",
                vec![Invisible, CarriageReturns, Spaces],
            ),
            ("caf\u{fffd}", "caf\u{fffd}", vec![Lost]),
            (
                "M\u{c3}\u{bc}ller\r\n",
                "M\u{c3}\u{bc}ller\r\n",
                vec![Misread],
            ),
            (
                "patient\u{e2}\u{20ac}\u{2122}s",
                "patient\u{e2}\u{20ac}\u{2122}s",
                vec![Misread],
            ),
            (
                "Garçon, À bientôt, fenêtre âgée",
                "Garçon, À bientôt, fenêtre âgée",
                vec![],
            ),
        ] {
            assert_eq!(cleaned(untidy), (tidy.to_owned(), named), "{untidy:?}");
        }
    }

    #[test]
    fn a_line_keeps_its_other_fields_and_a_tidy_one_is_not_written_anew() {
        let tidy = r#"{ "prompt":"a",  "completion" : " b", "ward": "c\r\n" }"#;
        let line = clean_line(tidy).unwrap();
        assert_eq!((line.mended, line.untidy.len()), (None, 0));
        let line = clean_line(r#"{"messages": [{"role": "user", "content": "a\r\nb"}], "id": 7}"#);
        let line = line.unwrap();
        let read: Value = serde_json::from_str(&line.mended.unwrap()).unwrap();
        assert_eq!(read["messages"][0]["content"], "a\nb");
        assert_eq!(
            (&read["id"], &read["messages"][0]["role"]),
            (&7.into(), &"user".into())
        );
        assert_eq!(line.untidy, [Untidiness::CarriageReturns]);
    }
}
