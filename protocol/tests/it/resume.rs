//! Lost connections, killed processes, and coming back (rules C1 to C8).

use std::time::Duration;

use protocol::close::CloseCode;
use protocol::coordinator::{Action, Release, Report};
use protocol::message::{
    Capabilities, Metrics, ResendReason, ToClient, ToServer, TransferHeader, TransferKind,
};
use protocol::participant::Outcome;
use protocol::plan::{Download, RunPlan};
use protocol::transcript::Chain;
use protocol::{ConnectionId, Round, Text};

use super::pair::{
    ADAPTER_BYTES, Pair, Weather, an_instant, content, coordinator, name, plan, record, release,
};

fn training(pair: &Pair) -> bool {
    pair.sites.iter().all(|site| !site.trainings.is_empty())
}

/// Everybody counts in both rounds, once, though the first site trains twice for the first of them.
fn drive_with_the_first_training_again(pair: &mut Pair) {
    pair.drive();
    for round in [1, 2] {
        assert_eq!(pair.counted(round), ["a", "b"], "round {round}");
    }
    assert_eq!(pair.sites[0].trainings, [Round(1), Round(1), Round(2)]);
}

fn globals_sent_to(pair: &Pair, who: &str) -> usize {
    let of = |(to, header): &&(protocol::ParticipantName, TransferHeader)| {
        to.as_str() == who && header.kind == TransferKind::GlobalAdapter
    };
    pair.server.transfers.iter().filter(of).count()
}

/// C1: training goes on while the connection is away, and the adapter is not sent again.
#[test]
fn a_lost_connection_costs_neither_the_training_nor_the_adapter() {
    let mut pair = Pair::new(plan(&["a", "b"], 2, 1), Weather::fair(), 1);
    pair.weather.train_ms = (8000, 8000);
    pair.drive_until("training", training);
    pair.wait(Duration::from_secs(3));
    pair.cut(0);
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
    assert_eq!(pair.sites[0].trainings, [Round(1)]);
    assert_eq!(globals_sent_to(&pair, "a"), 1);
}

/// C1: a process that was killed is sent the same round again, adapter included.
#[test]
fn a_restarted_process_is_sent_the_same_round_again() {
    let mut pair = Pair::new(plan(&["a", "b"], 2, 2), Weather::fair(), 1);
    pair.drive_until("training", training);
    pair.kill(0);
    pair.wait(Duration::from_secs(3));
    pair.restart(0);
    drive_with_the_first_training_again(&mut pair);
    assert_eq!(globals_sent_to(&pair, "a"), 3);
}

/// C2, C3: an interrupted delivery is offered again and goes on at the last byte kept.
#[test]
fn an_interrupted_delivery_goes_on_where_it_was() {
    let mut pair = Pair::new(plan(&["a", "b"], 2, 1), Weather::fair(), 1);
    pair.drive_until("training", training);
    pair.weather.cut_bulk = 1000;
    pair.drive_until("delivering", |pair| {
        pair.sites.iter().all(|site| !site.delivered.is_empty())
    });
    pair.weather.cut_bulk = 0;
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
    for site in &pair.sites {
        assert_eq!(site.trainings, [Round(1)]);
        let offsets: Vec<_> = site.delivered.iter().map(|header| header.offset).collect();
        assert_eq!(offsets, [0, ADAPTER_BYTES / 2]);
        assert_eq!(site.delivered[0].id, site.delivered[1].id);
    }
}

/// The offsets from which this participant was sent the adapter of round 1.
fn offsets_of_the_first_adapter(pair: &Pair, who: &str) -> Vec<u64> {
    let sent = pair.server.transfers.iter();
    let first = sent.filter(|(to, header)| to.as_str() == who && header.round == Round(1));
    first
        .filter(|(_, header)| header.kind == TransferKind::GlobalAdapter)
        .map(|(_, header)| header.offset)
        .collect()
}

/// Cuts the transfer of the first adapter in its middle, and goes on in fair weather.
fn cut_first_adapter(pair: &mut Pair) {
    pair.weather.cut_bulk = 1000;
    pair.drive_until("cut", |pair| {
        pair.sites.iter().all(|site| !site.begun.is_empty())
    });
    pair.weather.cut_bulk = 0;
}

