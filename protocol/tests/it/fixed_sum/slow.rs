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

/// R7: that it is there and speaks is not what is awaited of it.
#[test]
fn a_member_that_says_much_and_sends_nothing_stalls() {
    let mut stage = Stage::empty(3, &[]);
    stage.slow = Some(0);
    stage.all_come();
    let of_a = stage.sites[0].connection.unwrap();
    for _ in 0..3 {
        stage.now += Duration::from_secs(6);
        let (round, metrics) = (ROUND, Metrics::default());
        stage.says(of_a, ToServer::Trained { round, metrics });
        let against = MemberId(1);
        let message = ForServer::Objection { against };
        let attempt = AttemptId { round, number: 9 };
        stage.says(of_a, ToServer::Secure { attempt, message });
        let transfer = TransferId([9; 16]);
        stage.says(of_a, ToServer::Received { transfer });
        stage.go_on();
    }
    stage.now += Duration::from_secs(3);
    stage.server.handle_timeout(stage.now);
    stage.go_on();
    let participant = name("a");
    let stalled = Report::Stalled { participant };
    assert!(stage.reports.contains(&stalled), "{:?}", stage.reports);
}

/// S13: its bytes come steadily, and not fast enough.
#[test]
fn a_member_whose_masked_update_takes_longer_than_a_round_may_is_left_behind() {
    let mut stage = Stage::empty(3, &[]);
    stage.slow = Some(0);
    stage.all_come();
    let (began, of_a) = (stage.now, stage.sites[0].connection.unwrap());
    while stage.sums.is_empty() {
        assert!(stage.now - began <= Duration::from_secs(120));
        stage.now += Duration::from_secs(10);
        stage.server.handle_transfer_progress(of_a, stage.now);
        stage.server.handle_timeout(stage.now);
        stage.go_on();
    }
    assert_eq!(stage.now - began, Duration::from_secs(120));
    assert_eq!(joined(&stage.sums[0]), "bcde");
    // What still comes of it is late, and nothing worse.
    let header = stage.on_its_way[0];
    stage.arrives(of_a, &header);
    stage.go_on();
    let refused = stage.reports.iter().filter_map(|report| match report {
        Report::Refused { reason, .. } => Some(*reason),
        _ => None,
    });
    assert!(refused.eq([RefusalReason::Late]));
    stage.assert_nobody_accuses();
}
