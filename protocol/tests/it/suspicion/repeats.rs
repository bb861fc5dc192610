//! Servers that ask for the same again and again: each time costs the site a line on disk, or a whole update.

use super::*;

/// Deliveries of one offer that interruptions explain.
const DELIVERIES: usize = 8;

impl Victim {
    /// Has trained for the first round and offered its update.
    fn has_trained(&mut self) -> TransferHeader {
        let update = Content {
            bytes: self.plan.update_bytes(),
            sha256: Digest::of(b"update"),
        };
        let metrics = Metrics::default();
        let header = self.machine.trained(Round(1), update, 1, metrics);
        self.collect();
        header.unwrap().unwrap()
    }

    /// Asks for the update so many times, from various bytes.
    fn is_asked_for(&mut self, header: &TransferHeader, times: usize) {
        let transfer = header.id;
        for offset in [0, 1, header.bytes].into_iter().cycle().take(times) {
            self.hears(ToClient::Deliver { transfer, offset });
        }
    }

    fn sent(&self) -> usize {
        let is_sent = |action: &&Action| matches!(action, Action::SendTransfer { .. });
        self.actions.iter().filter(is_sent).count()
    }

    /// Loses its connection and is on the next one.
    fn comes_back(&mut self) {
        self.machine.handle_disconnected(None, self.now);
        self.now += Duration::from_secs(60);
        self.machine.handle_timeout(self.now);
        self.machine.handle_connected(self.now);
        self.hears(welcome(sign(&self.plan)));
        assert!(!self.machine.is_over(), "{:?}", self.actions);
    }
}

/// V7: a line in the egress ledger for each, and the whole update perhaps.
#[test]
fn a_server_that_asks_for_a_delivery_without_end_is_accused() {
    let mut victim = Victim::ready(simple());
    victim.trains(1);
    let header = victim.has_trained();
    victim.is_asked_for(&header, DELIVERIES);
    assert!(!victim.machine.is_over(), "{:?}", victim.actions);
    assert_eq!(victim.sent(), DELIVERIES);
    victim.is_asked_for(&header, 1);
    assert_eq!(victim.sent(), DELIVERIES);
    victim.accuses(
        CloseCode::Unexpected,
        "Deliver came more often for one offer on one connection than allowed (at most 8)",
    );
}

/// V7: what a connection cost is nothing to the next.
#[test]
fn deliveries_are_counted_anew_for_each_offer() {
    let mut victim = Victim::ready(simple());
    victim.trains(1);
    let header = victim.has_trained();
    for time in 1..=3 {
        victim.is_asked_for(&header, DELIVERIES);
        assert_eq!(victim.sent(), time * DELIVERIES);
        victim.comes_back();
        let global = victim.global(1, "g");
        victim.hears(ToClient::Train { global });
    }
    victim.is_asked_for(&header, DELIVERIES + 1);
    victim.accuses(CloseCode::Unexpected, "Deliver");
}

/// V7: as for an offer, and it would begin the count of deliveries anew.
#[test]
fn a_server_that_asks_twice_for_a_round_on_one_connection_is_accused() {
    let mut victim = Victim::ready(simple());
    victim.trains(1);
    victim.has_trained();
    victim.comes_back();
    let global = victim.global(1, "g");
    victim.hears(ToClient::Train { global });
    assert!(!victim.machine.is_over(), "{:?}", victim.actions);
    victim.hears(ToClient::Train { global });
    victim.accuses(
        CloseCode::Unexpected,
        "Train came more often for one round on one connection than allowed (at most 1)",
    );
}

/// C1: it goes on training while it is away, and is not asked to send twice what it has said once.
#[test]
fn an_update_that_is_finished_before_the_round_is_asked_for_again_is_offered_once() {
    for is_finished_first in [true, false] {
        let mut victim = Victim::ready(simple());
        victim.trains(1);
        victim.comes_back();
        let global = victim.global(1, "g");
        if is_finished_first {
            victim.has_trained();
            victim.hears(ToClient::Train { global });
        } else {
            victim.hears(ToClient::Train { global });
            victim.has_trained();
        }
        let is_offer = |action: &&Action| matches!(action, Action::Send(ToServer::Offer { .. }));
        assert_eq!(victim.actions.iter().filter(is_offer).count(), 1);
    }
}
