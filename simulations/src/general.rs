//! General English: what the model must not forget, and what the anchor is measured on.
//!
//! `general.txt` holds 150 short paragraphs of everyday prose, written for this repository and public
//! with it: no institution's text. Two of five paragraphs measure forgetting, the others make the
//! anchor (the Fisher information of EWC), so the anchor never sees what forgetting is measured on.

use std::path::Path;

use anyhow::{Context as _, ensure};

/// The paragraphs, with a blank line between them.
const TEXT: &str = include_str!("general.txt");

/// General text in its two disjoint parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct General {
    /// What the Fisher information is computed on.
    pub anchor: Vec<String>,
    /// What forgetting is measured on.
    pub evaluation: Vec<String>,
}

impl General {
    /// The text that comes with the program.
    #[must_use]
    pub fn built_in() -> Self {
        Self::split(TEXT)
    }

    /// A text file of paragraphs with blank lines between them.
    ///
    /// # Errors
    /// If the file cannot be read or has fewer than five paragraphs.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("general text {} cannot be read", path.display()))?;
        let general = Self::split(&text);
        ensure!(
            general.evaluation.len() >= 2,
            "general text {} has {} paragraphs; it needs five or more, with blank lines between them",
            path.display(),
            general.anchor.len() + general.evaluation.len()
        );
        Ok(general)
    }

    /// Keeps at most that many paragraphs of each part.
    #[must_use]
    pub fn limited(mut self, anchor: usize, evaluation: usize) -> Self {
        self.anchor.truncate(anchor);
        self.evaluation.truncate(evaluation);
        self
    }

    fn split(text: &str) -> Self {
        let mut general = Self {
            anchor: Vec::new(),
            evaluation: Vec::new(),
        };
        let text = text.replace("\r\n", "\n");
        let paragraphs = text
            .split("\n\n")
            .map(str::trim)
            .filter(|one| !one.is_empty());
        for (number, paragraph) in paragraphs.enumerate() {
            let part = match number % 5 {
                1 | 3 => &mut general.evaluation,
                _ => &mut general.anchor,
            };
            part.push(paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        general
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_built_in_text_has_two_disjoint_parts_of_short_paragraphs() {
        let general = General::built_in();
        assert_eq!((general.anchor.len(), general.evaluation.len()), (90, 60));
        let anchor: BTreeSet<_> = general.anchor.iter().collect();
        assert_eq!(anchor.len(), 90, "a paragraph stands twice");
        assert!(general.evaluation.iter().all(|one| !anchor.contains(one)));
        for paragraph in general.anchor.iter().chain(&general.evaluation) {
            let words = paragraph.split(' ').count();
            assert!((25..=60).contains(&words), "{words}: {paragraph}");
        }
    }

    #[test]
    fn the_two_parts_share_no_sentence() {
        let general = General::built_in();
        let sentences = |part: &[String]| -> BTreeSet<String> {
            part.iter()
                .flat_map(|one| one.split(". ").map(str::to_owned))
                .collect()
        };
        let (anchor, evaluation) = (sentences(&general.anchor), sentences(&general.evaluation));
        assert_eq!(anchor.intersection(&evaluation).count(), 0);
    }

    #[test]
    fn a_file_with_too_few_paragraphs_is_refused_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("short.txt");
        std::fs::write(&path, "one\n\ntwo\n").unwrap();
        let said = General::open(&path).unwrap_err().to_string();
        assert!(
            said.contains("short.txt") && said.contains("2 paragraphs"),
            "{said}"
        );
    }
}
