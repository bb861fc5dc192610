//! More handshakes than there are places for: honest crowds get in, and strangers who fall silent keep nobody else out.

use std::net::SocketAddr;

use protocol::quic::{ALPN, HandshakeError, Limits, Link, Listener, connect, listen};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::hostile::credulous;
use crate::party::{federation, loopback, meet, participant, server, tls};

/// An address of this machine from which our own clients do not dial.
const ELSEWHERE: &str = "127.0.0.2:0";
/// The one from which they do.
const HERE: &str = "127.0.0.1:0";

/// What a stranger does when it is asked to prove its address.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Proof {
    /// Proves it, as who receives there can.
    Given,
    /// Nothing, as who forged it must.
    Missing,
}

/// Begins a handshake from an address and falls silent at the answer, which says whether the server took it on. The socket keeps the
/// address taken.
async fn half_open(server: SocketAddr, from: &str, proof: Proof) -> UdpSocket {
    let dialer = credulous(None, ALPN);
    let (front, back) = (
        UdpSocket::bind(HERE).await.unwrap(),
        UdpSocket::bind(from).await.unwrap(),
    );
    let _connecting = dialer
        .connect(front.local_addr().unwrap(), "localhost")
        .unwrap();
    let (mut sent, mut answer) = ([0; 2048], [0; 2048]);
    let mut client = None;
    loop {
        tokio::select! {
            got = front.recv_from(&mut sent) => {
                let (length, address) = got.unwrap();
                client = Some(address);
                back.send_to(&sent[..length], server).await.unwrap();
            }
            got = back.recv_from(&mut answer) => {
                let (length, _) = got.unwrap();
                if !is_retry(&answer) || proof == Proof::Missing {
                    return back;
                }
                front.send_to(&answer[..length], client.unwrap()).await.unwrap();
            }
        }
    }
}

/// A long header of version 1 with the type of a retry (RFC 9000, section 17.2.5); its low bits are unused.
fn is_retry(packet: &[u8]) -> bool {
    packet[0] & 0xf0 == 0xf0
}

/// Takes in what happens at the listener until a peer is let in, and gives what else happened.
async fn let_in(listener: &mut Listener) -> (Vec<HandshakeError>, Link) {
    let mut others = Vec::new();
    loop {
        match listener.accept().await.unwrap() {
            Ok(link) => return (others, link),
            Err(error) => others.push(error),
        }
    }
}

#[tokio::test]
async fn half_open_handshakes_from_one_address_shut_nobody_else_out() {
    let federation = federation();
    let limits = Limits::default();
    let mut listener = server(&federation);
    let address = listener.local_address();
    let mut strangers = Vec::new();
    for _ in 0..limits.handshakes {
        strangers.push(half_open(address, ELSEWHERE, Proof::Given).await);
    }
    let client = participant(&federation);
    let dial = connect(address, &client, &limits);
    let (_client, (others, link)) =
        tokio::try_join!(dial, async { Ok(let_in(&mut listener).await) }).unwrap();
    assert_eq!(link.connection.peer().name(), "hospital-a");

    let told: Vec<_> = others
        .iter()
        .filter(|error| error.label() == "turned-away")
        .map(ToString::to_string)
        .collect();
    assert!(
        told[0].starts_with("turned 1 away unseen, the last at 127.0.0.2:"),
        "{told:?}"
    );
    assert!(
        told[0].contains("as many handshakes from one address as are allowed"),
        "{told:?}"
    );
    // Not a line for each.
    assert!(told.len() < limits.handshakes / 2, "{told:?}");
}

#[tokio::test]
async fn forged_addresses_keep_nobody_out_who_has_one_of_them() {
    let federation = federation();
    let limits = Limits::default();
    let mut listener = server(&federation);
    let address = listener.local_address();
    let mut strangers = Vec::new();
    for _ in 0..limits.handshakes {
        strangers.push(half_open(address, HERE, Proof::Missing).await);
    }
    let (client, server) = meet(&mut listener, &participant(&federation)).await;
    client.unwrap();
    server.unwrap();
}

/// So many clients dial at once from one address, each again while it is told that the server is busy. Gives how many of our dials
/// it took, once all are let in.
async fn all_get_in(clients: usize, limits: Limits) -> usize {
    let federation = federation();
    let mut listener = listen(loopback(), &tls(federation.server()), &limits).unwrap();
    let address = listener.local_address();
    let client = participant(&federation);
    let mut dialing = JoinSet::new();
    for _ in 0..clients {
        let (client, limits) = (client.clone(), limits.clone());
        dialing.spawn(async move {
            for dials in 1.. {
                match connect(address, &client, &limits).await {
                    Err(HandshakeError::Busy { .. }) => tokio::task::yield_now().await,
                    outcome => return outcome.map(|link| (dials, link)),
                }
            }
            unreachable!("it dials until it knows")
        });
    }
    let mut links = Vec::new();
    while links.len() < clients {
        links.push(let_in(&mut listener).await.1);
    }
    let mut dials = 0;
    while let Some(dialed) = dialing.join_next().await {
        dials += dialed.unwrap().unwrap().0;
    }
    dials
}

#[tokio::test]
async fn several_clients_behind_one_address_get_in_at_once() {
    assert_eq!(all_get_in(8, Limits::default()).await, 8);
}

#[tokio::test]
async fn more_clients_behind_one_address_than_places_get_in_one_after_the_other() {
    let limits = Limits {
        handshakes_per_address: 2,
        ..Limits::default()
    };
    all_get_in(12, limits).await;
}
