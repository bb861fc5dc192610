//! The text of a simulation: written into the output folder as JSONL, split, and read back as data sets.
//!
//! Reading back what was written means that the institutions train on exactly the files a person finds
//! under `data/`, through the same loader as a real client.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use finetune::data::{Dataset, Example};
use finetune::tokenizer::Tokenizer;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

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

/// A line of a file that was given, and what a training sees of it.
struct Line {
    text: String,
    example: Example,
}

/// The lines of a file that was given.
struct Split {
    path: PathBuf,
    name: String,
    train: Vec<Line>,
    held_out: Vec<Line>,
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
            Some(data) => given(experiment, data, tokenizer)?,
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

/// The JSONL files of a folder, one institution each.
fn given(
    experiment: &Experiment,
    folder: &Path,
    tokenizer: &Tokenizer,
) -> anyhow::Result<Vec<Lines>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("data folder {} cannot be read", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .collect();
    paths.sort();
    ensure!(
        !paths.is_empty(),
        "data folder {} holds no .jsonl file; put one per institution there, named after it",
        folder.display()
    );
    check_names(&paths)?;
    let splits: Vec<Split> = paths
        .into_iter()
        .map(|path| split_file(experiment, path, tokenizer))
        .collect::<anyhow::Result<_>>()?;
    apart(splits)
}

/// Takes from what is trained on all that anybody is measured on: adapters are shared, so it would be known everywhere.
fn apart(splits: Vec<Split>) -> anyhow::Result<Vec<Lines>> {
    let held_out: BTreeSet<_> = splits
        .iter()
        .flat_map(|split| &split.held_out)
        .map(|line| (line.example.tokens.clone(), line.example.response.clone()))
        .collect();
    let is_held_out = |line: &Line| {
        let Example {
            tokens, response, ..
        } = &line.example;
        held_out.contains(&(tokens.clone(), response.clone()))
    };
    let into_lines = |split: Split| {
        let (path, different) = (
            split.path.display(),
            split.train.len() + split.held_out.len(),
        );
        let texts = |lines: Vec<Line>| lines.into_iter().map(|line| line.text).collect();
        let (left_out, train): (Vec<Line>, Vec<Line>) =
            split.train.into_iter().partition(is_held_out);
        ensure!(
            !train.is_empty(),
            "every record of {path} is held out at another institution; give the institutions different text"
        );
        let mut description = format!("{different} records from {path}.");
        if !left_out.is_empty() {
            let left_out = left_out.len();
            write!(
                description,
                " {left_out} of them are not trained on: another institution is measured on them."
            )?;
        }
        Ok(Lines {
            name: split.name,
            description,
            train: texts(train),
            held_out: texts(split.held_out),
        })
    };
    splits.into_iter().map(into_lines).collect()
}

/// Refuses files that would name two institutions alike: one's text would be written over the other's.
fn check_names(paths: &[PathBuf]) -> anyhow::Result<()> {
    let mut named: BTreeMap<String, &Path> = BTreeMap::new();
    for path in paths {
        let name = institution_name(path)?;
        let Some(other) = named.insert(name.clone(), path) else {
            continue;
        };
        bail!(
            "{} and {} would both be the institution {name}: rename one of them",
            other.display(),
            path.display()
        );
    }
    Ok(())
}

fn split_file(
    experiment: &Experiment,
    path: PathBuf,
    tokenizer: &Tokenizer,
) -> anyhow::Result<Split> {
    let name = institution_name(&path)?;
    // Read once as it is, so that a bad line is named by its file and number, not by those of our copy.
    let dataset = Dataset::load_jsonl(&path, tokenizer, experiment.text.max_tokens)?;
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let texts: Vec<&str> = text.lines().collect();
    // A record that stands twice must not be trained on and measured on.
    let mut lines: Vec<Line> = dataset
        .distinct()
        .examples
        .into_iter()
        .map(|example| Line {
            text: texts[example.line - 1]
                .trim_start_matches('\u{feff}')
                .trim()
                .to_owned(),
            example,
        })
        .collect();
    ensure!(
        lines.len() >= 3,
        "{} has {} different records; it needs at least 3, to train on some and be measured on others",
        path.display(),
        lines.len()
    );
    shuffle(&mut lines, experiment.seed);
    let held_out = experiment.text.held_out_records.min(lines.len() / 3);
    let train = lines.split_off(held_out);
    Ok(Split {
        path,
        name,
        train,
        held_out: lines,
    })
}

/// The file's stem as a participant's name: lower case, digits and hyphens.
fn institution_name(path: &Path) -> anyhow::Result<String> {
    let stem = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let name: String = stem
        .chars()
        .map(|letter| {
            if matches!(letter, '_' | ' ' | '.') {
                '-'
            } else {
                letter
            }
        })
        .collect();
    match name.parse::<protocol::ParticipantName>() {
        Ok(_) => Ok(name),
        Err(error) => bail!("{} cannot name an institution: {error}", path.display()),
    }
}

/// Fisher-Yates by a stream of the seed and the lines themselves, so that equal text is split equally.
fn shuffle(lines: &mut [Line], seed: u64) {
    let mut key = Sha256::new();
    key.update(b"foedus/simulation/split/1");
    key.update(seed.to_le_bytes());
    lines
        .iter()
        .for_each(|line| key.update(Sha256::digest(&line.text)));
    let mut stream = ChaCha8Rng::from_seed(key.finalize().into());
    for last in (1..lines.len()).rev() {
        let other = (u128::from(stream.next_u64()) * (last as u128 + 1)) >> 64;
        lines.swap(last, other as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_become_names_of_institutions() {
        let name = |text: &str| institution_name(Path::new(text));
        assert_eq!(name("x/GARD_rare.jsonl").unwrap(), "gard-rare");
        assert!(
            name("x/größe.jsonl")
                .unwrap_err()
                .to_string()
                .contains("größe.jsonl")
        );
    }

    #[test]
    fn files_of_one_name_are_refused_together() {
        let paths = ["x/Bank_b.jsonl", "x/bank-a.jsonl", "x/bank.b.jsonl"].map(PathBuf::from);
        let refused = check_names(&paths).unwrap_err().to_string();
        for named in ["x/Bank_b.jsonl", "x/bank.b.jsonl", "institution bank-b"] {
            assert!(refused.contains(named), "{refused}");
        }
        check_names(&paths[..2]).unwrap();
    }

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

    #[test]
    fn a_shuffle_keeps_every_line_and_follows_its_seed() {
        let sorted: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        let shuffled = |seed| {
            let line = |text: &String| Line {
                text: text.clone(),
                example: Example {
                    tokens: Vec::new(),
                    response: Vec::new(),
                    line: 1,
                },
            };
            let mut lines: Vec<Line> = sorted.iter().map(line).collect();
            shuffle(&mut lines, seed);
            lines.into_iter().map(|line| line.text).collect::<Vec<_>>()
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut back = shuffled(1);
        back.sort_by_key(|line| line.parse::<u32>().unwrap());
        assert_eq!(back, sorted);
    }
}
