//! The text of a simulation: written into the output folder as JSONL, split, and read back as data sets.
//!
//! Reading back what was written means that the institutions train on exactly the files a person finds
//! under `data/`, through the same loader as a real client.

mod given;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use finetune::data::Dataset;
use finetune::tokenizer::Tokenizer;

use crate::experiment::Experiment;
use crate::general::General;
use crate::institutions;

/// One institution's text.
#[derive(Clone, Debug)]
pub struct InstitutionText {
    /// The participant's name.
    pub name: String,
    /// One sentence for the report.
    pub description: String,
    /// What it trains on.
    pub train: Arc<Dataset>,
    /// What it is measured on.
    pub held_out: Arc<Dataset>,
}

/// All text of a simulation.
#[derive(Clone, Debug)]
pub struct Text {
    /// The institutions, in the order of their names.
    pub institutions: Vec<InstitutionText>,
    /// General text for the Fisher information.
    pub anchor: Arc<Dataset>,
    /// General text for forgetting.
    pub general: Arc<Dataset>,
}

/// Lines of one institution.
struct Lines {
    name: String,
    description: String,
    train: Vec<String>,
    held_out: Vec<String>,
}

impl Text {
    /// Writes the text below `folder`, and reads it.
    ///
    /// # Errors
    /// If a file given by the experiment cannot be used: the sentence names the file and the line.
    pub fn prepare(
        experiment: &Experiment,
        tokenizer: &Tokenizer,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let max_tokens = experiment.text.max_tokens;
        let all = match &experiment.data {
            Some(data) => given::given(experiment, data, tokenizer)?,
            None => generated(experiment),
        };
        let read = |name: &str, lines: &[String]| -> anyhow::Result<Arc<Dataset>> {
            let path = folder.join(name);
            write_lines(&path, lines)?;
            let dataset = Dataset::load_jsonl(&path, tokenizer, max_tokens)?;
            Ok(Arc::new(dataset))
        };
        let institutions = all
            .into_iter()
            .map(|one| {
                Ok(InstitutionText {
                    train: read(&format!("{}.train.jsonl", one.name), &one.train)?,
                    held_out: read(&format!("{}.held-out.jsonl", one.name), &one.held_out)?,
                    name: one.name,
                    description: one.description,
                })
            })
            .collect::<anyhow::Result<_>>()?;
        let general = match &experiment.general {
            Some(path) => General::open(path)?,
            None => General::built_in(),
        };
        let general = general.limited(
            experiment.text.anchor_paragraphs,
            experiment.text.general_paragraphs,
        );
        Ok(Self {
            institutions,
            // In a folder: an institution may be called "general".
            anchor: read("general/anchor.jsonl", &as_records(&general.anchor))?,
            general: read("general/held-out.jsonl", &as_records(&general.evaluation))?,
        })
    }
}

fn as_records(paragraphs: &[String]) -> Vec<String> {
    paragraphs
        .iter()
        .map(|text| serde_json::json!({"text": text}).to_string())
        .collect()
}

fn write_lines(path: &Path, lines: &[String]) -> anyhow::Result<()> {
    let folder = path.parent().context("a text file lies in a folder")?;
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, lines.join("\n") + "\n"))
        .with_context(|| format!("{} cannot be written", path.display()))
}

fn generated(experiment: &Experiment) -> Vec<Lines> {
    let (train, held_out) = (
        experiment.text.train_records,
        experiment.text.held_out_records,
    );
    let as_lines = |records: &[institutions::Record]| -> Vec<String> {
        records.iter().map(institutions::Record::to_json).collect()
    };
    institutions::generate(experiment.seed, train, held_out)
        .into_iter()
        .zip(institutions::ALL)
        .map(|(corpus, institution)| Lines {
            name: corpus.name,
            description: institution.description.to_owned(),
            train: as_lines(&corpus.train),
            held_out: as_lines(&corpus.held_out),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn institution_called_general_keeps_its_text() {
        let home = tempfile::tempdir().unwrap();
        let (model, given) = (home.path().join("model"), home.path().join("given"));
        finetune::tiny::write(&model, &finetune::tiny::shape(), 1).unwrap();
        let tokenizer = Tokenizer::from_folder(&model).unwrap();
        let lines: Vec<String> = (0..6)
            .map(|number| format!("{{\"text\": \"patient {number}\"}}"))
            .collect();
        write_lines(&given.join("general.jsonl"), &lines).unwrap();
        let experiment = Experiment {
            data: Some(given),
            ..Experiment::default()
        };
        let written = home.path().join("data");
        let text = Text::prepare(&experiment, &tokenizer, &written).unwrap();
        assert_eq!(text.institutions[0].name, "general");
        let kept = std::fs::read_to_string(written.join("general.held-out.jsonl")).unwrap();
        assert_eq!(kept.lines().count(), 2);
        assert!(kept.lines().all(|line| line.contains("patient")), "{kept}");
    }

    #[test]
    fn what_one_institution_is_measured_on_none_is_trained_on() {
        let home = tempfile::tempdir().unwrap();
        let (model, given) = (home.path().join("model"), home.path().join("given"));
        finetune::tiny::write(&model, &finetune::tiny::shape(), 1).unwrap();
        let tokenizer = Tokenizer::from_folder(&model).unwrap();
        let record =
            |id: u32, number: u32| format!("{{\"id\": {id}, \"text\": \"patient {number}\"}}");
        // The second has all of the first's records, under other numbers, and twice.
        let first: Vec<String> = (0..12).map(|number| record(number, number)).collect();
        let second: Vec<String> = (0..48).map(|id| record(100 + id, id % 24)).collect();
        write_lines(&given.join("a.jsonl"), &first).unwrap();
        write_lines(&given.join("b.jsonl"), &second).unwrap();
        let experiment = Experiment {
            data: Some(given),
            ..Experiment::default()
        };
        let text = Text::prepare(&experiment, &tokenizer, &home.path().join("data")).unwrap();
        let [a, b] = &text.institutions[..] else {
            panic!("two institutions")
        };
        assert_eq!(
            (a.held_out.examples.len(), b.held_out.examples.len()),
            (4, 8)
        );
        for trained in [&a.train, &b.train] {
            for held_out in [&a.held_out, &b.held_out] {
                assert_eq!(trained.without(held_out).digest, trained.digest);
            }
            assert!(!trained.examples.is_empty());
        }
        let trained = a.train.examples.len() + b.train.examples.len();
        assert!(trained < 8 + 16, "{trained}");
        assert!(
            b.description
                .contains("another institution is measured on them"),
            "{}",
            b.description
        );
    }
}