/// C7: an interrupted download goes on where it broke off.
#[test]
fn an_interrupted_adapter_goes_on_where_it_was() {
    let mut pair = Pair::new(plan(&["a", "b"], 2, 1), Weather::fair(), 1);
    cut_first_adapter(&mut pair);
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
    for who in ["a", "b"] {
        let offsets = offsets_of_the_first_adapter(&pair, who);
        assert_eq!(offsets, [0, ADAPTER_BYTES / 2]);
    }
}

/// C7: the same after the participant's process was killed, and of a whole adapter nothing is sent again.
#[test]
fn a_restarted_process_is_sent_what_it_lacks_of_the_adapter() {
    let mut pair = Pair::new(plan(&["a", "b"], 2, 1), Weather::fair(), 1);
    pair.weather.spool = true;
    cut_first_adapter(&mut pair);
    pair.kill(0);
    pair.restart(0);
    pair.drive_until("training", training);
    pair.kill(1);
    pair.restart(1);
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
    let half = ADAPTER_BYTES / 2;
    assert_eq!(offsets_of_the_first_adapter(&pair, "a"), [0, half]);
    let offsets = offsets_of_the_first_adapter(&pair, "b");
    assert_eq!(offsets, [0, half, ADAPTER_BYTES]);
}

/// C7: the final adapter goes on where it broke off too.
#[test]
fn an_interrupted_final_adapter_goes_on_where_it_was() {
    let mut pair = Pair::new(plan(&["a"], 1, 1), Weather::fair(), 1);
    pair.drive_until("counted", |pair| pair.counted(1) == ["a"]);
    pair.weather.cut_bulk = 1000;
    pair.drive_until("cut", |pair| !pair.sites[0].begun.is_empty());
    pair.weather.cut_bulk = 0;
    pair.drive();
    let last = pair.server.transfers.last().unwrap().1;
    assert_eq!(last.kind, TransferKind::FinalAdapter);
    assert_eq!(last.offset, ADAPTER_BYTES / 2);
    assert!(matches!(
        pair.sites[0].outcome,
        Some(Outcome::Finished { .. })
    ));
}

/// C8: a beginning that the participant's disk damaged is made good, once and without a new connection.
#[test]
fn a_damaged_beginning_is_sent_again_from_the_first_byte() {
    let mut pair = Pair::new(plan(&["a", "b"], 2, 1), Weather::fair(), 1);
    pair.weather.damage = 1000;
    cut_first_adapter(&mut pair);
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
    let offsets = offsets_of_the_first_adapter(&pair, "a");
    assert_eq!(offsets, [0, ADAPTER_BYTES / 2, 0]);
}

/// C8: what was sent from its first byte is not sent again on the same connection, and whoever asks is closed.
#[test]
fn a_whole_transfer_is_not_asked_for_once_more() {
    let mut pair = Pair::new(plan(&["a", "b"], 2, 1), Weather::fair(), 1);
    pair.drive_until("training", training);
    let transfer = pair.server.transfers[0].1.id;
    pair.say(
        0,
        ToServer::Resend {
            transfer,
            reason: ResendReason::Damaged,
        },
    );
    pair.wait(Duration::from_millis(50));
    assert_eq!(pair.codes("a"), [CloseCode::BadTransfer]);
    assert_eq!(offsets_of_the_first_adapter(&pair, "a"), [0]);
}

/// C8: bytes that are wrong from the first on are the server's fault.
#[test]
fn a_whole_transfer_with_another_digest_is_the_servers_fault() {
    let mut pair = Pair::new(plan(&["a"], 1, 1), Weather::fair(), 1);
    pair.drive_until("sent", |pair| !pair.server.transfers.is_empty());
    let header = pair.server.transfers[0].1;
    pair.sites[0].machine.handle_transfer_damaged(&header);
    pair.drive_until("over", |pair| pair.sites[0].outcome.is_some());
    let outcome = pair.sites[0].outcome.as_ref().unwrap();
    assert!(matches!(outcome, Outcome::Violation(_)), "{outcome:?}");
}

