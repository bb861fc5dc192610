//! Bulk transfers: whole ones both ways, and every way to be wrong.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use protocol::close::CloseCode;
use protocol::message::TransferHeader;
use protocol::quic::{Closed, Connection, TransferError, TransferFault};

use crate::hostile;
use crate::party::{bytes, federation, header, linked, server};

const LIMIT: u64 = 64 * 1024 * 1024;

async fn pass(from: &Connection, to: &Connection, payload: &[u8]) {
    let header = header(payload);
    let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
    let send = from.send_transfer(&header, payload.to_vec().into(), |now| {
        assert!(sent.swap(now, Ordering::Relaxed) < now);
    });
    let receive = async {
        let transfer = to.accept_transfer().await.unwrap();
        assert_eq!(transfer.header(), &header);
        let progress = |now| assert!(received.swap(now, Ordering::Relaxed) < now);
        transfer.receive(LIMIT, progress).await.unwrap()
    };
    let (outcome, arrived) = tokio::join!(send, receive);
    outcome.unwrap();
    assert!(arrived == payload, "the bytes differ");
    let length = payload.len() as u64;
    assert_eq!((sent.into_inner(), received.into_inner()), (length, length));
}

#[tokio::test]
async fn twenty_megabytes_arrive_whole_both_ways_at_a_time() {
    let (_listener, client, server) = linked(&federation()).await;
    let payload = bytes(20_000_000);
    tokio::join!(
        pass(&server.connection, &client.connection, &payload),
        pass(&client.connection, &server.connection, &payload),
    );
}

#[tokio::test]
async fn control_messages_overtake_bulk_bytes() {
    use protocol::Round;
    use protocol::message::ToClient;
    let (_listener, mut client, mut server) = linked(&federation()).await;
    let payload = bytes(20_000_000);
    let header = header(&payload);
    let sending = server.connection.clone();
    let send =
        tokio::spawn(async move { sending.send_transfer(&header, payload.into(), |_| ()).await });
    let transfer = client.connection.accept_transfer().await.unwrap();
    let round = Round::FIRST;
    server
        .sender
        .send(&ToClient::Accepted { round })
        .await
        .unwrap();
    // Nothing of the transfer has been read, and its window is full.
    let message = client.receiver.recv::<ToClient>().await.unwrap();
    assert_eq!(message, Some(ToClient::Accepted { round }));
    transfer.receive(LIMIT, |_| ()).await.unwrap();
    send.await.unwrap().unwrap();
}

