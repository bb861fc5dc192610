//! The control stream: messages both ways, and what breaks it.

use protocol::close::CloseCode;
use protocol::message::{Capabilities, PROTOCOL_VERSION, ToClient, ToServer};
use protocol::quic::{Closed, ControlFault};
use protocol::{Digest, Round};

use crate::hostile;
use crate::party::{federation, linked, server};

fn hello() -> ToServer {
    ToServer::Hello {
        version: PROTOCOL_VERSION,
        software: "test 1".into(),
        capabilities: Capabilities::NONE,
    }
}

#[tokio::test]
async fn messages_arrive_in_order_both_ways() {
    let (_listener, mut client, mut server) = linked(&federation()).await;
    client.sender.send(&hello()).await.unwrap();
    for step in 1..=1000 {
        let (round, steps) = (Round::FIRST, 1000);
        let progress = ToServer::Progress { round, step, steps };
        client.sender.send(&progress).await.unwrap();
    }
    assert_eq!(server.receiver.recv().await.unwrap(), Some(hello()));
    for expected in 1..=1000 {
        match server.receiver.recv::<ToServer>().await.unwrap() {
            Some(ToServer::Progress { step, .. }) => assert_eq!(step, expected),
            other => panic!("{other:?}"),
        }
    }
    let round = Round::FIRST;
    server
        .sender
        .send(&ToClient::Accepted { round })
        .await
        .unwrap();
    let answer = client.receiver.recv::<ToClient>().await.unwrap();
    assert_eq!(answer, Some(ToClient::Accepted { round }));
}

#[tokio::test]
async fn a_cancelled_receive_loses_nothing() {
    let (_listener, mut client, mut server) = linked(&federation()).await;
    let list = ToServer::Ready {
        plan: Digest::of(b"plan"),
        holds: vec![Digest::of(b"held"); 8],
        begun: Vec::new(),
        recorded: Round(0),
    };
    for _ in 0..50 {
        client.sender.send(&list).await.unwrap();
    }
    let mut received = 0;
    while received < 50 {
        tokio::select! {
            biased;
            message = server.receiver.recv::<ToServer>() => {
                assert_eq!(message.unwrap().as_ref(), Some(&list));
                received += 1;
            }
            // Always ready: drops the receive whenever it has to wait.
            () = tokio::task::yield_now() => {}
        }
    }
}

#[tokio::test]
async fn a_finished_stream_ends_without_an_error() {
    let (_listener, mut client, mut server) = linked(&federation()).await;
    client.sender.send(&hello()).await.unwrap();
    client.sender.finish();
    assert_eq!(server.receiver.recv().await.unwrap(), Some(hello()));
    assert_eq!(server.receiver.recv::<ToServer>().await.unwrap(), None);
}

#[tokio::test]
async fn a_closed_connection_ends_the_stream_with_its_code() {
    let (_listener, mut client, server) = linked(&federation()).await;
    server.connection.close(CloseCode::Superseded);
    let error = client.receiver.recv::<ToClient>().await.unwrap_err();
    assert!(matches!(
        error.fault,
        ControlFault::Closed(Closed::ByPeer(CloseCode::Superseded))
    ));
    assert!(
        error
            .to_string()
            .contains("foedus://north-sea/server/server"),
        "{error}"
    );
}

#[tokio::test]
async fn an_oversized_frame_is_an_error_that_names_the_peer() {
    let federation = federation();
    let mut listener = server(&federation);
    let peer = federation.participant("hospital-b").unwrap();
    let (mut rogue, link) = hostile::link(peer, &mut listener).await;
    let announced = 65_537_u32;
    rogue
        .control
        .write_all(&announced.to_le_bytes())
        .await
        .unwrap();
    let mut receiver = link.receiver;
    let error = receiver.recv::<ToServer>().await.unwrap_err();
    assert!(matches!(error.fault, ControlFault::Frame(_)), "{error}");
    assert!(error.to_string().contains("hospital-b"), "{error}");
}

#[tokio::test]
async fn bytes_that_are_no_message_are_an_error_that_names_the_peer() {
    let federation = federation();
    let mut listener = server(&federation);
    let peer = federation.participant("hospital-b").unwrap();
    let (mut rogue, link) = hostile::link(peer, &mut listener).await;
    rogue
        .control
        .write_all(&[3, 0, 0, 0, 0xff, 0xff, 0xff])
        .await
        .unwrap();
    let mut receiver = link.receiver;
    let error = receiver.recv::<ToServer>().await.unwrap_err();
    assert!(matches!(error.fault, ControlFault::Decode(_)), "{error}");
    assert!(error.to_string().contains("hospital-b"), "{error}");
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_message_is_an_error() {
    let federation = federation();
    let mut listener = server(&federation);
    let peer = federation.participant("hospital-b").unwrap();
    let (mut rogue, link) = hostile::link(peer, &mut listener).await;
    rogue.control.write_all(&[9, 0, 0, 0, 1]).await.unwrap();
    rogue.control.finish().unwrap();
    let mut receiver = link.receiver;
    let error = receiver.recv::<ToServer>().await.unwrap_err();
    assert!(matches!(error.fault, ControlFault::Cut), "{error}");
}