/// A plan whose adapters are sent as deltas where they can be.
fn by_deltas(participants: &[&str], rounds: u32) -> RunPlan {
    RunPlan {
        download: Download::Delta,
        ..plan(participants, participants.len() as u32, rounds)
    }
}

/// What this participant was sent, by kind and round, from which byte.
fn sent_to(pair: &Pair, who: &str) -> Vec<(TransferKind, u32, u64)> {
    let sent = pair.server.transfers.iter();
    sent.filter(|(to, _)| to.as_str() == who)
        .map(|(_, header)| (header.kind, header.round.0, header.offset))
        .collect()
}

fn has_finished(pair: &Pair, site: usize) -> bool {
    let outcome = pair.sites[site].outcome.as_ref();
    matches!(outcome, Some(Outcome::Finished { .. }))
}

/// C9: who acknowledged the adapter before gets a delta; the first is sent whole.
#[test]
fn an_adapter_comes_as_a_delta_to_those_who_have_the_one_before() {
    use TransferKind::{FinalDelta, GlobalAdapter, GlobalDelta};
    let mut pair = Pair::new(by_deltas(&["a", "b"], 3), Weather::fair(), 1);
    pair.drive();
    for site in 0..2 {
        assert!(has_finished(&pair, site));
        let expected = [
            (GlobalAdapter, 1, 0),
            (GlobalDelta, 2, 0),
            (GlobalDelta, 3, 0),
            (FinalDelta, 3, 0),
        ];
        assert_eq!(sent_to(&pair, ["a", "b"][site]), expected);
    }
    // A plan that does not have deltas never sees one.
    let mut pair = Pair::new(plan(&["a", "b"], 2, 3), Weather::fair(), 1);
    pair.drive();
    assert!(
        !pair
            .server
            .transfers
            .iter()
            .any(|(_, sent)| sent.kind.is_delta())
    );
}

/// C9: who joins late, or has lost its disk, gets the whole adapter, and deltas from then on.
#[test]
fn who_lacks_the_adapter_before_gets_the_whole() {
    use TransferKind::{FinalDelta, GlobalAdapter, GlobalDelta};
    let mut pair = Pair::new(by_deltas(&["a", "b"], 3), Weather::fair(), 1);
    pair.drive_until("second round", |pair| pair.sites[0].trainings.len() == 2);
    pair.kill(0);
    pair.restart(0);
    pair.drive();
    assert!(has_finished(&pair, 0));
    let expected = [
        (GlobalAdapter, 1, 0),
        (GlobalDelta, 2, 0),
        (GlobalAdapter, 2, 0),
        (GlobalDelta, 3, 0),
        (FinalDelta, 3, 0),
    ];
    assert_eq!(sent_to(&pair, "a"), expected);
}

/// C9, C7: a delta goes on where it broke off, also after a restart of either side: its base is listed in Ready.
#[test]
fn an_interrupted_delta_goes_on_where_it_was() {
    use TransferKind::{FinalDelta, GlobalAdapter, GlobalDelta};
    for crash in [false, true] {
        let mut pair = Pair::new(by_deltas(&["a"], 2), Weather::fair(), 1);
        pair.weather.spool = true;
        pair.drive_until("counted", |pair| pair.counted(1) == ["a"]);
        pair.weather.cut_bulk = 1000;
        pair.drive_until("cut", |pair| pair.sites[0].begun.len() == 2);
        pair.weather.cut_bulk = 0;
        pair.kill(0);
        if crash {
            pair.crash();
        }
        pair.restart(0);
        pair.drive();
        assert!(has_finished(&pair, 0));
        let expected = [
            (GlobalAdapter, 1, 0),
            (GlobalDelta, 2, 0),
            (GlobalDelta, 2, ADAPTER_BYTES / 3 / 2),
            (FinalDelta, 2, 0),
        ];
        assert_eq!(sent_to(&pair, "a"), expected, "crash: {crash}");
    }
}

