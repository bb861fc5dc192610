//! Questions of a data set, and the answers that are wanted.

use crate::{
    base::BaseModel,
    data::{Dataset, Example},
    generate::end_tokens,
};

/// What is asked, and what the answer should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// All before the answer, as the model reads it.
    pub prompt: Vec<u32>,
    /// The answer, without what ends it.
    pub wanted: Vec<u32>,
}

/// The questions of a data set: all records but plain texts, which ask nothing, and those whose answer was cut.
pub fn questions(dataset: &Dataset, base: &BaseModel) -> Vec<Question> {
    let ends = end_tokens(base);
    let questions = dataset.examples.iter();
    questions
        .filter_map(|example| question(example, &ends))
        .collect()
}

/// The last thing that is to be learned of an example, and what comes before it.
fn question(
    Example {
        tokens, response, ..
    }: &Example,
    ends: &[u32],
) -> Option<Question> {
    let last = response.iter().rposition(|&asked| asked)?;
    let first = response[..last].iter().rposition(|&asked| !asked)? + 1;
    let answer = &tokens[first..=last];
    let end = answer.iter().position(|token| ends.contains(token))?;
    let (prompt, wanted) = (tokens[..first].to_vec(), answer[..end].to_vec());
    (!wanted.is_empty()).then_some(Question { prompt, wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(response: &str, tokens: &[u32]) -> Option<Question> {
        let example = Example {
            tokens: tokens.to_vec(),
            response: response.chars().map(|asked| asked == 'x').collect(),
            line: 1,
        };
        question(&example, &[9])
    }

    #[test]
    fn the_last_answer_is_asked_for_and_what_has_no_question_or_no_end_is_not() {
        let found = of("..xx.xxx.", &[1, 2, 3, 9, 4, 5, 6, 9, 7]).unwrap();
        assert_eq!(
            (found.prompt, found.wanted),
            (vec![1, 2, 3, 9, 4], vec![5, 6])
        );
        let found = of(".xx", &[1, 2, 9]).unwrap();
        assert_eq!((found.prompt, found.wanted), (vec![1], vec![2]));
        for (response, tokens) in [
            ("xxx", [1, 2, 9]),
            (".xx", [1, 2, 3]),
            ("..x", [1, 2, 9]),
            ("...", [1, 2, 9]),
        ] {
            assert_eq!(of(response, &tokens), None, "{response} {tokens:?}");
        }
    }
}