#[tokio::test]
async fn last_bytes_of_a_held_transfer_wait_for_their_release() {
    let (_listener, client, server) = linked(&federation()).await;
    for (length, before_release) in [
        (0, 0),
        (77, 0),
        (256 << 10, 0),
        ((256 << 10) + 1, 256 << 10),
    ] {
        let payload = bytes(length);
        let header = header(&payload);
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        let released = async move { released.await.unwrap() };
        let (sending, held) = (client.connection.clone(), payload.clone().into());
        let send = tokio::spawn(async move {
            sending
                .send_transfer_held(&header, held, released, |_| ())
                .await
        });
        let mut transfer = server.connection.accept_transfer().await.unwrap();
        let mut arrived = Vec::new();
        while arrived.len() < before_release {
            arrived.extend(transfer.next().await.unwrap().unwrap().concat());
        }
        assert_eq!(arrived.len(), before_release, "of {length}");
        // Nothing more comes in a time in which all of it has come otherwise; taking it in may be given up at any point.
        let more = tokio::time::timeout(Duration::from_millis(50), transfer.next()).await;
        assert!(more.is_err(), "of {length}: {more:?}");
        release.send(()).unwrap();
        while let Some(pieces) = transfer.next().await.unwrap() {
            arrived.extend(pieces.concat());
        }
        assert!(arrived == payload, "of {length}");
        send.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_empty_transfer_is_a_transfer() {
    let (_listener, client, server) = linked(&federation()).await;
    let header = header(&[]);
    let send = client
        .connection
        .send_transfer(&header, Vec::new().into(), |_| ());
    let receive = async {
        let transfer = server.connection.accept_transfer().await.unwrap();
        transfer.receive(0, |_| ()).await.unwrap()
    };
    let (sent, received) = tokio::join!(send, receive);
    sent.unwrap();
    assert!(received.is_empty());
}

/// Sends `payload` under `header` from a rogue, and returns what the receiver found.
async fn found(header: TransferHeader, payload: &[u8]) -> TransferError {
    let federation = federation();
    let mut listener = server(&federation);
    let peer = federation.participant("hospital-b").unwrap();
    let (rogue, link) = hostile::link(peer, &mut listener).await;
    let receive = async {
        let transfer = link.connection.accept_transfer().await?;
        transfer.receive(LIMIT, |_| ()).await
    };
    let (_, received) = tokio::join!(rogue.transfer(&header, payload), receive);
    let error = received.unwrap_err();
    assert!(error.to_string().contains("hospital-b"), "{error}");
    error
}

#[tokio::test]
async fn a_transfer_with_another_digest_is_refused_and_named() {
    let payload = bytes(100_000);
    let mut changed = payload.clone();
    changed[50_000] ^= 1;
    let error = found(header(&payload), &changed).await;
    assert_eq!(error.fault, TransferFault::WrongDigest);
}

#[tokio::test]
async fn a_short_transfer_is_refused_and_named() {
    let payload = bytes(100_000);
    let error = found(header(&payload), &payload[..99_999]).await;
    assert_eq!(
        error.fault,
        TransferFault::TooShort {
            announced: 100_000,
            found: 99_999
        }
    );
}

#[tokio::test]
async fn a_long_transfer_is_refused_and_named() {
    let payload = bytes(100_000);
    let error = found(header(&payload[..99_999]), &payload).await;
    assert_eq!(error.fault, TransferFault::TooLong { announced: 99_999 });
}

#[tokio::test]
async fn an_announcement_over_the_limit_is_refused_before_anything_is_allocated() {
    let announced = u64::MAX;
    let header = TransferHeader {
        bytes: announced,
        ..header(&[])
    };
    let error = found(header, b"a few").await;
    assert_eq!(
        error.fault,
        TransferFault::TooLarge {
            announced,
            limit: LIMIT
        }
    );
}

#[tokio::test]
async fn an_offset_is_refused() {
    let error = found(header(b"twelve bytes").at(4), b"ve bytes").await;
    assert_eq!(error.fault, TransferFault::Offset { found: 4 });
}

#[tokio::test]
async fn an_interrupted_transfer_goes_on_at_its_offset_piece_by_piece() {
    let (_listener, client, server) = linked(&federation()).await;
    let payload = bytes(700_000);
    let header = header(&payload).at(300_000);
    let sending = client
        .connection
        .send_transfer(&header, payload.clone().into(), |_| ());
    let receiving = async {
        let mut transfer = server.connection.accept_transfer().await.unwrap();
        transfer.limit(700_000).unwrap();
        let mut received = payload[..300_000].to_vec();
        while let Some(pieces) = transfer.next().await.unwrap() {
            received.extend(pieces.concat());
        }
        received
    };
    let (sent, received) = tokio::join!(sending, receiving);
    sent.unwrap();
    assert_eq!(received, payload);
}

#[tokio::test]
async fn a_header_that_is_none_is_refused_and_the_next_transfer_still_arrives() {
    let federation = federation();
    let mut listener = server(&federation);
    let peer = federation.participant("hospital-b").unwrap();
    let (rogue, link) = hostile::link(peer, &mut listener).await;
    rogue.raw_transfer(&[2, 0, 0, 0, 0xff, 0xff]).await;
    let error = link.connection.accept_transfer().await.unwrap_err();
    assert!(
        matches!(error.fault, TransferFault::Header { .. }),
        "{error}"
    );
    let payload = bytes(1000);
    rogue.transfer(&header(&payload), &payload).await;
    let transfer = link.connection.accept_transfer().await.unwrap();
    assert_eq!(transfer.receive(LIMIT, |_| ()).await.unwrap(), payload);
}

#[tokio::test]
async fn a_cancelled_accept_loses_no_transfer() {
    let (_listener, client, server) = linked(&federation()).await;
    let payload = bytes(100_000);
    let header = header(&payload);
    let send = client
        .connection
        .send_transfer(&header, payload.clone().into(), |_| ());
    let receive = async {
        loop {
            tokio::select! {
                biased;
                transfer = server.connection.accept_transfer() => {
                    break transfer.unwrap().receive(LIMIT, |_| ()).await.unwrap();
                }
                () = tokio::task::yield_now() => {}
            }
        }
    };
    let (sent, received) = tokio::join!(send, receive);
    sent.unwrap();
    assert_eq!(received, payload);
}

#[tokio::test]
async fn a_refused_transfer_tells_the_sender_why() {
    let (_listener, client, server) = linked(&federation()).await;
    let payload = bytes(20_000_000);
    let header = header(&payload);
    let send = client
        .connection
        .send_transfer(&header, payload.into(), |_| ());
    let refuse = async {
        let transfer = server.connection.accept_transfer().await.unwrap();
        transfer.refuse(CloseCode::WrongRound);
    };
    let (sent, ()) = tokio::join!(send, refuse);
    let error = sent.unwrap_err();
    assert_eq!(error.fault, TransferFault::Refused(CloseCode::WrongRound));
    assert!(
        error
            .to_string()
            .contains("foedus://north-sea/server/server"),
        "{error}"
    );
}

#[tokio::test]
async fn a_connection_lost_during_a_transfer_ends_both_ends_of_it() {
    let (_listener, client, server) = linked(&federation()).await;
    let payload = bytes(20_000_000);
    let header = header(&payload);
    let send = client
        .connection
        .send_transfer(&header, payload.into(), |_| ());
    let receive = async {
        let transfer = server.connection.accept_transfer().await.unwrap();
        server.connection.close(CloseCode::Stalled);
        transfer.receive(LIMIT, |_| ()).await.unwrap_err()
    };
    let (sent, received) = tokio::join!(send, receive);
    assert_eq!(received.fault, TransferFault::Closed(Closed::Here));
    assert_eq!(
        sent.unwrap_err().fault,
        TransferFault::Closed(Closed::ByPeer(CloseCode::Stalled))
    );
}

#[tokio::test]
async fn a_header_that_does_not_fit_the_payload_is_our_own_fault() {
    let (_listener, client, _server) = linked(&federation()).await;
    let header = header(b"five!");
    let sent = client
        .connection
        .send_transfer(&header, b"four"[..].into(), |_| ());
    assert_eq!(
        sent.await.unwrap_err().fault,
        TransferFault::Announcement {
            announced: 5,
            given: 4
        }
    );
}

#[tokio::test]
async fn a_sending_that_is_dropped_is_abandoned_and_not_taken_for_a_short_one() {
    let (_listener, client, server) = linked(&federation()).await;
    let payload = bytes(20_000_000);
    let header = header(&payload);
    let sender = client.connection.clone();
    let sending =
        tokio::spawn(async move { sender.send_transfer(&header, payload.into(), |_| ()).await });
    let transfer = server.connection.accept_transfer().await.unwrap();
    // More than a window is left to send, so it waits for the reader and is dropped there.
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    let error = transfer.receive(LIMIT, |_| ()).await.unwrap_err();
    assert_eq!(error.fault, TransferFault::Abandoned);
    assert_eq!(client.connection.close_reason(), None);
}
