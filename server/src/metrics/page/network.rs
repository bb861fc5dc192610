//! What is shown of connections: datagrams and what got lost, in all and of each named participant.

use protocol::quic::Datagrams;

use super::super::exposition::{Kind, Page};
use crate::network::Costs;

/// A count of datagrams under the name that it has in all, and of one participant.
struct Count {
    all: &'static str,
    of_participant: &'static str,
    help: &'static str,
    value: fn(&Datagrams) -> u64,
}

const COUNTS: [Count; 5] = [
    Count {
        all: "foedus_datagrams_sent_total",
        of_participant: "foedus_participant_datagrams_sent_total",
        help: "UDP datagrams sent on connections of participants",
        value: |datagrams| datagrams.sent,
    },
    Count {
        all: "foedus_datagrams_sent_bytes_total",
        of_participant: "foedus_participant_datagrams_sent_bytes_total",
        help: "Bytes of UDP payload sent on connections of participants",
        value: |datagrams| datagrams.sent_bytes,
    },
    Count {
        all: "foedus_datagrams_received_total",
        of_participant: "foedus_participant_datagrams_received_total",
        help: "UDP datagrams received on connections of participants",
        value: |datagrams| datagrams.received,
    },
    Count {
        all: "foedus_datagrams_received_bytes_total",
        of_participant: "foedus_participant_datagrams_received_bytes_total",
        help: "Bytes of UDP payload received on connections of participants",
        value: |datagrams| datagrams.received_bytes,
    },
    Count {
        all: "foedus_packets_lost_total",
        of_participant: "foedus_participant_packets_lost_total",
        help: "Packets sent to participants that did not arrive",
        value: |datagrams| datagrams.lost_packets,
    },
];

pub(super) fn of_network(page: &mut Page, costs: &Costs) {
    for Count {
        all,
        of_participant,
        help,
        value,
    } in COUNTS
    {
        page.counter(all, &format!("{help}."), value(&costs.all) as f64);
        if costs.of.is_empty() {
            continue;
        }
        let help = format!("{help}, by named participant.");
        let mut family = page.family(of_participant, Kind::Counter, &help);
        for (name, datagrams) in &costs.of {
            family.sample(&[("participant", name.as_str())], value(datagrams) as f64);
        }
    }
    if !costs.of.is_empty() {
        let help = "Round trip to each named participant that has a connection, as its transport estimates it.";
        let mut family = page.family("foedus_participant_round_trip_seconds", Kind::Gauge, help);
        for (name, round_trip) in &costs.round_trip {
            family.sample(&[("participant", name.as_str())], round_trip.as_secs_f64());
        }
    }
}
