//! Lines of a JSONL file as records.

use crate::chat::Turn;
use serde::Deserialize;

/// What one line says, before it is tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Plain text; every token counts.
    Text(String),
    /// A question and its answer; the answer counts.
    Pair {
        /// What is given.
        prompt: String,
        /// What is to be learned.
        completion: String,
    },
    /// A conversation; the assistant's turns count.
    Messages(Vec<Turn>),
}

#[derive(Deserialize)]
struct Line {
    text: Option<String>,
    prompt: Option<String>,
    completion: Option<String>,
    messages: Option<Vec<Turn>>,
}

impl Record {
    /// Reads one line.
    ///
    /// # Errors
    /// A sentence on what is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, String> {
        if !text.trim_start().starts_with('{') {
            return Err("is no JSON object".to_owned());
        }
        let line: Line = serde_json::from_str(text).map_err(|e| {
            // The line number that serde_json counts is always 1 here, and would mislead.
            let what = e.to_string();
            let what = what.split(" at line ").next().unwrap_or_default();
            // What was found instead is somebody's text.
            let what = what.find("expected ").map_or(what, |at| &what[at..]);
            format!("is not a record (column {}): {what}", e.column())
        })?;
        match line {
            Line {
                text: Some(text),
                prompt: None,
                completion: None,
                messages: None,
            } => Ok(Self::Text(text)),
            Line {
                text: None,
                prompt: Some(prompt),
                completion: Some(completion),
                messages: None,
            } => Ok(Self::Pair { prompt, completion }),
            Line {
                text: None,
                prompt: None,
                completion: None,
                messages: Some(turns),
            } => Ok(Self::Messages(turns)),
            _ => Err("must have either text, or prompt and completion, or messages".to_owned()),
        }
    }
}

/// The value of a record's field as text. A number and the same number as text, or text with spaces around it, are one person: to
/// take two for one protects both, to take one for two protects neither.
pub(crate) fn field(line: &[u8], name: &str) -> Result<String, String> {
    let record: serde_json::Value =
        serde_json::from_slice(line).map_err(|error| format!("is no JSON object: {error}"))?;
    match record.get(name) {
        Some(serde_json::Value::String(text)) => Ok(text.trim().to_owned()),
        Some(serde_json::Value::Number(number)) if number.is_i64() || number.is_u64() => {
            Ok(number.to_string())
        }
        Some(_) => Err(format!(
            "the field {name:?}, by which records belong together, is neither a text nor a whole number"
        )),
        None => Err(format!(
            "the record has no field {name:?}, by which records belong together; add it to every record"
        )),
    }
}

/// The lines of a file, without the byte order mark that some editors put at its beginning.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.split(|byte| *byte == b'\n')
}

/// A line as text.
///
/// # Errors
/// A sentence on where it is none.
pub(super) fn text_of(line: &[u8]) -> Result<&str, String> {
    str::from_utf8(line)
        .map_err(|e| format!("is not UTF-8 (byte {} of the line)", e.valid_up_to() + 1))
}

/// Reads every line that is not empty, with its number from 1.
///
/// # Errors
/// The number of the first bad line, and what is wrong with it.
pub(super) fn parse_lines(bytes: &[u8]) -> Result<Vec<(usize, Record)>, (usize, String)> {
    let mut records = Vec::new();
    for (index, line) in lines(bytes).enumerate() {
        let number = index + 1;
        let text = text_of(line).map_err(|what| (number, what))?;
        if text.trim().is_empty() {
            continue;
        }
        records.push((
            number,
            Record::from_json(text).map_err(|what| (number, what))?,
        ));
    }
    Ok(records)
}
