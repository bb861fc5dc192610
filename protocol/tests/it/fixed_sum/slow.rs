//! A masked update that is on its way when its attempt comes to nothing, and arrives in the midst of the next one.

use super::*;

/// `e` cannot read its shares when `a` is still sending: both are in the next attempt, and `a` is asked for its next vector before the
/// one of the first is there as a whole.
#[test]
fn a_masked_update_of_an_attempt_that_has_ended_does_not_cost_its_sender_the_next_one() {
    let mut stage = Stage::empty(3, &[("e", "Offer")]);
    stage.slow = Some(0);
    stage.all_come();
    stage.comes_back("e");
    let [of_a, of_e] = [0, 4].map(|index: usize| stage.sites[index].connection.unwrap());
    let attempt = AttemptId {
        round: ROUND,
        number: 1,
    };
    let against = MemberId(1);
    let message = ForServer::Objection { against };
    stage.says(of_e, ToServer::Secure { attempt, message });
    stage.go_on();
    assert_eq!(stage.attempts()[1..], [(2, ALL.to_owned())]);
    let [old, new] = stage.on_its_way[..] else {
        panic!("{:?}", stage.on_its_way);
    };
    for header in [old, new] {
        stage.arrives(of_a, &header);
        stage.go_on();
    }
    assert_eq!(joined(&stage.sums[0]), ALL);
    let is_refused = |report: &Report| matches!(report, Report::Refused { .. });
    assert!(!stage.reports.iter().any(is_refused), "{:?}", stage.reports);
    stage.assert_nobody_accuses();
}
