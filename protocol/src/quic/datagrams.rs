//! What connections cost, as the transport counts it.

use std::ops::AddAssign;

use super::connection::Connection;

/// Datagrams of one connection so far, or of several added up: handshake, acknowledgements and retransmissions included.
///
/// # Units
/// Bytes are the payload of UDP; headers of IP and UDP are not in them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Datagrams {
    /// Datagrams that we sent.
    pub sent: u64,
    /// Bytes in them.
    pub sent_bytes: u64,
    /// Datagrams that came.
    pub received: u64,
    /// Bytes in them.
    pub received_bytes: u64,
    /// Packets of ours that did not arrive; a datagram carries one, or a few during the handshake.
    pub lost_packets: u64,
}

impl AddAssign for Datagrams {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.lost_packets += other.lost_packets;
    }
}

impl Connection {
    /// Counts the datagrams of this connection so far. No number falls, also when the connection ends.
    pub fn datagrams(&self) -> Datagrams {
        let stats = self.quic().stats();
        Datagrams {
            sent: stats.udp_tx.datagrams,
            sent_bytes: stats.udp_tx.bytes,
            received: stats.udp_rx.datagrams,
            received_bytes: stats.udp_rx.bytes,
            lost_packets: stats.path.lost_packets,
        }
    }
}
