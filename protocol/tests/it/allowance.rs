//! What one participant may ask of the server, and what happens to one that asks for more (rules A1 to A5).

use std::ops::Range;
use std::time::Duration;

use protocol::close::{CloseCode, RefusalReason};
use protocol::coordinator::Allowance;
use protocol::message::{Beginning, Capabilities, Metrics, ToClient, ToServer, TransferHeader};
use protocol::{ConnectionId, Round, Text};

use super::pair::{ADAPTER_BYTES, Pair, Weather, content, name, plan};

/// A federation in round 1 of two, whose participant `a` is spoken for by the test.
fn in_round_one() -> Pair {
    training(2)
}

/// One in round 1 of so many.
fn training(rounds: u32) -> Pair {
    let mut pair = Pair::new(plan(&["a", "b"], 1, rounds), Weather::fair(), 1);
    pair.sites[0].manual = true;
    pair.sites[1].manual = true;
    pair.drive_until("training", |pair| {
        pair.sites.iter().all(|site| !site.trainings.is_empty())
    });
    pair.sites[0].puppet = true;
    pair
}

fn header(pair: &Pair, of: &str) -> TransferHeader {
    TransferHeader::update(&name("a"), Round(1), pair.plan.digest(), content(of))
}

fn offer(pair: &mut Pair, transfer: TransferHeader) {
    let (weight, metrics) = (1, Metrics::default());
    pair.say(
        0,
        ToServer::Offer {
            transfer,
            weight,
            metrics,
        },
    );
    pair.wait(Duration::from_millis(30));
}

/// `b` has trained, and delivers by itself.
fn finish_b(pair: &mut Pair) {
    let b = &mut pair.sites[1];
    b.manual = false;
    let (update, metrics) = (content("b's update"), Metrics::default());
    b.machine.trained(Round(1), update, 1, metrics).unwrap();
}

/// `a` connects, which supersedes its last connection, and is ready with what it says is begun.
fn join(pair: &mut Pair, number: u64, begun: Vec<Beginning>) -> ConnectionId {
    let connection = ConnectionId(number);
    pair.lend_line(connection, "a");
    pair.coordinator
        .handle_connected(connection, name("a"), pair.now);
    let hello = ToServer::Hello {
        version: 1,
        software: Text::default(),
        capabilities: Capabilities::default(),
    };
    let ready = ToServer::Ready {
        plan: pair.plan.digest(),
        holds: Vec::new(),
        begun,
        recorded: Round(0),
    };
    for message in [hello, ready] {
        pair.coordinator
            .handle_message(connection, message, pair.now);
    }
    pair.act();
    connection
}

/// `a` connects so often, with nothing, and takes all that is sent to it.
fn fetch(pair: &mut Pair, numbers: Range<u64>) {
    for number in numbers {
        join(pair, 7000 + number, Vec::new());
        pair.wait(Duration::from_millis(200));
    }
}

/// Bytes of adapters that were handed over for `a`.
fn fetched(pair: &Pair) -> u64 {
    let of_a = pair
        .server
        .transfers
        .iter()
        .filter(|(to, _)| *to == name("a"));
    of_a.map(|(_, header)| header.remaining()).sum()
}

/// Offsets from which `a` was asked to deliver.
fn asked_from(pair: &Pair) -> Vec<u64> {
    let of_a = pair.server.sent.iter().filter(|(to, _)| *to == name("a"));
    let offsets = of_a.filter_map(|(_, message)| match message {
        ToClient::Deliver { offset, .. } => Some(*offset),
        _ => None,
    });
    offsets.collect()
}

/// A1: who connects again and again is turned away for a while, and others are not.
#[test]
fn a_participant_that_connects_too_often_is_turned_away_for_a_while() {
    let mut pair = in_round_one();
    let limit = u64::from(Allowance::default().connections_per_minute);
    let dial = |pair: &mut Pair, who: &str, times: u64| {
        let before = pair.server.closes.len();
        for number in 0..times {
            let connection = ConnectionId(1000 + before as u64 * 1000 + number);
            pair.lend_line(connection, who);
            pair.coordinator
                .handle_connected(connection, name(who), pair.now);
        }
        pair.act();
        let of_times = pair.server.closes[before..].iter();
        of_times
            .filter(|(_, code)| *code == CloseCode::TooOften)
            .count() as u64
    };
    // One of them is the connection that it has.
    assert_eq!(dial(&mut pair, "a", limit + 5), 6);
    assert_eq!(dial(&mut pair, "b", 1), 0);
    pair.wait(Duration::from_secs(10));
    assert_eq!(dial(&mut pair, "a", 6), 1);
}

