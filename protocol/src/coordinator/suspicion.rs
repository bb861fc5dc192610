//! Over whom attempts at secure aggregation came to nothing, and whom the next one does without.
//!
//! One hostile member can spoil any attempt: it seals shares that cannot be opened, objects to good ones, or goes silent. Who lies
//! in an objection cannot be told from one, as only the two know what was sealed; so it counts against both. A hostile member is in every
//! failure that it causes, and each honest one in few of them: from the second on, those in most failures are left out, as many as
//! the plan's quorum can do without. Several may take turns, so that none is in two: from the second objection on that nobody in two
//! failures is a part of, all in these are left out, too. Where the quorum cannot do without all, the first to go are those without whom
//! the others' objections can no longer be made. Nobody is judged for good: with every failure the choice is made anew, and each round
//! begins without suspicions. A restart forgets none: they follow from the round's failures, which are written down.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::ids::ParticipantName;
use crate::secagg::Failure;

/// Failures of one attempt can happen to anybody.
const FAILURES_MIN: u32 = 2;

/// What speaks against the participants of a round.
#[derive(Debug, Default)]
pub(super) struct Suspicions {
    against: BTreeMap<ParticipantName, Suspicion>,
    /// Who objected to whom.
    objections: Vec<(ParticipantName, ParticipantName)>,
}

/// What speaks against one.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
struct Suspicion {
    /// Attempts that came to nothing over it.
    failures: u32,
    /// Those of them in which it did not object itself.
    accused: u32,
    /// Those of them in which it owed an answer.
    silent: u32,
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
                self.objections.push((by.clone(), against.clone()));
            }
            Failure::TooFew { silent, .. } | Failure::Scattered { silent, .. } => {
                for name in silent {
                    self.of(name).accused += 1;
                    self.of(name).failures += 1;
                    self.of(name).silent += 1;
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
        let suspects = self.suspects();
        let mut inside: BTreeSet<_> = present.iter().copied().collect();
        let mut found = BTreeMap::new();
        for _ in least..present.len() {
            let possible = self.possible_objections(&inside);
            let left = inside.intersection(&suspects).copied();
            let worst = left.max_by_key(|&name| {
                let suspicion = self.against.get(name).copied().unwrap_or_default();
                let again = possible.get(name).copied().unwrap_or(0) + suspicion.silent;
                (again, suspicion, Reverse(name))
            });
            let Some(worst) = worst else {
                break;
            };
            inside.remove(worst);
            let failures = self.against.get(worst).map_or(0, |one| one.failures);
            found.insert(worst.clone(), failures);
        }
        found
    }

    /// Those that attempts may do without.
    pub(super) fn suspects(&self) -> BTreeSet<&ParticipantName> {
        let counts =
            |(_, suspicion): &(&ParticipantName, &Suspicion)| FAILURES_MIN <= suspicion.failures;
        let mut suspects: BTreeSet<_> = self
            .against
            .iter()
            .filter(counts)
            .map(|(name, _)| name)
            .collect();
        let is_explained = |(by, against): &&(ParticipantName, ParticipantName)| {
            suspects.contains(by) || suspects.contains(against)
        };
        let unexplained: Vec<_> = self
            .objections
            .iter()
            .filter(|one| !is_explained(one))
            .collect();
        if FAILURES_MIN as usize <= unexplained.len() {
            let parties = unexplained
                .into_iter()
                .flat_map(|(by, against)| [by, against]);
            suspects.extend(parties);
        }
        suspects
    }

    /// In how many objections that were made each of these is with another of these.
    fn possible_objections(
        &self,
        inside: &BTreeSet<&ParticipantName>,
    ) -> BTreeMap<&ParticipantName, u32> {
        let mut counts = BTreeMap::new();
        for (by, against) in &self.objections {
            if inside.contains(by) && inside.contains(against) {
                for name in BTreeSet::from([by, against]) {
                    *counts.entry(name).or_default() += 1;
                }
            }
        }
        counts
    }

    fn of(&mut self, name: &ParticipantName) -> &mut Suspicion {
        self.against.entry(name.clone()).or_default()
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
    fn of_two_that_take_turns_all_are_left_out_or_those_without_whom_neither_can_object_again() {
        let failures = [("a", "d"), ("b", "e")];
        assert_eq!(after(&failures, 5, 1), ["a", "b", "d", "e"]);
        assert_eq!(after(&failures, 5, 3), ["d", "e"]);
        let failures = [("a", "d"), ("b", "e"), ("a", "c")];
        assert_eq!(after(&failures, 5, 2), ["a"]);
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