/// C10: a delta that is of no use to its receiver is answered by the whole adapter, once, and both sides know why.
#[test]
fn a_delta_of_no_use_is_answered_by_the_whole() {
    use TransferKind::{FinalDelta, GlobalAdapter, GlobalDelta};
    let mut pair = Pair::new(by_deltas(&["a"], 2), Weather::fair(), 1);
    pair.drive_until("counted", |pair| pair.counted(1) == ["a"]);
    for begun in pair.sites[0].begun.values_mut() {
        begun.is_damaged = true;
    }
    pair.drive();
    assert!(has_finished(&pair, 0));
    let expected = [
        (GlobalAdapter, 1, 0),
        (GlobalDelta, 2, 0),
        (GlobalAdapter, 2, 0),
        (FinalDelta, 2, 0),
    ];
    assert_eq!(sent_to(&pair, "a"), expected);
    let reports = pair.server.reports.iter();
    let reasons: Vec<_> = reports
        .filter_map(|report| match report {
            Report::Resending {
                kind,
                reason,
                round,
                ..
            } => Some((*kind, *reason, round.0)),
            _ => None,
        })
        .collect();
    assert_eq!(reasons, [(GlobalAdapter, ResendReason::BaseDamaged, 2)]);
}

/// C10: asking twice for the whole in the place of one delta is a breach.
#[test]
fn the_whole_in_the_place_of_a_delta_is_sent_once() {
    let mut pair = Pair::new(by_deltas(&["a", "b"], 2), Weather::fair(), 1);
    pair.drive_until("second round", |pair| pair.sites[0].trainings.len() == 2);
    let sent = pair.server.transfers.iter();
    let mut deltas = sent.filter(|(to, header)| to.as_str() == "a" && header.kind.is_delta());
    let transfer = deltas.next().unwrap().1.id;
    let reason = ResendReason::BadDelta;
    for codes in [&[][..], &[CloseCode::BadTransfer]] {
        pair.say(0, ToServer::Resend { transfer, reason });
        pair.wait(Duration::from_millis(50));
        assert_eq!(pair.codes("a"), codes);
    }
    let wholes = sent_to(&pair, "a").into_iter();
    let wholes =
        wholes.filter(|&(kind, round, _)| (kind, round) == (TransferKind::GlobalAdapter, 2));
    assert_eq!(wholes.count(), 1);
}

/// C10: a delta under a plan that has none is the server's fault, and so is one that comes to another adapter than announced.
#[test]
fn a_delta_that_must_not_be_is_the_servers_fault() {
    let delta = |pair: &Pair| {
        let content = release(1).delta.unwrap().content;
        let header = TransferHeader::from_server(
            TransferKind::GlobalDelta,
            Round(1),
            pair.plan.digest(),
            content,
        );
        (header, pair.now)
    };
    let mut plain = Pair::new(plan(&["a"], 1, 2), Weather::fair(), 1);
    let mut other = Pair::new(by_deltas(&["a"], 2), Weather::fair(), 1);
    for (pair, adapter) in [
        (&mut plain, content("start")),
        (&mut other, content("another")),
    ] {
        pair.drive_until("asked", |pair| !pair.server.transfers.is_empty());
        pair.wait(Duration::from_millis(20));
        let (header, now) = delta(pair);
        let machine = &mut pair.sites[0].machine;
        assert_eq!(machine.handle_delta_rebuilt(&header, adapter, now), None);
        pair.drive_until("over", |pair| pair.sites[0].outcome.is_some());
        let outcome = pair.sites[0].outcome.as_ref().unwrap();
        assert!(matches!(outcome, Outcome::Violation(_)), "{outcome:?}");
    }
}