/// A2: messages that move nothing on are limited; steps of training, however many, and a new round's messages are not.
#[test]
fn a_participant_that_floods_is_cut_off_and_one_that_trains_fast_is_not() {
    let mut plan = plan(&["a", "b"], 1, 2);
    plan.training.local_steps = 10_000;
    let mut pair = Pair::new(plan, Weather::fair(), 1);
    pair.sites[0].manual = true;
    pair.sites[1].manual = true;
    pair.drive_until("training", |pair| {
        pair.sites.iter().all(|site| !site.trainings.is_empty())
    });
    pair.sites[0].puppet = true;
    let (round, steps) = (Round(1), 10_000);
    for step in 1..=2000 {
        pair.say(0, ToServer::Progress { round, step, steps });
    }
    pair.wait(Duration::from_millis(30));
    assert!(pair.codes("a").is_empty());
    for _ in 0..=Allowance::default().messages_per_minute {
        pair.say(
            0,
            ToServer::Progress {
                round,
                step: 7,
                steps,
            },
        );
    }
    pair.wait(Duration::from_millis(30));
    assert_eq!(pair.codes("a"), [CloseCode::Flooding]);
    assert!(pair.codes("b").is_empty());
}

/// A2: what was said in one round is not held against anybody in the next.
#[test]
fn each_round_begins_with_the_whole_allowance_of_messages() {
    let mut pair = in_round_one();
    let most = Allowance::default().messages_per_minute;
    // Two rounds' worth of these is more than a minute's.
    let flood = |pair: &mut Pair, round: u32| {
        let (round, step, steps) = (Round(round), 0, 4);
        for _ in 0..most - 40 {
            pair.say(0, ToServer::Progress { round, step, steps });
        }
        pair.wait(Duration::from_millis(30));
        assert!(pair.codes("a").is_empty(), "{round}");
    };
    flood(&mut pair, 1);
    let transfer = header(&pair, "update");
    offer(&mut pair, transfer);
    pair.pour(0, transfer);
    finish_b(&mut pair);
    pair.drive_until("asked once more", |pair| {
        pair.coordinator.open_round() == Some(Round(2))
    });
    assert_eq!(pair.counted(1), ["a", "b"]);
    flood(&mut pair, 2);
}

/// A3: beginnings of other and other updates are charged until the round's allowance is used up.
#[test]
fn bytes_beyond_the_rounds_allowance_are_refused_and_named() {
    let mut pair = in_round_one();
    let connection = pair.sites[0].connection.unwrap();
    for number in 0..Allowance::default().uploads_per_round {
        let transfer = header(&pair, &format!("beginning {number}"));
        offer(&mut pair, transfer);
        assert!(pair.refusals("a").is_empty(), "{number}");
        pair.coordinator
            .update_kept(connection, &name("a"), transfer.id, transfer.bytes);
    }
    let one_more = header(&pair, "one more");
    offer(&mut pair, one_more);
    assert_eq!(pair.refusals("a"), [RefusalReason::OverAllowance]);
}

/// A3: what a bad link kept from arriving is not charged: an update may come in as many pieces as it takes.
#[test]
fn an_update_that_comes_in_a_hundred_pieces_is_charged_once() {
    let mut pair = in_round_one();
    let transfer = header(&pair, "slow");
    let connection = pair.sites[0].connection.unwrap();
    for piece in 1..100 {
        offer(&mut pair, transfer);
        let kept = transfer.bytes / 100 * piece;
        pair.coordinator
            .update_kept(connection, &name("a"), transfer.id, kept);
    }
    assert!(pair.refusals("a").is_empty());
    assert_eq!(asked_from(&pair).len(), 99);
    pair.pour(0, transfer.at(*asked_from(&pair).last().unwrap()));
    pair.drive_until("counted", |pair| pair.counted(1) == ["a"]);
}

/// A3: of a participant that came back before the server knew how much its last connection had brought, the delivery was asked for
/// from its first byte; what is told of the older one then moves nothing, and costs what it brought.
#[test]
fn late_news_of_an_older_connections_bytes_is_not_taken_for_the_newer_ones() {
    let mut pair = in_round_one();
    let transfer = header(&pair, "interrupted");
    let begin = |pair: &mut Pair, number: u64| {
        let connection = join(pair, number, Vec::new());
        let (weight, metrics) = (1, Metrics::default());
        let offer = ToServer::Offer {
            transfer,
            weight,
            metrics,
        };
        pair.coordinator.handle_message(connection, offer, pair.now);
        pair.act();
        connection
    };
    let [older, newer] = [5000, 5001].map(|number| begin(&mut pair, number));
    let half = transfer.bytes / 2;
    pair.coordinator
        .update_kept(older, &name("a"), transfer.id, half);
    let last = begin(&mut pair, 5002);
    // The second one's writer has only begun.
    pair.coordinator
        .update_kept(newer, &name("a"), transfer.id, 10);
    pair.coordinator
        .update_kept(last, &name("a"), transfer.id, 100);
    begin(&mut pair, 5003);
    assert_eq!(asked_from(&pair), [0, 0, 0, 100]);
    assert!(pair.refusals("a").is_empty());
}

