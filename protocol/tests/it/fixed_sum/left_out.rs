//! What becomes of a member without which a round's sum is made in the end.

use super::*;

/// S10: `e` seals shares that neither `a` nor `b` can open; the round is summed without it, and it is told why.
#[test]
fn a_member_that_is_left_out_to_the_end_is_refused_by_that_name() {
    let mut stage = Stage::empty(3, &[]);
    // An attempt lasts until the last vector is there.
    stage.slow = Some(0);
    stage.all_come();
    let against = MemberId(5);
    for (number, objector) in [(1, 0), (2, 1)] {
        assert_eq!(stage.attempts().last(), Some(&(number, ALL.to_owned())));
        let of_objector = stage.sites[objector].connection.unwrap();
        let attempt = AttemptId {
            round: ROUND,
            number,
        };
        let message = ForServer::Objection { against };
        stage.says(of_objector, ToServer::Secure { attempt, message });
        stage.go_on();
    }
    assert_eq!(stage.attempts().last(), Some(&(3, "abcd".to_owned())));
    assert!(stage.refused.is_empty(), "it may still be taken in again");
    let (of_a, last) = (
        stage.sites[0].connection.unwrap(),
        *stage.on_its_way.last().unwrap(),
    );
    stage.arrives(of_a, &last);
    stage.go_on();
    assert_eq!(joined(&stage.sums[0]), "abcd");
    assert_eq!(stage.refused, [(name("e"), RefusalReason::LeftOut)]);
    let reported = Report::Refused {
        participant: name("e"),
        round: ROUND,
        reason: RefusalReason::LeftOut,
    };
    assert!(stage.reports.contains(&reported), "{:?}", stage.reports);
    stage.assert_nobody_accuses();
}