/// C10: a server that sends another delta of no use in the place of the whole is in breach; with another round it begins anew.
#[test]
fn a_second_delta_of_no_use_is_the_servers_fault() {
    let mut pair = Pair::new(by_deltas(&["a", "b"], 3), Weather::fair(), 1);
    pair.drive_until("second round", |pair| pair.sites[0].trainings.len() == 2);
    let delta = |pair: &Pair, round| {
        let content = release(1).delta.unwrap().content;
        let kind = TransferKind::GlobalDelta;
        TransferHeader::from_server(kind, Round(round), pair.plan.digest(), content)
    };
    let reason = ResendReason::BadDelta;
    let deltas = [1, 2, 2].map(|round| delta(&pair, round));
    let machine = &mut pair.sites[0].machine;
    for delta in &deltas[..2] {
        machine.handle_delta_unusable(delta, reason);
        assert!(!machine.is_over());
    }
    machine.handle_delta_unusable(&deltas[2], reason);
    assert!(machine.is_over());
    assert_eq!(machine.last_named(), Round(2));
    pair.drive_until("over", |pair| pair.sites[0].outcome.is_some());
    let Some(Outcome::Violation(violation)) = &pair.sites[0].outcome else {
        panic!("{:?}", pair.sites[0].outcome);
    };
    assert!(violation.to_string().contains("bad-delta"), "{violation}");
}

/// C4: an acknowledgement that was lost is given again, and nothing is counted twice.
#[test]
fn a_lost_acknowledgement_is_repeated() {
    let mut pair = Pair::new(plan(&["a", "b"], 2, 1), Weather::fair(), 1);
    pair.weather.train_ms = (1000, 1000);
    pair.drive_until("training", training);
    pair.sites[1].manual = true;
    pair.restart(1);
    pair.drive_until("a is counted", |pair| pair.counted(1) == ["a"]);
    assert!(
        pair.sites[0].acknowledged.is_empty(),
        "the acknowledgement is under way"
    );
    pair.cut(0);
    pair.drive_until("acknowledged", |pair| {
        pair.sites[0].acknowledged.contains(&Round(1))
    });
    assert_eq!(pair.counted(1), ["a"]);
    assert_eq!(pair.sites[0].trainings, [Round(1)]);
    assert!(pair.sites[0].kept.is_empty(), "forgotten once acknowledged");
}

/// C5: an update that outlived its process is offered instead of training anew.
#[test]
fn a_spooled_update_is_delivered_after_a_restart_without_training() {
    let mut pair = Pair::new(plan(&["a", "b"], 2, 2), Weather::fair(), 1);
    pair.weather.spool = true;
    pair.drive_until("training", training);
    pair.weather.bulk_ms = (5000, 5000);
    pair.drive_until("delivering", |pair| !pair.sites[0].delivered.is_empty());
    pair.kill(0);
    pair.restart(0);
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
    assert_eq!(pair.sites[0].trainings, [Round(1), Round(2)]);
    assert_eq!(
        globals_sent_to(&pair, "a"),
        2,
        "its adapter was not needed again"
    );
    let delivered = &pair.sites[0].delivered;
    assert_eq!(delivered[0].id, delivered[1].id);
}

/// C2: an update that was offered and did not come to the disk is trained anew, and what comes of it takes its place.
#[test]
fn an_update_that_was_offered_and_lost_with_its_process_is_trained_again_and_counts_once() {
    let mut pair = Pair::new(plan(&["a", "b"], 2, 2), Weather::fair(), 1);
    pair.weather.spool = true;
    pair.weather.disk_ms = (800, 800);
    pair.drive_until("training", training);
    pair.drive_until("delivering", |pair| !pair.sites[0].delivered.is_empty());
    pair.wait(Duration::from_millis(400));
    assert!(
        pair.counted(1).is_empty(),
        "the server has all of an update that is not on disk"
    );
    pair.kill(0);
    pair.restart(0);
    drive_with_the_first_training_again(&mut pair);
    let delivered = &pair.sites[0].delivered;
    assert_ne!(delivered[0].sha256, delivered[1].sha256);
}

/// C5: a spooled update of an earlier round is forgotten.
#[test]
fn a_spooled_update_of_an_earlier_round_is_forgotten() {
    let mut pair = Pair::new(plan(&["a", "b"], 1, 3), Weather::fair(), 1);
    pair.weather.spool = true;
    pair.drive_until("trained once", |pair| pair.sites[0].spool.is_some());
    pair.kill(0);
    pair.drive_until("round 2", |pair| {
        pair.coordinator.open_round() == Some(Round(2))
    });
    pair.restart(0);
    pair.drive();
    assert_eq!(pair.counted(1), ["b"]);
    assert_eq!(pair.counted(2), ["a", "b"]);
    assert_eq!(pair.sites[0].trainings, [Round(1), Round(2), Round(3)]);
}

