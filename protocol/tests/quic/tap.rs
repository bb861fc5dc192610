//! A wire between one client and a server, with an eye on what the server says first.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::party::loopback;

/// The bits of a first byte that make a long header and its type (RFC 9000, section 17.2), which no header protection covers.
const KIND: u8 = 0xf0;

/// Those of a Retry packet (section 17.2.5).
const RETRY: u8 = 0xf0;

/// Passes datagrams on between a server and whoever dials the tap.
pub(crate) struct Tap {
    /// Where to dial.
    pub(crate) address: SocketAddr,
    first: Arc<OnceLock<u8>>,
    wire: JoinHandle<()>,
}

impl Tap {
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let here = UdpSocket::bind(loopback()).await.unwrap();
        let there = UdpSocket::bind(loopback()).await.unwrap();
        there.connect(server).await.unwrap();
        let (address, first) = (here.local_addr().unwrap(), Arc::default());
        let wire = tokio::spawn(pass_on(here, there, Arc::clone(&first)));
        Self {
            address,
            first,
            wire,
        }
    }

    /// Whether the server's first answer was a Retry.
    pub(crate) fn saw_retry(&self) -> bool {
        self.first.get().expect("the server answered") & KIND == RETRY
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.wire.abort();
    }
}

async fn pass_on(here: UdpSocket, there: UdpSocket, first: Arc<OnceLock<u8>>) {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut client = None;
    loop {
        tokio::select! {
            question = here.recv_from(&mut asked) => {
                let (length, from) = question.unwrap();
                client = Some(from);
                there.send(&asked[..length]).await.unwrap();
            }
            answer = there.recv(&mut answered) => {
                // An error is that of a server that has gone.
                let Ok(length) = answer else { return };
                first.get_or_init(|| answered[0]);
                if let Some(client) = client {
                    here.send_to(&answered[..length], client).await.unwrap();
                }
            }
        }
    }
}
