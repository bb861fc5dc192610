//! The server's process is killed in the midst of a round's only sum, and its next one goes on with what was written down (S7, S12).

use protocol::coordinator::Entry;

use super::*;

impl Stage {
    /// Each sum that is to be opened is none.
    fn opens_none(&mut self) {
        let mut judged = 0;
        while judged < self.sums.len() {
            judged = self.sums.len();
            let detail = Text::new("coordinate 3 is too large");
            self.server.sum_not_opened(detail, self.now);
            self.go_on();
        }
    }
}

/// S7, D1, S12: the server dies while the sum is being opened, and knows afterwards whose it is.
#[test]
fn a_server_that_died_while_a_sum_was_opened_goes_on_with_those_in_it() {
    let mut stage = Stage::new(3, &[("e", "Offer")]);
    wait(&mut stage, 20);
    assert_eq!(joined(&stage.sums[0]), "abcd");
    assert_eq!(stage.history.open.as_ref().unwrap().summed.len(), 4);
    stage.restarts();
    // The one that is not in it comes first, and too early.
    for index in [4, 0, 1, 2, 3] {
        stage.sites[index].dies_before = None;
        stage.connects(index);
        stage.go_on();
    }
    assert_eq!(stage.attempts()[1..], [(2, "abcd".to_owned())]);
    assert_eq!(joined(&stage.sums[1]), "abcd");
    stage.assert_nobody_accuses();
}

/// S12: whenever the server is killed, what was found to be no sum is not forgotten, and the same members are asked for it twice
/// in all; once more only where the server died before it had written down what it found.
#[test]
fn a_sum_that_is_none_is_tried_twice_in_all_however_often_the_server_is_killed() {
    let mut whole = Stage::new(3, &[]);
    whole.opens_none();
    assert_eq!(whole.sums.len(), 2);
    assert!(40 < whole.actions, "{} actions", whole.actions);
    for before in 0..whole.actions {
        let mut stage = Stage::empty(3, &[]);
        stage.killed_before = Some(before);
        stage.all_come();
        stage.opens_none();
        let undone = stage.undone.as_ref().unwrap();
        let forgot = matches!(undone, Action::Record(Entry::SumUnopened { .. }));
        assert_eq!(
            stage.sums.len(),
            2 + usize::from(forgot),
            "killed before {undone:?}"
        );
        let (reason, said) = stage.failure();
        assert_eq!(reason, RunFailure::SumNotOpened, "{undone:?}");
        assert!(said.contains("2 attempts among the same"), "{said}");
        stage.assert_nobody_accuses();
    }
}

/// S12: the run ended on its sum; starting the server again makes no other attempt, and says why.
#[test]
fn a_server_that_is_started_again_after_its_sum_was_none_twice_ends_at_once_in_words() {
    let mut stage = Stage::new(3, &[]);
    stage.opens_none();
    let attempts = stage.attempts();
    for _ in 0..3 {
        stage.outcome = None;
        stage.restarts();
        stage.go_on();
        let (reason, said) = stage.failure();
        assert_eq!(reason, RunFailure::SumNotOpened);
        assert!(said.contains("2 attempts among the same"), "{said}");
    }
    assert_eq!(stage.attempts(), attempts);
}

/// S12: one failed try before the server was killed leaves one.
#[test]
fn a_try_that_failed_before_the_server_was_killed_counts_after_it() {
    let mut stage = Stage::new(3, &[]);
    let detail = Text::new("coordinate 3 is too large");
    stage.server.sum_not_opened(detail.clone(), stage.now);
    stage.go_on();
    assert_eq!(stage.history.open.as_ref().unwrap().unopened, 1);
    stage.restarts();
    stage.all_come();
    assert_eq!(stage.outcome, None);
    stage.server.sum_not_opened(detail, stage.now);
    stage.go_on();
    assert_eq!(stage.failure().0, RunFailure::SumNotOpened);
}
