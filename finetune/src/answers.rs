//! Answers of a model beside those that were wanted: whether they are the same, how much of their wording they share (BLEU), and how
//! varied they are (Distinct-n).
//!
//! Only what has one wanted answer can be judged like this, and only its words are: a right answer in other words counts little.

mod bleu;
mod distinct;
mod question;
mod words;

use std::ops::ControlFlow;

use aggregation::Adapter;
use serde::Serialize;

pub use self::question::{Question, questions};
use self::words::words;
use crate::{
    base::BaseModel,
    data::survey::plain,
    generate::{GenerateError, Sampling, generate},
};

/// An answer, and the one that was wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What the model said.
    pub said: String,
    /// What was wanted.
    pub wanted: String,
}

/// Has the model answer a question, always with the likeliest token.
///
/// # Units
/// `max_new_tokens` counts tokens.
///
/// # Errors
/// [`GenerateError`] if the question leaves no room in the model's context.
pub fn ask(
    base: &BaseModel,
    adapter: Option<&Adapter>,
    question: &Question,
    max_new_tokens: usize,
) -> Result<Answer, GenerateError> {
    let sampling = Sampling {
        max_new_tokens,
        ..Sampling::default()
    };
    let go_on = &mut |_| ControlFlow::Continue(());
    let said = generate(base, adapter, &question.prompt, &sampling, go_on)?;
    let text = |tokens: &[u32]| base.tokenizer.decode(tokens).trim().to_owned();
    Ok(Answer {
        said: text(&said),
        wanted: text(&question.wanted),
    })
}

/// How answers compare with those that were wanted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// Answers compared.
    pub answers: usize,
    /// Those that are the same but for spaces and capitals.
    pub exact: usize,
    /// BLEU of all together, 0 to 100, as sacreBLEU computes it by default.
    pub bleu: f64,
    /// Distinct words over words of the answers.
    pub distinct_1: f64,
    /// The same of pairs of words that stand side by side.
    pub distinct_2: f64,
}

impl Scores {
    /// Compares answers.
    pub fn of(answers: &[Answer]) -> Self {
        let exact = answers.iter();
        let exact = exact.filter(|answer| plain(&answer.said) == plain(&answer.wanted));
        let said: Vec<_> = answers.iter().map(|answer| words(&answer.said)).collect();
        let wanted: Vec<_> = answers.iter().map(|answer| words(&answer.wanted)).collect();
        Self {
            answers: answers.len(),
            exact: exact.count(),
            bleu: bleu::bleu(&said, &wanted),
            distinct_1: distinct::distinct(&said, 1),
            distinct_2: distinct::distinct(&said, 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_and_capitals_make_no_other_answer_and_words_do() {
        let answer = |said: &str, wanted: &str| Answer {
            said: said.to_owned(),
            wanted: wanted.to_owned(),
        };
        let scores = Scores::of(&[
            answer("It is  five.", "it is five."),
            answer("It is five.", "It is 5."),
        ]);
        assert_eq!((scores.answers, scores.exact), (2, 1));
        // Each of four words twice.
        assert_eq!(scores.distinct_1, 4.0 / 8.0);
        assert!(0.0 < scores.bleu && scores.bleu < 100.0, "{scores:?}");
    }
}