/// C6: a server that is away is tried again with growing pauses, for as long as the patience lasts.
#[test]
fn a_server_that_is_away_is_tried_until_the_patience_ends() {
    let mut pair = Pair::new(plan(&["a", "b"], 1, 1), Weather::fair(), 1);
    pair.weather.dial_fails = 1000;
    let late = pair.add_site(name("c"));
    pair.drive_until("given up", |pair| pair.sites[late].outcome.is_some());
    assert_eq!(pair.sites[late].outcome, Some(Outcome::ServerAway));
    assert_eq!((pair.now - pair.began).as_secs(), 600);
    assert!(pair.sites[late].outcome.as_ref().unwrap().is_temporary());
}

/// C1: what an old connection still brings after a newer one took over is not counted.
#[test]
fn bytes_of_a_superseded_connection_do_not_count() {
    let mut pair = Pair::new(plan(&["a", "b"], 2, 1), Weather::fair(), 1);
    pair.sites[0].manual = true;
    pair.drive_until("training", training);
    let old = pair.sites[0].connection.unwrap();
    let update = content("a's update");
    let header = pair.sites[0]
        .machine
        .trained(Round(1), update, 1, Default::default())
        .unwrap()
        .unwrap();
    pair.drive_until("delivering", |pair| !pair.sites[0].delivered.is_empty());
    pair.cut(0);
    pair.drive_until("back", |pair| pair.sites[0].delivered.len() == 2);
    assert_eq!(
        pair.coordinator
            .handle_update_received(old, &header, pair.now),
        None
    );
    pair.coordinator.handle_message(
        old,
        ToServer::Leave {
            reason: Text::default(),
        },
        pair.now,
    );
    pair.pour(0, header);
    pair.drive();
    assert_eq!(pair.counted(1), ["a", "b"]);
}

/// C1: what `Ready` lists saves the first adapter only; a later round sends its adapter even if the bytes are equal,
/// because the participant has forgotten the first by then.
#[test]
fn a_listed_adapter_is_spared_once() {
    let now = an_instant();
    let plan = plan(&["a"], 1, 2).check().unwrap();
    let mut coordinator = coordinator(&plan, None, now);
    let (connection, start) = (ConnectionId(1), content("start"));
    let update = TransferHeader::update(&name("a"), Round(1), plan.digest(), content("update"));
    let (software, capabilities) = (Text::default(), Capabilities::NONE);
    let (mut transfers, mut asked) = (Vec::new(), 0);
    coordinator.handle_connected(connection, name("a"), now);
    for message in [
        ToServer::Hello {
            version: 1,
            software,
            capabilities,
        },
        ToServer::Ready {
            plan: plan.digest(),
            holds: vec![start.sha256],
            begun: Vec::new(),
            recorded: Round(0),
        },
        ToServer::Offer {
            transfer: update,
            weight: 1,
            metrics: Metrics::default(),
        },
    ] {
        coordinator.handle_message(connection, message, now);
    }
    assert!(
        coordinator
            .handle_update_received(connection, &update, now)
            .is_some()
    );
    coordinator.handle_update_accepted(&name("a"), now).unwrap();
    let mut summary = None;
    while let Some(action) = coordinator.poll_action() {
        match action {
            Action::Aggregate { summary: of } => summary = Some(of),
            Action::SendTransfer { header, .. } => transfers.push(header.round),
            Action::Send {
                message: ToClient::Train { .. },
                ..
            } => asked += 1,
            _ => {}
        }
    }
    let chain = Chain::new(plan.digest());
    let record = record(&chain, &summary.unwrap(), start, start);
    let release = Release::whole(start);
    coordinator.round_aggregated(release, record, now).unwrap();
    while let Some(action) = coordinator.poll_action() {
        match action {
            Action::SendTransfer { header, .. } => transfers.push(header.round),
            Action::Send {
                message: ToClient::Train { .. },
                ..
            } => asked += 1,
            _ => {}
        }
    }
    assert_eq!((asked, transfers), (2, vec![Round(2)]));
}
