//! A server that dies in silence and comes back at the same address.

use std::net::SocketAddr;
use std::time::Duration;

use protocol::message::ToClient;
use protocol::quic::{Closed, ControlFault, Limits, Link, Listener, TlsMaterial, connect, listen};
use tokio::runtime::Runtime;

use crate::party::{federation, loopback, participant, tls};

/// Longer than any test takes.
const AN_HOUR: Duration = Duration::from_secs(3600);

/// Peers speak often, and hold on for so long.
fn limits(idle_timeout: Duration) -> Limits {
    Limits {
        keep_alive: Duration::from_millis(100),
        idle_timeout,
        ..Limits::default()
    }
}

fn listen_at(runtime: &Runtime, address: SocketAddr, material: &TlsMaterial) -> Listener {
    let _context = runtime.enter();
    listen(address, material, &limits(AN_HOUR)).unwrap()
}

/// What a client hears whose server, on a runtime of its own, is gone from one moment to the next and then started again with
/// `after`. A runtime that ends polls nothing any more, so that no goodbye gets out.
fn heard_of_restart(
    (before, after): (&TlsMaterial, &TlsMaterial),
    client: &TlsMaterial,
    idle_timeout: Duration,
) -> Closed {
    let here = Runtime::new().unwrap();
    let there = Runtime::new().unwrap();
    let mut listener = listen_at(&there, loopback(), before);
    let address = listener.local_address();
    let accepted = there.spawn(async move { (listener.accept().await, listener) });
    let limits = limits(idle_timeout);
    let link = here.block_on(connect(address, client, &limits)).unwrap();
    let kept = here.block_on(accepted).unwrap();
    drop(there);
    drop(kept);
    let _again = listen_at(&here, address, after);
    here.block_on(end_of(link))
}

async fn end_of(mut link: Link) -> Closed {
    match link.receiver.recv::<ToClient>().await.unwrap_err().fault {
        ControlFault::Closed(closed) => closed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_hears_at_its_next_packet_that_the_server_was_started_again() {
    let federation = federation();
    let server = tls(federation.server());
    let heard = heard_of_restart((&server, &server), &participant(&federation), AN_HOUR);
    assert!(heard.is_temporary(), "{heard}");
    assert_eq!(heard.to_string(), "the peer has restarted");
}

#[test]
fn a_server_with_another_key_at_the_same_address_ends_no_connection_of_the_first() {
    let (federation, other) = (federation(), federation());
    let servers = (&tls(federation.server()), &tls(other.server()));
    let silence = Duration::from_secs(1);
    let heard = heard_of_restart(servers, &participant(&federation), silence);
    assert_eq!(heard, Closed::Silent);
}
