//! The text of a simulation: written into the output folder as JSONL, split, and read back as data sets.
//!
//! Reading back what was written means that the institutions train on exactly the files a person finds
//! under `data/`, through the same loader as a real client.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use finetune::data::Dataset;
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

/// Lines of one institution before they are tokens.
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
    paths
        .iter()
        .map(|path| split_file(experiment, path, tokenizer))
        .collect()
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
    path: &Path,
    tokenizer: &Tokenizer,
) -> anyhow::Result<Lines> {
    let name = institution_name(path)?;
    // Read once as it is, so that a bad line is named by its file and number, not by those of our copy.
    Dataset::load_jsonl(path, tokenizer, experiment.text.max_tokens)?;
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    // A record that stands twice must not be trained on and measured on.
    let mut seen = BTreeSet::new();
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| line.trim_start_matches('\u{feff}').trim())
        .filter(|line| !line.is_empty() && seen.insert(*line))
        .map(str::to_owned)
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
    let description = format!(
        "{} records from {}.",
        train.len() + held_out,
        path.display()
    );
    Ok(Lines {
        name,
        description,
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
fn shuffle(lines: &mut [String], seed: u64) {
    let mut key = Sha256::new();
    key.update(b"foedus/simulation/split/1");
    key.update(seed.to_le_bytes());
    lines
        .iter()
        .for_each(|line| key.update(Sha256::digest(line)));
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
    fn a_shuffle_keeps_every_line_and_follows_its_seed() {
        let sorted: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        let shuffled = |seed| {
            let mut lines = sorted.clone();
            shuffle(&mut lines, seed);
            lines
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut back = shuffled(1);
        back.sort_by_key(|line| line.parse::<u32>().unwrap());
        assert_eq!(back, sorted);
    }
}
