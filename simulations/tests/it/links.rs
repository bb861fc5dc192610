//! Transfers over a link that breaks, changes its address and loses datagrams: the real server and the real client, a relay
//! between them.

use simulations::bench::{CongestionControl, Hardship, LinkFigures, Scenario, run_link};
use simulations::experiment::{Sums, Transfer};

use super::SEED;

/// 10 MB/s at 10 ms, without trouble.
const LINK: Hardship = Hardship {
    megabits: 80.0,
    round_trip_ms: 10,
    queue_ms: 10,
    loss: 0.0,
    outages: 0,
    outage_seconds: 0.0,
    address_changes: 0,
    idle_seconds: 30.0,
    congestion: CongestionControl::Cubic,
    link_seed: SEED,
};

/// 8 MB to the participant, 8 MB back, 8 MB at the end.
fn exchange(hardship: Hardship) -> LinkFigures {
    let scenario = Scenario {
        participants: std::num::NonZeroU32::MIN,
        megabytes: 8.0,
        tensors: 2,
        rounds: 1,
        transfer: Transfer::F32,
        sums: Sums::Values,
    };
    let folder = tempfile::tempdir().unwrap();
    println!("seed {SEED}");
    let figures = run_link(scenario, hardship, folder.path()).unwrap();
    println!("{}", figures.in_words());
    assert!(figures.correct);
    figures
}

/// The two outages come in mid-download and in mid-upload.
#[test]
fn connections_that_break_in_mid_transfer_cost_less_than_a_twentieth_more_bytes() {
    let calm = exchange(LINK);
    assert_eq!((calm.connections, calm.bulk_bytes), (1, calm.content_bytes));
    let broken = exchange(Hardship {
        outages: 3,
        outage_seconds: 1.2,
        idle_seconds: 0.8,
        ..LINK
    });
    assert!(4 <= broken.connections, "{}", broken.connections);
    assert!(broken.extra_bulk() < 0.05, "{}", broken.extra_bulk());
    let sent = |figures: &LinkFigures| 1.0 + figures.extra_datagrams();
    let more = sent(&broken) / sent(&calm);
    assert!(more < 1.05, "{more} of what a calm link takes");
}

#[test]
fn a_changed_address_neither_breaks_the_connection_nor_sends_bytes_twice() {
    let figures = exchange(Hardship {
        address_changes: 3,
        ..LINK
    });
    assert_eq!(figures.connections, 1);
    assert_eq!(figures.bulk_bytes, figures.content_bytes);
}

#[test]
fn a_connection_outlives_a_short_outage_and_losses() {
    let figures = exchange(Hardship {
        outages: 2,
        outage_seconds: 0.5,
        loss: 0.01,
        ..LINK
    });
    assert_eq!(figures.connections, 1);
    assert_eq!(figures.bulk_bytes, figures.content_bytes);
}
