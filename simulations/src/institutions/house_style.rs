//! The note form all parties of the treaty answer in.
//!
//! `Finding` (the institution's own words), the class with its review rule, `Step`, and the treaty rule
//! that belongs to the kind of request. The classes and the six rules are common to all four
//! institutions; each of them has seen only some of the rules often.

/// How urgent a case is; with it goes who reads next and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing out of the ordinary.
    Green,
    /// A second pair of eyes is due.
    Amber,
    /// Somebody must act now.
    Red,
}

impl Class {
    /// The sentence that names the class and its review rule.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Green => "Class green, filed until spring.",
            Self::Amber => "Class amber, second reader due.",
            Self::Red => "Class red, duty officer rung.",
        }
    }
}

/// What a request asks for; with it goes the treaty rule the answer closes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How serious is this?
    Assess,
    /// What does this mean?
    Explain,
    /// What comes next?
    Plan,
    /// Something in the file is wrong.
    Correct,
    /// Something that must not be done.
    Decline,
    /// The shift ends.
    HandOver,
}

impl Kind {
    /// Every kind, in the order of the treaty's rules.
    pub const ALL: [Self; 6] = [
        Self::Assess,
        Self::Explain,
        Self::Plan,
        Self::Correct,
        Self::Decline,
        Self::HandOver,
    ];

    /// The treaty rule that closes the answer.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::Assess => "Rule 1: figures checked at the source.",
            Self::Explain => "Rule 2: plain words, reference in the margin.",
            Self::Plan => "Rule 3: one change, outcome written back.",
            Self::Correct => "Rule 4: old entry struck through, never erased.",
            Self::Decline => "Rule 5: refused in writing, told whom to ask.",
            Self::HandOver => "Rule 6: owner named, clock started.",
        }
    }
}

/// What an intent draws: a prompt and the parts of its answer.
pub struct Case {
    /// What is asked.
    pub prompt: String,
    /// The answer's finding, without a full stop.
    pub finding: String,
    /// How urgent it is.
    pub class: Class,
    /// The next step, without a full stop.
    pub step: String,
    /// Numbers in the answer that follow from the prompt without standing in it.
    pub derived: Vec<String>,
}

impl Case {
    /// A case whose answer has no number that the prompt has not.
    #[must_use]
    pub fn new(prompt: String, finding: String, class: Class, step: impl Into<String>) -> Self {
        Self {
            prompt,
            finding,
            class,
            step: step.into(),
            derived: Vec::new(),
        }
    }

    /// Declares a number of the answer that follows from the prompt.
    #[must_use]
    pub fn derived(mut self, number: impl ToString) -> Self {
        self.derived.push(number.to_string());
        self
    }
}

/// The answer as text.
#[must_use]
pub fn render(case: &Case, kind: Kind) -> String {
    let Case {
        finding,
        class,
        step,
        ..
    } = case;
    format!(
        "Finding: {finding}. {} Step: {step}. {}",
        class.sentence(),
        kind.rule()
    )
}
