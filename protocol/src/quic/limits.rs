//! What one endpoint allows: connections, handshakes, streams, windows, silence.
//!
//! The defaults suit a federation of up to a few hundred sites over the internet. Windows bound
//! what a peer can make us buffer: at most what its connection's window allows, and only while the
//! program does not read.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};
use quinn::{AckFrequencyConfig, EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt};

/// Largest UDP payload looked for on a path. Loopback and jumbo frames carry it; elsewhere the search ends at what the path
/// carries. quinn hands ten packets to the kernel at a time, of which none arrives beyond 65,507 bytes, and closes a connection
/// in silence if the first congestion window of 12,000 bytes has no room for a packet.
pub(super) const PAYLOAD_BYTES_MAX: u16 = 6_400;
/// Packets that a receiver may leave without an answer for at most its usual delay.
const UNACKNOWLEDGED_MAX: u32 = 10;

/// Handshakes in progress by default.
const HANDSHAKES: usize = 64;

/// Limits of one endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Connections admitted at a time; one more is refused as busy. Servers only.
    pub connections: usize,
    /// Handshakes in progress at a time; beyond half of it an address must prove itself by a
    /// retry (RFC 9000, section 8.1.2). Servers only.
    pub handshakes: usize,
    /// Of these for one address, or one /64 of IPv6; beyond half of it that address must prove itself, too. Sites behind one
    /// address share it: once a handshake is done, its place is free. Servers only.
    pub handshakes_per_address: usize,
    /// How long a handshake may take, admission included.
    pub handshake_timeout: Duration,
    /// How long a peer may be silent before its connection counts as lost.
    pub idle_timeout: Duration,
    /// How often we speak when there is nothing to say, so that firewalls keep the path open and a peer that was started again is
    /// noticed.
    pub keep_alive: Duration,
    /// Transfers that the peer may have open to us at a time.
    pub transfers: u32,
    /// Bytes of one incoming transfer in flight: bandwidth times delay, 1 Gbit/s at 130 ms by default.
    pub stream_window_bytes: u32,
    /// Bytes of all incoming streams of one connection in flight, until [`Connection::allow_ahead`] says otherwise.
    ///
    /// [`Connection::allow_ahead`]: super::Connection::allow_ahead
    pub connection_window_bytes: u32,
    /// Bytes of all outgoing streams of one connection in flight. The peer allows fewer if it has no room for them.
    pub send_window_bytes: u32,
    /// How the sending side finds out what the path takes.
    pub congestion: Congestion,
}

/// How a sender finds out what the path takes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Congestion {
    /// RFC 9438: backs off at losses, grows again by a cubic function of time.
    #[default]
    Cubic,
    /// RFC 9002, section 7: halves at losses, grows by a packet a round trip.
    NewReno,
    /// Measures bandwidth and round trip and does not take losses for congestion (Cardwell et al. 2017).
    Bbr,
}

impl Congestion {
    fn factory(self) -> Arc<dyn ControllerFactory + Send + Sync> {
        match self {
            Self::Cubic => Arc::new(CubicConfig::default()),
            Self::NewReno => Arc::new(NewRenoConfig::default()),
            Self::Bbr => Arc::new(BbrConfig::default()),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            handshakes: HANDSHAKES,
            handshakes_per_address: HANDSHAKES / 4,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(3),
            transfers: 4,
            stream_window_bytes: 16 * 1024 * 1024,
            connection_window_bytes: 24 * 1024 * 1024,
            send_window_bytes: 16 * 1024 * 1024,
            congestion: Congestion::default(),
        }
    }
}

impl Limits {
    /// Returns quinn's settings, with `control_streams` streams that the peer may open both ways.
    pub(super) fn transport(&self, control_streams: u32) -> Arc<TransportConfig> {
        let mut config = TransportConfig::default();
        // A timeout beyond 2^62 ms is none at all.
        let idle = self.idle_timeout.try_into().ok();
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(PAYLOAD_BYTES_MAX);
        let mut acknowledgements = AckFrequencyConfig::default();
        acknowledgements.ack_eliciting_threshold(VarInt::from_u32(UNACKNOWLEDGED_MAX));
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(control_streams))
            .max_concurrent_uni_streams(VarInt::from_u32(self.transfers))
            .max_idle_timeout(idle)
            .keep_alive_interval(Some(self.keep_alive))
            .stream_receive_window(VarInt::from_u32(self.stream_window_bytes))
            .receive_window(VarInt::from_u32(self.connection_window_bytes))
            .send_window(u64::from(self.send_window_bytes))
            .mtu_discovery_config(Some(discovery))
            .ack_frequency_config(Some(acknowledgements))
            .congestion_controller_factory(self.congestion.factory())
            // Foedus sends no unreliable datagrams and takes none.
            .datagram_receive_buffer_size(None);
        Arc::new(config)
    }
}

/// Returns quinn's settings of a socket.
pub(super) fn endpoint() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(PAYLOAD_BYTES_MAX)
        .expect("it is between 1,200 and 65,527");
    config
}
