//! Over whom attempts at secure aggregation came to nothing, and whom the next one does without.
//!
//! One hostile member can spoil any attempt: it seals shares that cannot be opened, objects to good ones, or goes silent. Who lies
//! in an objection cannot be told from one, as only the two know what was sealed; so it counts against both. A hostile member is in every
//! failure that it causes, and each honest one in few of them: from the second on, those in most failures are left out, as many as
//! the plan's quorum can do without. Nobody is judged for good: with every failure the choice is made anew, and each round begins
//! without suspicions. A restart forgets none: they follow from the round's failures, which are written down.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::ids::ParticipantName;
use crate::secagg::Failure;

/// Failures of one attempt can happen to anybody.
const FAILURES_MIN: u32 = 2;

/// What speaks against the participants of a round.
#[derive(Debug, Default)]
pub(super) struct Suspicions(BTreeMap<ParticipantName, Suspicion>);

/// What speaks against one.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
struct Suspicion {
    /// Attempts that came to nothing over it.
    failures: u32,
    /// Those of them in which it did not object itself.
    accused: u32,
}

impl Suspicions {
    /// What these attempts that came to nothing say.
    pub(super) fn over<'a>(failures: impl IntoIterator<Item = &'a Failure>) -> Self {
        let mut suspicions = Self::default();
        for failure in failures {
            suspicions.note(failure);
        }
        suspicions
    }

    /// Notes over whom an attempt came to nothing.
    fn note(&mut self, failure: &Failure) {
        match failure {
            Failure::Objection { by, against } => {
                self.of(against).accused += 1;
                self.of(against).failures += 1;
                if by != against {
                    self.of(by).failures += 1;
                }
            }
            Failure::TooFew { silent, .. } | Failure::Scattered { silent, .. } => {
                for name in silent {
                    self.of(name).accused += 1;
                    self.of(name).failures += 1;
                }
            }
        }
    }

    /// Whom an attempt among these does without, and over how many failures; at least `least` of them stay.
    pub(super) fn left_out(
        &self,
        present: &[&ParticipantName],
        least: usize,
    ) -> BTreeMap<ParticipantName, u32> {
        let against = |&name: &&ParticipantName| Some((*self.0.get(name)?, name.clone()));
        let mut suspects: Vec<_> = present
            .iter()
            .filter_map(against)
            .filter(|(suspicion, _)| FAILURES_MIN <= suspicion.failures)
            .collect();
        suspects.sort_by_key(|(suspicion, name)| (Reverse(*suspicion), name.clone()));
        suspects.truncate(present.len().saturating_sub(least));
        let named = suspects.into_iter();
        named
            .map(|(suspicion, name)| (name, suspicion.failures))
            .collect()
    }

    /// Those that attempts may do without.
    pub(super) fn suspects(&self) -> impl Iterator<Item = &ParticipantName> {
        let counts =
            |(_, suspicion): &(&ParticipantName, &Suspicion)| FAILURES_MIN <= suspicion.failures;
        self.0.iter().filter(counts).map(|(name, _)| name)
    }

    fn of(&mut self, name: &ParticipantName) -> &mut Suspicion {
        self.0.entry(name.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;

    fn name(text: &str) -> ParticipantName {
        text.parse().unwrap()
    }

    fn after(failures: &[(&str, &str)], present: usize, least: usize) -> Vec<String> {
        let objection = |(by, against): &(&str, &str)| Failure::Objection {
            by: name(by),
            against: name(against),
        };
        let failures: Vec<_> = failures.iter().map(objection).collect();
        let suspicions = Suspicions::over(&failures);
        let names: Vec<_> = ["a", "b", "c", "d", "e"].map(name).into();
        let names: Vec<_> = names.iter().take(present).collect();
        let found = suspicions.left_out(&names, least);
        found.into_keys().map(|name| name.to_string()).collect()
    }

    #[test]
    fn one_failure_leaves_nobody_out_and_the_second_the_one_that_is_in_both() {
        assert!(after(&[("a", "e")], 5, 3).is_empty());
        assert_eq!(after(&[("a", "e"), ("b", "e")], 5, 3), ["e"]);
        assert_eq!(after(&[("e", "a"), ("e", "b")], 5, 3), ["e"]);
    }

    #[test]
    fn of_two_that_accuse_each_other_both_are_left_out_or_the_accused_and_then_whoever_goes_on() {
        assert_eq!(after(&[("a", "e"), ("a", "e")], 5, 3), ["a", "e"]);
        assert_eq!(after(&[("e", "a"), ("e", "a")], 5, 4), ["a"]);
        assert_eq!(after(&[("e", "a"), ("e", "a"), ("e", "b")], 5, 4), ["e"]);
        assert!(after(&[("e", "a"), ("e", "a"), ("e", "b")], 5, 5).is_empty());
    }

    #[test]
    fn who_falls_silent_again_and_again_is_left_out_by_itself() {
        let names = ["a", "b", "c", "d"].map(name);
        let failures =
            [vec![name("d")], vec![name("c"), name("d")]].map(|silent| Failure::TooFew {
                what: Text::new("keys"),
                found: 2,
                members: 4,
                least: 3,
                silent,
            });
        let names: Vec<_> = names.iter().collect();
        let found = Suspicions::over(&failures).left_out(&names, 3);
        assert_eq!(found, BTreeMap::from([(name("d"), 2)]));
    }
}
