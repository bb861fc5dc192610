//! Every rule of `docs/protocol.md` has a test that names it, and no test names a rule that is not there. Every reason that a rule
//! gives is in one of its tests.

use std::collections::{BTreeMap, BTreeSet};

use protocol::close::{CloseCode, RefusalReason, RunFailure};

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");
const TESTS: [&str; 18] = [
    include_str!("allowance.rs"),
    include_str!("bytes.rs"),
    include_str!("crash.rs"),
    include_str!("disturbed.rs"),
    include_str!("fixed_sum.rs"),
    include_str!("fixed_sum/killed.rs"),
    include_str!("fixed_sum/left_out.rs"),
    include_str!("fixed_sum/slow.rs"),
    include_str!("hostile.rs"),
    include_str!("join.rs"),
    include_str!("lateness.rs"),
    include_str!("resume.rs"),
    include_str!("round.rs"),
    include_str!("secagg/lies.rs"),
    include_str!("secagg/sums.rs"),
    include_str!("suspicion.rs"),
    include_str!("suspicion/repeats.rs"),
    include_str!("transcript.rs"),
];

/// `J1`, `C10`: a letter and a number.
fn rule(word: &str) -> Option<&str> {
    let number = word.strip_prefix(['A', 'C', 'D', 'E', 'F', 'J', 'L', 'R', 'S', 'T', 'V', 'W'])?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(word)
}

/// The rules that a doc comment begins with.
fn named(line: &str) -> Vec<&str> {
    let Some((rules, _)) = line
        .trim_start()
        .strip_prefix("/// ")
        .and_then(|line| line.split_once(": "))
    else {
        return Vec::new();
    };
    rules.split(", ").filter_map(rule).collect()
}

/// Each rule with its words.
fn written() -> BTreeMap<&'static str, String> {
    let mut rules = BTreeMap::<_, String>::new();
    let mut last = None;
    for line in DOCUMENT.lines() {
        if let Some((word, words)) = line
            .strip_prefix("- **")
            .and_then(|line| line.split_once("**"))
        {
            last = rule(word);
            if let Some(rule) = last {
                rules.insert(rule, words.to_owned());
            }
        } else if let Some(words) = line.strip_prefix("  ") {
            last.and_then(|rule| rules.get_mut(rule))
                .into_iter()
                .for_each(|rule| *rule += words);
        } else {
            last = None;
        }
    }
    rules
}

/// Each rule with the words of its tests.
fn tested() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut rules = BTreeMap::<_, BTreeSet<_>>::new();
    let mut last = Vec::new();
    for line in TESTS.iter().flat_map(|source| source.lines()) {
        let of_line = named(line);
        if !of_line.is_empty() {
            last = of_line;
        }
        let words = line.split(|letter: char| !letter.is_alphanumeric());
        for &rule in &last {
            rules.entry(rule).or_default().extend(words.clone());
        }
    }
    rules
}

/// The reasons among the words in backquotes, as they are called in Rust.
fn reasons(words: &str) -> Vec<String> {
    let variant = |word: &str| {
        let code = CloseCode::from_label(word).map(|code| format!("{code:?}"));
        let refusal = RefusalReason::from_label(word).map(|reason| format!("{reason:?}"));
        let failure = RunFailure::from_label(word).map(|reason| format!("{reason:?}"));
        code.or(refusal).or(failure)
    };
    let quoted = words.split('`').skip(1).step_by(2);
    quoted.filter_map(variant).collect()
}

/// Reasons that the tests of another rule show, or those of another package.
const ELSEWHERE: [(&str, &str); 4] = [
    // The client's: it alone knows that its certificate was replaced.
    ("C6", "Revoked"),
    // With what a participant closes only its owner sees.
    ("F5", "Left"),
    // S10 shows what becomes of a member that is turned away.
    ("S4", "Deceived"),
    ("S8", "Deceived"),
];

#[test]
fn every_rule_has_a_test_and_every_tested_rule_is_written_down() {
    let (written, tested) = (written(), tested());
    let [written, tested] = [
        written.keys().collect::<BTreeSet<_>>(),
        tested.keys().collect(),
    ];
    assert_eq!(written, tested);
    assert!(30 < written.len(), "{written:?}");
}

#[test]
fn every_reason_that_a_rule_gives_is_in_one_of_its_tests() {
    let (written, tested) = (written(), tested());
    let mut missing = Vec::new();
    for (&rule, words) in &written {
        let said = reasons(words).into_iter();
        let is_missing = |reason: &String| !tested[rule].contains(reason.as_str());
        missing.extend(said.filter(is_missing).map(|reason| (rule, reason)));
    }
    let expected = ELSEWHERE.map(|(rule, reason)| (rule, reason.to_owned()));
    assert_eq!(missing, expected);
}
