//! A participant that stays and does not read what it is sent.

use protocol::Round;
use protocol::message::{ToClient, ToServer, TransferHeader};
use protocol::quic::{Limits, TransferFault};

use crate::scene::{Scene, in_time};
use crate::scripted::{Scripted, constant};

/// So few bytes that not even a transfer's header gets through before it is read.
const NARROW: u32 = 16;

#[tokio::test]
async fn an_adapter_that_is_not_read_is_taken_back_when_the_next_one_is_sent() {
    let mut scene = Scene::new(&["north", "south"]);
    scene.config.run.rounds = 3;
    scene.config.cohort.quorum = 1;
    scene.config.cohort.enough = Some(1);
    let running = scene.serve();
    let mut north = scene.join("north", &running).await;
    let limits = Limits {
        stream_window_bytes: NARROW,
        ..Limits::default()
    };
    let tls = scene.tls("south");
    let south = Scripted::connect_within(&limits, tls, running.address, &scene.start);
    let mut south = south.await.unwrap();
    south.agree().await;
    for round in (1..=3).map(Round) {
        north.asked().await;
        let ToClient::Train { global } = south.hear().await else {
            panic!("south is not asked");
        };
        assert_eq!(global.round, round);
        north.deliver(round, &constant(0.5), 1).await;
        north.is_accepted(round).await;
        let told = south.hear().await;
        assert!(matches!(told, ToClient::Refused { .. }), "{told:?}");
    }
    let ToClient::Finished { adapter, .. } = south.hear().await else {
        panic!("not finished");
    };
    let mut whole = Vec::new();
    while whole.last() != Some(&adapter) {
        whole.extend(taken_in(&south).await);
    }
    // What the last round began with may just have got through; of the rounds before nothing is left.
    assert!(whole.iter().all(|header| Round(3) <= header.round));
    south
        .say(&ToServer::Received {
            transfer: adapter.id,
        })
        .await;
    north.finished().await;
    running.outcome().await.unwrap();
}

/// The next transfer's header, unless it was taken back.
async fn taken_in(south: &Scripted) -> Option<TransferHeader> {
    let received = async {
        let incoming = south.link.connection.accept_transfer().await?;
        let header = *incoming.header();
        incoming.receive(1 << 20, |_| {}).await.map(|_| header)
    };
    match in_time(received).await {
        Ok(header) => Some(header),
        Err(error) => {
            assert_eq!(error.fault, TransferFault::Abandoned);
            None
        }
    }
}
