//! The quickstart's private text: four institutions that the repository writes itself from a seed.
//!
//! Two hospital departments, a retail bank and a credit-risk desk. Each has its own facts, vocabulary
//! and kinds of request, and all answer in the one note form their treaty prescribes
//! ([`house_style`]): that form is what federation can share. What was filed so far (the training
//! records) is skewed towards two kinds of request per institution; what arrives next (the held-out
//! records) has every kind equally often, as in a real treaty where each party has seen only its part.
//!
//! It is not real patient or customer data and no model of it: every name and number is drawn from a
//! seeded ChaCha8 stream. The numbers within a record agree with each other (a ratio in an answer is
//! the ratio of the numbers in the prompt), and held-out records share no prompt with training records.

pub mod cardiology;
pub mod credit_risk;
pub mod draw;
pub mod house_style;
pub mod nephrology;
pub mod retail_bank;

use std::collections::BTreeSet;

use serde_json::json;

use self::draw::Draw;
use self::house_style::{Case, Kind};

/// The line that opens each conversation: which form the answer takes.
pub const SYSTEM: &str = "Treaty note.";

/// Attempts to draw a record that was not drawn before, until an institution counts as exhausted.
const ATTEMPTS_MAX: usize = 200;

/// A way to write one kind of request: an intent.
pub struct Intent {
    /// The intent's name, unique within its institution.
    pub name: &'static str,
    /// What the request asks for; decides the closing rule of the answer.
    pub kind: Kind,
    /// Draws one case.
    pub write: fn(&mut Draw) -> Case,
}

/// What makes one institution: its name, its intents, and the two kinds it has mostly filed so far.
pub struct Institution {
    /// The participant's name.
    pub name: &'static str,
    /// One sentence for the report.
    pub description: &'static str,
    /// Everything it can be asked.
    pub intents: &'static [Intent],
    /// The two kinds of request most of its training records are of.
    pub usual: [Kind; 2],
}

/// One conversation of two turns, with what is needed to check it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What is asked.
    pub prompt: String,
    /// The answer in the treaty's note form.
    pub completion: String,
    /// The intent it was drawn from.
    pub intent: &'static str,
    /// Numbers in the answer that follow from the prompt without standing in it.
    pub derived: Vec<String>,
}

impl Record {
    /// The record as a line of JSONL (`messages`), without its line end.
    #[must_use]
    pub fn to_json(&self) -> String {
        json!({"messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": self.prompt},
            {"role": "assistant", "content": self.completion},
        ]})
        .to_string()
    }
}

/// One institution's text, split in two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    /// The institution's name.
    pub name: String,
    /// What it trains on.
    pub train: Vec<Record>,
    /// What it is measured on.
    pub held_out: Vec<Record>,
}

/// The four institutions, in the order of their names.
pub const ALL: [&Institution; 4] = [
    &cardiology::INSTITUTION,
    &credit_risk::INSTITUTION,
    &nephrology::INSTITUTION,
    &retail_bank::INSTITUTION,
];

/// Draws all four corpora.
///
/// # Panics
/// If more records are asked for than an institution can tell apart (some thousands).
#[must_use]
pub fn generate(seed: u64, train_records: usize, held_out_records: usize) -> Vec<Corpus> {
    ALL.iter()
        .map(|one| one.corpus(seed, train_records, held_out_records))
        .collect()
}

impl Institution {
    fn corpus(&self, seed: u64, train_records: usize, held_out_records: usize) -> Corpus {
        let mut draw = Draw::new(seed, self.name);
        let mut seen = BTreeSet::new();
        // Held-out first: a larger training set then never changes what is measured.
        let held_out = (0..held_out_records)
            .map(|number| Kind::ALL[number % Kind::ALL.len()])
            .map(|kind| self.record(kind, &mut draw, &mut seen))
            .collect();
        let train = (0..train_records)
            .map(|number| self.filed_kind(number))
            .map(|kind| self.record(kind, &mut draw, &mut seen))
            .collect();
        Corpus {
            name: self.name.to_owned(),
            train,
            held_out,
        }
    }

    /// The kind of the training record of that number: four of five are of the usual two kinds, the others
    /// go round.
    fn filed_kind(&self, number: usize) -> Kind {
        match number % 5 {
            0 | 2 => self.usual[0],
            1 | 3 => self.usual[1],
            _ => {
                let rare: Vec<Kind> = Kind::ALL
                    .into_iter()
                    .filter(|kind| !self.usual.contains(kind))
                    .collect();
                rare[(number / 5) % rare.len()]
            }
        }
    }

    fn record(&self, kind: Kind, draw: &mut Draw, seen: &mut BTreeSet<String>) -> Record {
        let intents: Vec<&Intent> = self.intents.iter().filter(|one| one.kind == kind).collect();
        for _ in 0..ATTEMPTS_MAX {
            let intent = intents[draw.below(intents.len())];
            let case = (intent.write)(draw);
            // The finding carries the facts: two records with one finding are one record reworded.
            if seen.contains(&case.prompt) || seen.contains(&case.finding) {
                continue;
            }
            seen.insert(case.prompt.clone());
            seen.insert(case.finding.clone());
            let completion = house_style::render(&case, kind);
            let Case {
                prompt, derived, ..
            } = case;
            return Record {
                prompt: capitalised(&prompt),
                completion,
                intent: intent.name,
                derived,
            };
        }
        panic!(
            "{} has no further record of kind {kind:?}; ask for fewer records",
            self.name
        )
    }
}

/// The sentence with a capital letter at its start.
fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string())
        .unwrap_or_default();
    first + letters.as_str()
}

#[cfg(test)]
mod tests;
