//! Participants that lie to the server (rules R3 and V6).

use std::time::Duration;

use protocol::close::{CloseCode, RefusalReason};
use protocol::message::{Beginning, Content, Metrics, ToServer, TransferHeader};
use protocol::{Digest, Round, TransferId};

use super::pair::{ADAPTER_BYTES, Pair, Weather, content, name, plan};

/// A federation in round 1 of 3 whose participant `a` is spoken for by the test.
fn in_round_one() -> Pair {
    let mut pair = Pair::new(plan(&["a", "b"], 1, 3), Weather::fair(), 1);
    pair.sites[0].manual = true;
    pair.sites[1].manual = true;
    pair.drive_until("training", |pair| {
        pair.sites.iter().all(|site| !site.trainings.is_empty())
    });
    pair.sites[0].puppet = true;
    pair
}

fn header(pair: &Pair, round: u32, of: &str) -> TransferHeader {
    TransferHeader::update(&name("a"), Round(round), pair.plan.digest(), content(of))
}

fn offer(pair: &mut Pair, transfer: TransferHeader, weight: u64) {
    pair.say(
        0,
        ToServer::Offer {
            transfer,
            weight,
            metrics: Metrics::default(),
        },
    );
    pair.wait(Duration::from_millis(30));
}

/// R3: an offer for another round, an earlier or a later one, is refused by name and changes nothing.
#[test]
fn an_offer_for_another_round_is_refused_and_named() {
    let mut pair = in_round_one();
    let later = header(&pair, 2, "x");
    offer(&mut pair, later, 1);
    let never = header(&pair, 0, "x");
    offer(&mut pair, never, 1);
    assert_eq!(pair.refusals("a"), [RefusalReason::WrongRound; 2]);
    let good = header(&pair, 1, "x");
    offer(&mut pair, good, 1);
    assert_eq!(
        pair.refusals("a").len(),
        2,
        "it may still offer the right one"
    );
}

/// R3: an offer under another plan is refused by name.
#[test]
fn an_offer_under_another_plan_is_refused_and_named() {
    let mut pair = in_round_one();
    let other = TransferHeader::update(&name("a"), Round(1), Digest::of(b"other"), content("x"));
    offer(&mut pair, other, 1);
    assert_eq!(pair.refusals("a"), [RefusalReason::WrongPlan]);
}

/// R3: weight and size are judged before any byte is sent, and end the participant's part in the round.
#[test]
fn a_bad_weight_or_size_is_refused_before_any_byte() {
    let small = Content {
        bytes: ADAPTER_BYTES - 1,
        sha256: Digest::of(b"x"),
    };
    let cases = [
        (content("x"), 0, RefusalReason::ZeroWeight),
        (content("x"), 1001, RefusalReason::OverWeight),
        (small, 1, RefusalReason::WrongSize),
    ];
    for (content, weight, reason) in cases {
        let mut pair = in_round_one();
        let transfer = TransferHeader::update(&name("a"), Round(1), pair.plan.digest(), content);
        offer(&mut pair, transfer, weight);
        let good = header(&pair, 1, "second thoughts");
        offer(&mut pair, good, 1);
        assert_eq!(
            pair.refusals("a"),
            [reason, reason],
            "no second try in the same round"
        );
    }
}

/// R3: a second update in the same round, offered or poured, is refused as a duplicate and not counted.
#[test]
fn a_second_update_in_one_round_is_refused_and_named() {
    let mut pair = in_round_one();
    let first = header(&pair, 1, "x");
    offer(&mut pair, first, 1);
    pair.pour(0, first);
    // Whether the first one counts is not known yet: the second is dropped without a word.
    pair.pour(0, first);
    pair.drive_until("counted", |pair| pair.counted(1) == ["a"]);
    pair.wait(Duration::from_millis(50));
    assert!(pair.refusals("a").is_empty());
    pair.pour(0, first);
    pair.wait(Duration::from_millis(50));
    assert_eq!(pair.refusals("a"), [RefusalReason::Duplicate]);
    let second = header(&pair, 1, "y");
    offer(&mut pair, second, 1);
    assert_eq!(pair.refusals("a"), [RefusalReason::Duplicate; 2]);
    // The counted one itself is acknowledged again: the first acknowledgement may be lost.
    let sent = pair.server.sent.len();
    offer(&mut pair, first, 1);
    assert_eq!(pair.server.sent.len(), sent + 1);
    assert_eq!(pair.refusals("a").len(), 2);
}

