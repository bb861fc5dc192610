//! Every rule of `docs/protocol.md` has a test that names it, and no test names a rule that is not there.

use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");
const TESTS: [&str; 17] = [
    include_str!("allowance.rs"),
    include_str!("bytes.rs"),
    include_str!("crash.rs"),
    include_str!("disturbed.rs"),
    include_str!("fixed_sum.rs"),
    include_str!("fixed_sum/killed.rs"),
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

#[test]
fn every_rule_has_a_test_and_every_tested_rule_is_written_down() {
    let written: BTreeSet<_> = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("- **")?.split_once("**"))
        .filter_map(|(word, _)| rule(word))
        .collect();
    let tested: BTreeSet<_> = TESTS
        .iter()
        .flat_map(|source| source.lines())
        .filter_map(|line| {
            line.strip_prefix("/// ")
                .or_else(|| line.strip_prefix("    /// "))?
                .split_once(": ")
        })
        .flat_map(|(rules, _)| rules.split(", "))
        .filter_map(rule)
        .collect();
    assert_eq!(written, tested);
    assert!(30 < written.len(), "{written:?}");
}
