//! The generator's promises: same seed same text, variety, disjoint halves, numbers that agree.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const SEED: u64 = 7;

fn corpora() -> Vec<Corpus> {
    generate(SEED, 60, 24)
}

/// The numbers of a text: digits with at most one point between digits ("1.75", "38").
fn numbers(text: &str) -> Vec<String> {
    text.split(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .map(|word| word.trim_matches('.').to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

#[test]
fn same_seed_gives_the_same_text_and_another_seed_another() {
    assert_eq!(corpora(), corpora());
    assert_ne!(corpora(), generate(SEED + 1, 60, 24));
}

#[test]
fn a_larger_training_set_leaves_the_held_out_text_alone() {
    for (small, large) in corpora().iter().zip(generate(SEED, 200, 24)) {
        assert_eq!(small.held_out, large.held_out);
        assert_eq!(small.train[..], large.train[..60]);
    }
}

#[test]
fn training_and_held_out_text_share_neither_prompt_nor_finding() {
    for corpus in corpora() {
        let finding =
            |record: &Record| record.completion.split(". Class").next().map(str::to_owned);
        let prompts: BTreeSet<_> = corpus.train.iter().map(|record| &record.prompt).collect();
        let findings: BTreeSet<_> = corpus.train.iter().map(finding).collect();
        for record in &corpus.held_out {
            assert!(
                !prompts.contains(&record.prompt),
                "{}: {}",
                corpus.name,
                record.prompt
            );
            assert!(
                !findings.contains(&finding(record)),
                "{}",
                record.completion
            );
        }
    }
}

#[test]
fn every_number_of_an_answer_stands_in_its_prompt_or_follows_from_it() {
    for corpus in generate(SEED, 400, 100) {
        for record in corpus.train.iter().chain(&corpus.held_out) {
            let known: BTreeSet<String> = numbers(&record.prompt)
                .into_iter()
                .chain(record.derived.iter().flat_map(|one| numbers(one)))
                .collect();
            let own_words = record.completion.split("Rule ").next().unwrap_or_default();
            for number in numbers(own_words) {
                assert!(known.contains(&number), "{number} in {record:?}");
            }
        }
    }
}

#[test]
fn a_ratio_in_an_answer_is_the_ratio_of_the_numbers_in_the_prompt() {
    let corpora = generate(SEED, 400, 100);
    let desk = corpora
        .iter()
        .find(|one| one.name == "credit-risk")
        .unwrap();
    let lent: Vec<_> = desk
        .train
        .iter()
        .filter(|one| one.intent == "loan to value")
        .collect();
    assert!(lent.len() > 20, "{}", lent.len());
    for record in lent {
        let mut found: Vec<f64> = numbers(&record.prompt)
            .iter()
            .map(|number| number.parse().unwrap())
            .collect();
        found.sort_by(f64::total_cmp);
        let stated: f64 = record.derived[0].parse().unwrap();
        let (low, high) = (100.0 * found[0] / found[1], 100.0 * found[1] / found[0]);
        assert!(
            (low - stated).abs() < 1.0 || (high - stated).abs() < 1.0,
            "{record:?}"
        );
    }
}

#[test]
fn every_institution_uses_many_intents_and_many_openings() {
    for corpus in corpora() {
        let all: Vec<_> = corpus.train.iter().chain(&corpus.held_out).collect();
        let intents: BTreeSet<_> = all.iter().map(|record| record.intent).collect();
        assert!(intents.len() >= 12, "{}: {intents:?}", corpus.name);
        let opening = |text: &str| text.split(' ').take(3).collect::<Vec<_>>().join(" ");
        let openings: BTreeSet<_> = all.iter().map(|record| opening(&record.prompt)).collect();
        assert!(
            openings.len() * 20 >= all.len() * 9,
            "{}: {}",
            corpus.name,
            openings.len()
        );
        let sixes: Vec<Vec<&str>> = all
            .iter()
            .flat_map(|record| {
                let words: Vec<&str> = record.prompt.split(' ').collect();
                words.windows(6).map(<[&str]>::to_vec).collect::<Vec<_>>()
            })
            .collect();
        let distinct: BTreeSet<_> = sixes.iter().collect();
        assert!(
            distinct.len() * 10 >= sixes.len() * 8,
            "{} of {}",
            distinct.len(),
            sixes.len()
        );
    }
}

#[test]
fn held_out_text_has_every_kind_equally_and_training_text_is_skewed_but_complete() {
    for (institution, corpus) in ALL.iter().zip(corpora()) {
        let kind_of = |record: &Record| {
            let intent = institution
                .intents
                .iter()
                .find(|one| one.name == record.intent)
                .unwrap();
            intent.kind as usize
        };
        let count = |records: &[Record]| {
            let mut counts = BTreeMap::new();
            for record in records {
                *counts.entry(kind_of(record)).or_insert(0_usize) += 1;
            }
            counts
        };
        assert!(count(&corpus.held_out).values().all(|&found| found == 4));
        let filed = count(&corpus.train);
        assert_eq!(filed.len(), Kind::ALL.len(), "{}: {filed:?}", corpus.name);
        let usual: usize = institution
            .usual
            .iter()
            .map(|&kind| filed[&(kind as usize)])
            .sum();
        assert_eq!(usual, 48, "{}", corpus.name);
    }
}

#[test]
fn institutions_share_the_form_and_not_the_facts() {
    let corpora = corpora();
    for corpus in &corpora {
        for record in &corpus.train {
            assert!(record.completion.starts_with("Finding: "), "{record:?}");
            assert!(record.completion.contains(" Class ") && record.completion.contains(" Rule "));
        }
    }
    let words = |corpus: &Corpus| -> BTreeSet<String> {
        corpus
            .train
            .iter()
            .flat_map(|one| one.prompt.split(' ').map(str::to_owned))
            .collect()
    };
    for left in &corpora {
        for right in corpora.iter().filter(|other| other.name > left.name) {
            let (one, other) = (words(left), words(right));
            let shared = one.intersection(&other).count() as f64;
            let all = one.union(&other).count() as f64;
            assert!(
                shared / all < 0.25,
                "{} {}: {}",
                left.name,
                right.name,
                shared / all
            );
        }
    }
}

#[test]
fn a_record_is_one_line_of_messages() {
    let record = &corpora()[0].train[0];
    let line = record.to_json();
    let read: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(!line.contains('\n'));
    assert_eq!(read["messages"][1]["content"], record.prompt.as_str());
    assert_eq!(read["messages"][2]["content"], record.completion.as_str());
}