/// A5: one that has the adapter sent to it again and again is out for the round, and not for the next.
#[test]
fn a_participant_that_fetches_again_and_again_is_refused_and_named() {
    let mut pair = in_round_one();
    let times = u64::from(Allowance::default().downloads_per_round);
    fetch(&mut pair, 1..times);
    assert!(pair.refusals("a").is_empty());
    assert_eq!(fetched(&pair), times * ADAPTER_BYTES);
    fetch(&mut pair, times..times + 3);
    assert_eq!(fetched(&pair), times * ADAPTER_BYTES);
    assert_eq!(pair.refusals("a")[0], RefusalReason::OverAllowance);
    finish_b(&mut pair);
    pair.drive_until("the next round", |pair| {
        pair.coordinator.open_round() == Some(Round(2))
    });
    assert_eq!(pair.counted(1), ["b"]);
    assert_eq!(fetched(&pair), (times + 1) * ADAPTER_BYTES);
}

/// A5: what a bad link kept from leaving is not charged: an adapter may come in as many pieces as it takes.
#[test]
fn an_adapter_that_comes_in_many_pieces_is_charged_once() {
    let mut pair = in_round_one();
    let times = u64::from(Allowance::default().downloads_per_round);
    fetch(&mut pair, 1..times - 1);
    join(&mut pair, 8000, Vec::new());
    // The allowance is used up to the last byte, unless the last adapter breaks off.
    let adapter = pair.server.transfers.last().unwrap().1;
    for piece in 1..20 {
        let last = pair.sites[0].connection.unwrap();
        let left = ADAPTER_BYTES / 20;
        let remaining = pair.server.transfers.last().unwrap().1.remaining();
        let unsent = (adapter.id, remaining - left);
        pair.coordinator
            .transfer_unsent(last, &name("a"), unsent, pair.now);
        let begun = Beginning {
            sha256: adapter.sha256,
            bytes: left * piece,
        };
        join(&mut pair, 8100 + piece, vec![begun]);
        pair.wait(Duration::from_secs(3));
        assert!(pair.refusals("a").is_empty(), "{piece}");
    }
    assert!(
        pair.codes("a")
            .iter()
            .all(|&code| code == CloseCode::Superseded)
    );
    // The same pieces once more are one too many.
    join(&mut pair, 8200, Vec::new());
    pair.wait(Duration::from_millis(30));
    assert_eq!(pair.refusals("a"), [RefusalReason::OverAllowance]);
}

/// A5: where there is no round to be out of, the connection is closed.
#[test]
fn a_participant_that_fetches_the_final_adapter_again_and_again_is_closed() {
    let mut pair = training(1);
    let transfer = header(&pair, "update");
    offer(&mut pair, transfer);
    pair.pour(0, transfer);
    finish_b(&mut pair);
    pair.drive_until("the end", |pair| {
        let mut to_a = pair.server.sent.iter().filter(|(to, _)| *to == name("a"));
        to_a.any(|(_, message)| matches!(message, ToClient::Finished { .. }))
    });
    pair.wait(Duration::from_millis(200));
    let before = fetched(&pair);
    let times = u64::from(Allowance::default().downloads_per_round);
    fetch(&mut pair, 1..times + 1);
    assert_eq!(fetched(&pair) - before, (times - 1) * ADAPTER_BYTES);
    assert_eq!(pair.codes("a").last(), Some(&CloseCode::TooMuch));
}

/// A4: a delivery that its sender broke off is asked for again from where it stopped, and not for ever.
#[test]
fn a_delivery_broken_off_is_asked_for_again_and_then_refused() {
    let mut pair = in_round_one();
    let transfer = header(&pair, "hesitant");
    offer(&mut pair, transfer);
    let limit = Allowance::default().interruptions_per_round;
    let connection = pair.sites[0].connection.unwrap();
    for time in 1..=u64::from(limit) {
        pair.coordinator
            .update_kept(connection, &name("a"), transfer.id, 10 * time);
        let is_out = pair
            .coordinator
            .delivery_cut(connection, transfer.id, pair.now);
        assert!(!is_out);
        pair.act();
    }
    assert_eq!(asked_from(&pair), [0, 10, 20, 30]);
    assert!(
        pair.coordinator
            .delivery_cut(connection, transfer.id, pair.now)
    );
    pair.wait(Duration::from_millis(30));
    assert_eq!(pair.refusals("a"), [RefusalReason::BrokenOff]);
    assert!(pair.codes("a").is_empty(), "it may take part in the next");
}

/// A4: one that stalls again and again is out for the round, and told so when it is back.
#[test]
fn a_participant_that_stalls_again_and_again_is_out_for_the_round() {
    let mut plan = plan(&["a", "b"], 1, 2);
    plan.cohort.stall_limit = Duration::from_secs(3);
    let mut pair = Pair::new(plan, Weather::fair(), 1);
    pair.sites[0].manual = true;
    // The round stays open over an update that is with the server.
    pair.hold_folds = true;
    pair.drive_until("out", |pair| {
        pair.refusals("a") == [RefusalReason::BrokenOff]
    });
    let stalls = pair.codes("a");
    assert_eq!(stalls, [CloseCode::Stalled; 4]);
    pair.sites[0].manual = false;
    pair.hold_folds = false;
    pair.folded(name("b"));
    pair.drive();
    assert_eq!(pair.counted(1), ["b"]);
}
