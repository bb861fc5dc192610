//! Turns to be received: one whose update is not wanted any more, or does not come, does not keep the others from theirs.

use std::future::{Future, pending};
use std::pin::pin;
use std::time::Duration;

use protocol::Round;
use protocol::close::{CloseCode, RefusalReason};
use protocol::message::TransferHeader;
use protocol::quic::{Connection, TransferError};
use tokio::time::timeout;

use crate::scene::{Running, Scene};
use crate::scripted::{Scripted, constant};

const FIRST: Round = Round(1);
/// Longer than the second after which one that waits for its turn is known to be there.
const STALL_LIMIT: Duration = Duration::from_secs(2);

/// A run of one round in which `honest` alone is enough, and one update is received at a time.
async fn scene() -> (Scene, Running, Scripted, Scripted) {
    let mut scene = Scene::new(&["honest", "mallory"]);
    scene.config.cohort.quorum = 1;
    scene.config.cohort.stall_limit = STALL_LIMIT;
    scene.config.uploads_at_once = 1;
    // No larger than the share of the smallest update.
    scene.config.transport.stream_window_bytes = 128 * 1024;
    scene.config.allowance.uploads_per_round = 1000;
    let running = scene.serve();
    let mut honest = scene.join("honest", &running).await;
    let mut mallory = scene.join("mallory", &running).await;
    honest.asked().await;
    mallory.asked().await;
    (scene, running, honest, mallory)
}

/// Opens a stream with an update's header, and sends nothing of the update.
async fn withhold(connection: Connection, header: TransferHeader) -> Result<(), TransferError> {
    let bytes = constant(0.1).into();
    connection
        .send_transfer_held(&header, bytes, pending(), |_| {})
        .await
}

/// Offers an update, and once it is asked for begins with it: its header, and what goes on as long as it is polled.
async fn begin_to_withhold(
    mallory: &mut Scripted,
) -> (
    TransferHeader,
    impl Future<Output = Result<(), TransferError>> + use<>,
) {
    let header = mallory.header(FIRST, &constant(0.1));
    mallory.offer(header, 1).await;
    mallory.hear().await;
    let mut withheld = Box::pin(withhold(mallory.link.connection.clone(), header));
    begin(&mut withheld).await;
    (header, withheld)
}

/// Lets it come as far as it can at once.
async fn begin(work: &mut (impl Future<Output = Result<(), TransferError>> + Unpin)) {
    tokio::select! {
        biased;
        ended = work => panic!("nothing is withheld: {ended:?}"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn one_that_was_refused_while_it_delivers_gives_its_turn_back_at_once() {
    let (_scene, running, mut honest, mut mallory) = scene().await;
    let (_, _withheld) = begin_to_withhold(&mut mallory).await;
    let too_short = mallory.header(FIRST, &constant(0.1)[4..]);
    mallory.offer(too_short, 1).await;
    mallory.is_refused(FIRST, RefusalReason::WrongSize).await;
    honest.deliver(FIRST, &constant(0.5), 1).await;
    honest.is_accepted(FIRST).await;
    honest.finished().await;
    mallory.finished().await;
    running.outcome().await.unwrap();
}

/// Each time that it offers its update again the coordinator waits for it anew.
#[tokio::test]
async fn a_delivery_without_bytes_gives_its_turn_back_though_its_sender_keeps_talking() {
    let (_scene, running, mut honest, mut mallory) = scene().await;
    let (header, _withheld) = begin_to_withhold(&mut mallory).await;
    {
        let accepted = async {
            honest.deliver(FIRST, &constant(0.5), 1).await;
            honest.is_accepted(FIRST).await;
        };
        let mut accepted = pin!(accepted);
        while timeout(STALL_LIMIT / 4, &mut accepted).await.is_err() {
            mallory.offer(header, 1).await;
        }
    }
    mallory.link.connection.close(CloseCode::Left);
    honest.finished().await;
    running.outcome().await.unwrap();
}