/// R3: bytes that were not offered are refused as another transfer.
#[test]
fn bytes_that_were_not_offered_are_refused_and_named() {
    let mut pair = in_round_one();
    let unannounced = header(&pair, 1, "x");
    pair.pour(0, unannounced);
    pair.wait(Duration::from_millis(50));
    assert_eq!(pair.refusals("a"), [RefusalReason::WrongTransfer]);

    let mut pair = in_round_one();
    let offered = header(&pair, 1, "x");
    offer(&mut pair, offered, 1);
    let another = header(&pair, 1, "y");
    pair.pour(0, another);
    pair.wait(Duration::from_millis(50));
    assert_eq!(pair.refusals("a"), [RefusalReason::WrongTransfer]);
}

/// R3: an offer and bytes that come after the round was closed are late.
#[test]
fn an_offer_and_bytes_after_the_close_are_refused_as_late() {
    let mut pair = in_round_one();
    let slow = header(&pair, 1, "x");
    let update = content("b's update");
    pair.sites[1]
        .machine
        .trained(Round(1), update, 1, Metrics::default())
        .unwrap();
    pair.drive_until("delivering", |pair| !pair.sites[1].delivered.is_empty());
    let bytes = pair.sites[1].delivered[0];
    pair.pour(1, bytes);
    for step in 1..=2 {
        pair.wait(Duration::from_secs(12));
        pair.say(
            0,
            ToServer::Progress {
                round: Round(1),
                step,
                steps: 4,
            },
        );
    }
    pair.drive_until("closed", |pair| !pair.server.summaries.is_empty());
    assert_eq!(pair.counted(1), ["b"]);
    offer(&mut pair, slow, 1);
    pair.pour(0, slow);
    pair.wait(Duration::from_millis(50));
    assert_eq!(
        pair.refusals("a"),
        [RefusalReason::Late; 3],
        "told at the close, and twice on asking"
    );
    assert_eq!(pair.counted(1), ["b"]);
}

/// V6: an offer in another's name, or with an invented id, ends the connection.
#[test]
fn an_offer_in_anothers_name_ends_the_connection() {
    let mut pair = in_round_one();
    let stolen = TransferHeader::update(&name("b"), Round(1), pair.plan.digest(), content("x"));
    offer(&mut pair, stolen, 1);
    assert_eq!(pair.codes("a"), [CloseCode::BadTransfer]);

    let mut pair = in_round_one();
    let mut invented = header(&pair, 1, "x");
    invented.id = TransferId([7; 16]);
    offer(&mut pair, invented, 1);
    assert_eq!(pair.codes("a"), [CloseCode::BadTransfer]);
}

/// V6: progress in a round that was never opened, and bytes that are no message, end the connection.
#[test]
fn impossible_rounds_and_malformed_bytes_end_the_connection() {
    let mut pair = in_round_one();
    pair.say(
        0,
        ToServer::Progress {
            round: Round(2),
            step: 1,
            steps: 4,
        },
    );
    let connection = pair.sites[1].connection.unwrap();
    pair.coordinator.handle_malformed(connection, pair.now);
    pair.wait(Duration::from_millis(50));
    assert_eq!(pair.codes("a"), [CloseCode::WrongRound]);
    assert_eq!(pair.codes("b"), [CloseCode::Malformed]);
}

/// V6: a list that is longer than the protocol allows ends the connection.
#[test]
fn too_long_a_list_ends_the_connection() {
    let (sha256, bytes) = (Digest::default(), 1);
    for (held, begun) in [(9, 0), (0, 9)] {
        let mut pair = Pair::new(plan(&["a"], 1, 1), Weather::fair(), 1);
        pair.drive_until("hello", |pair| !pair.server.sent.is_empty());
        let ready = ToServer::Ready {
            plan: pair.plan.digest(),
            holds: vec![sha256; held],
            begun: vec![Beginning { sha256, bytes }; begun],
            recorded: Round(0),
        };
        pair.say(0, ready);
        pair.wait(Duration::from_millis(15));
        assert_eq!(pair.codes("a"), [CloseCode::Unexpected]);
    }
}

/// R7, F2: an acknowledgement of what was not sent is no progress, neither in a round nor after the last one.
#[test]
fn acknowledging_what_was_not_sent_keeps_nobody_waiting() {
    let mut pair = in_round_one();
    for id in 1..=3 {
        pair.wait(Duration::from_secs(6));
        let transfer = TransferId([id; 16]);
        pair.say(0, ToServer::Received { transfer });
    }
    pair.wait(Duration::from_secs(3));
    assert!(pair.codes("a").contains(&CloseCode::Stalled));
}
