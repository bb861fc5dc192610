//! BLEU: how many runs of one to four words of the answers are in the wanted ones too, over all answers together.
//!
//! Papineni et al. 2002 (ACL, P02-1040), section 2, with one wanted answer each and sacreBLEU's default for counts of nothing (Chen and
//! Cherry 2014, W14-3346, method 3): the first length without a match counts a half, the next a quarter, and so on.

use std::collections::BTreeMap;

/// The longest run of words.
const LONGEST: usize = 4;

/// BLEU of answers, 0 to 100; of both, the words.
pub(super) fn bleu(said: &[Vec<String>], wanted: &[Vec<String>]) -> f64 {
    let (mut matches, mut runs) = ([0_u64; LONGEST], [0_u64; LONGEST]);
    for (said, wanted) in said.iter().zip(wanted) {
        for length in 1..=LONGEST {
            let available = counted(wanted, length);
            for (run, count) in counted(said, length) {
                runs[length - 1] += count;
                matches[length - 1] += count.min(available.get(run).copied().unwrap_or(0));
            }
        }
    }
    // Answers that are all shorter than the longest run have no such precision.
    if matches.iter().all(|&count| count == 0) || runs.contains(&0) {
        return 0.0;
    }
    let mut instead = 1.0;
    let logarithms = matches.iter().zip(runs).map(|(&matches, runs)| {
        let matches = if matches == 0 {
            instead /= 2.0;
            instead
        } else {
            matches as f64
        };
        (matches / runs as f64).ln()
    });
    let mean = logarithms.sum::<f64>() / LONGEST as f64;
    100.0 * brevity(said, wanted) * mean.exp()
}

/// What answers lose that are shorter than the wanted ones.
fn brevity(said: &[Vec<String>], wanted: &[Vec<String>]) -> f64 {
    let length = |texts: &[Vec<String>]| texts.iter().map(Vec::len).sum::<usize>() as f64;
    (1.0 - length(wanted) / length(said)).min(0.0).exp()
}

fn counted(words: &[String], length: usize) -> BTreeMap<&[String], u64> {
    let mut counts = BTreeMap::new();
    for run in words.windows(length) {
        *counts.entry(run).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::words::words;

    /// What sacreBLEU 2.5.1 gives: `sacrebleu.corpus_bleu(said, [wanted]).score`.
    const CASES: [(&[&str], &[&str], f64); 10] = [
        (
            &["the cat sat on the mat"],
            &["the cat sat on the mat"],
            100.0,
        ),
        (
            &["the cat sat on mat"],
            &["the cat sat on the mat"],
            57.893_006_746_741_01,
        ),
        (
            &["the the the the the the the"],
            &["the cat is on the mat"],
            7.809_849_842_300_637,
        ),
        (
            &[
                "It is a guide to action which ensures that the military always obeys the commands of the party.",
            ],
            &[
                "It is a guide to action that ensures that the military will forever heed Party commands.",
            ],
            39.670_882_908_365_78,
        ),
        (
            &["Take 5.5 mg twice a day.", "Rest for two days, then call."],
            &[
                "Take 5.5 mg two times a day.",
                "Rest for two days and then call us.",
            ],
            33.531_265_951_306_224,
        ),
        (&["a b"], &["a b c d"], 0.0),
        (
            &["completely different words here"],
            &["nothing shared at all today"],
            0.0,
        ),
        (&["short"], &["short"], 0.0),
        (
            &["one two three four five", ""],
            &["one two three four five six", "seven eight"],
            54.881_163_609_402_66,
        ),
        (
            &[
                "The patient has a fever of 39.5 C.",
                "He was given 500 mg.",
                "No allergies.",
            ],
            &[
                "The patient had a fever of 39.5 C.",
                "He was given 500 mg of paracetamol.",
                "No known allergies.",
            ],
            58.263_707_833_641_67,
        ),
    ];

    #[test]
    fn scores_are_those_of_sacrebleu() {
        for (said, wanted, expected) in CASES {
            let [said, wanted] = [said, wanted].map(|texts| {
                let texts = texts.iter().map(|text| words(text));
                texts.collect::<Vec<_>>()
            });
            let found = bleu(&said, &wanted);
            assert!(
                (found - expected).abs() < 1e-9,
                "{found} {expected} {said:?}"
            );
        }
        assert_eq!(bleu(&[], &[]), 0.0);
    }
}
