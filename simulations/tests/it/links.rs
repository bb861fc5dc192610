//! Transfers over a link that breaks, changes its address and loses datagrams: the real server and the real client, a relay
//! between them.

use simulations::bench::{CongestionControl, Hardship, LinkFigures, Scenario, run_link};
use simulations::experiment::{Download, Sums, Transfer};

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

/// So many MB to the participant, back, and once more at the end.
fn exchange(megabytes: f64, hardship: Hardship) -> LinkFigures {
    let scenario = Scenario {
        participants: std::num::NonZeroU32::MIN,
        megabytes,
        tensors: 2,
        rounds: 1,
        transfer: Transfer::F32,
        download: Download::Whole,
        sums: Sums::Values,
    };
    let folder = tempfile::tempdir().unwrap();
    println!("seed {SEED}");
    let figures = run_link(scenario, hardship, folder.path()).unwrap();
    println!("{}", figures.in_words());
    assert!(figures.correct);
    figures
}

/// An outage comes in each of the three transfers. A new connection starts slowly and overshoots once, which does not grow with what is
/// moved; so the bytes have to be many beside it.
#[test]
fn connections_that_break_in_mid_transfer_cost_less_than_a_twentieth_more_bytes() {
    let megabytes = 16.0;
    let calm = exchange(megabytes, LINK);
    assert_eq!((calm.connections, calm.bulk_bytes), (1, calm.content_bytes));
    let trouble = Hardship {
        outages: 3,
        outage_seconds: 1.2,
        idle_seconds: 0.8,
        ..LINK
    };
    let broken = exchange(megabytes, trouble);
    assert!(4 <= broken.connections, "{}", broken.connections);
    assert!(broken.extra_bulk() < 0.05, "{}", broken.extra_bulk());
    let sent = |figures: &LinkFigures| 1.0 + figures.extra_datagrams();
    let more = sent(&broken) / sent(&calm);
    assert!(more < 1.05, "{more} of what a calm link takes");
}

#[test]
fn a_changed_address_neither_breaks_the_connection_nor_sends_bytes_twice() {
    let trouble = Hardship {
        address_changes: 3,
        ..LINK
    };
    let figures = exchange(8.0, trouble);
    assert_eq!(figures.connections, 1);
    assert_eq!(figures.bulk_bytes, figures.content_bytes);
}

#[test]
fn a_connection_outlives_a_short_outage_and_losses() {
    let trouble = Hardship {
        outages: 2,
        outage_seconds: 0.5,
        loss: 0.01,
        ..LINK
    };
    let figures = exchange(8.0, trouble);
    assert_eq!(figures.connections, 1);
    assert_eq!(figures.bulk_bytes, figures.content_bytes);
}
