//! Text that was given: a file for each institution, split so that nobody is trained on what anybody is measured on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use finetune::data::{Dataset, Example};
use finetune::tokenizer::Tokenizer;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

use super::Lines;
use crate::experiment::Experiment;

/// A line of a file that was given, and what a training sees of it.
struct Line {
    text: String,
    example: Example,
}

/// The lines of a file that was given, in two parts.
struct Split {
    path: PathBuf,
    name: String,
    train: Vec<Line>,
    held_out: Vec<Line>,
}

/// The JSONL files of a folder, one institution each.
pub(super) fn given(
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
    apart(&splits)
}

/// Takes from what is trained on all that anybody is measured on: adapters are shared, so it would be known everywhere.
fn apart(splits: &[Split]) -> anyhow::Result<Vec<Lines>> {
    let held_out = splits.iter().flat_map(|split| &split.held_out);
    let held_out: BTreeSet<_> = held_out.map(|line| line.example.content()).collect();
    let is_trained_on = |line: &&Line| !held_out.contains(&line.example.content());
    let texts = |lines: &[&Line]| lines.iter().map(|line| line.text.clone()).collect();
    let of_split = |split: &Split| {
        let path = split.path.display();
        let train: Vec<_> = split.train.iter().filter(is_trained_on).collect();
        ensure!(
            !train.is_empty(),
            "every record of {path} is held out at another institution; give the institutions different text"
        );
        let mut description = format!(
            "{} records from {path}.",
            split.train.len() + split.held_out.len()
        );
        let left_out = split.train.len() - train.len();
        if left_out > 0 {
            write!(
                description,
                " {left_out} of them are not trained on: another institution is measured on them."
            )?;
        }
        Ok(Lines {
            name: split.name.clone(),
            description,
            train: texts(&train),
            held_out: texts(&split.held_out.iter().collect::<Vec<_>>()),
        })
    };
    splits.iter().map(of_split).collect()
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
