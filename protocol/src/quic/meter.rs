//! Counts what leaves through a client's socket, one datagram at a time, so that a site can say exactly what it sent.
//!
//! The count is taken where quinn hands datagrams to the operating system: handshake, acknowledgements, retransmissions and
//! the last words included. A datagram that the system takes and then drops is counted; one that it never took is not. The
//! headers of IP and UDP are not part of it. It also keeps quinn's buffer for what arrives to what a client can fill, as
//! there may be a thousand clients in one process.
#![expect(
    clippy::disallowed_types,
    reason = "the transport is this crate's one I/O module"
)]

use std::fmt::Debug;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use tokio::sync::Notify;

use super::limits::PAYLOAD_BYTES_MAX;

/// Packets that the kernel hands over as one: what it joins has at most 64 KiB. quinn keeps room for this many of the largest,
/// or for four times as many as can come.
const SEGMENTS_MAX: usize = (64 * 1024_usize).div_ceil(PAYLOAD_BYTES_MAX as usize);
/// Of these taken at a time. quinn has room for 32; memory that is never written to is never taken.
const BATCH_MAX: usize = 8;

/// The datagrams that one or more sockets have sent. Clones are the same meter.
#[derive(Clone, Debug, Default)]
pub struct DatagramMeter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    datagrams: AtomicU64,
    bytes: AtomicU64,
    open_sockets: AtomicUsize,
    socket_closed: Notify,
}

impl DatagramMeter {
    /// Datagrams sent so far.
    pub fn datagrams(&self) -> u64 {
        self.0.datagrams.load(Ordering::Acquire)
    }

    /// Bytes in them: the payload of UDP.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Acquire)
    }

    /// Whether no metered socket is open, so that the count stays as it is.
    pub fn is_settled(&self) -> bool {
        self.0.open_sockets.load(Ordering::Acquire) == 0
    }

    /// Waits until no metered socket is open.
    pub async fn settled(&self) {
        loop {
            let closed = self.0.socket_closed.notified();
            if self.is_settled() {
                return;
            }
            closed.await;
        }
    }

    /// Puts the meter between quinn and a socket.
    pub(super) fn wrap(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let inner = TokioRuntime.wrap_udp_socket(socket)?;
        self.0.open_sockets.fetch_add(1, Ordering::AcqRel);
        let meter = self.clone();
        Ok(Arc::new(MeteredSocket { inner, meter }))
    }

    fn count(&self, transmit: &Transmit<'_>) {
        let bytes = transmit.contents.len();
        // One call may carry many datagrams of one size, the last of which may be shorter.
        let datagrams = transmit
            .segment_size
            .map_or(1, |size| bytes.div_ceil(size.max(1)));
        self.0
            .datagrams
            .fetch_add(datagrams as u64, Ordering::AcqRel);
        self.0.bytes.fetch_add(bytes as u64, Ordering::AcqRel);
    }
}

#[derive(Debug)]
struct MeteredSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    meter: DatagramMeter,
}

impl Drop for MeteredSocket {
    fn drop(&mut self) {
        self.meter.0.open_sockets.fetch_sub(1, Ordering::AcqRel);
        self.meter.0.socket_closed.notify_waiters();
    }
}

impl AsyncUdpSocket for MeteredSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)?;
        self.meter.count(transmit);
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let batch = BATCH_MAX.min(buffers.len()).min(meta.len());
        self.inner
            .poll_recv(context, &mut buffers[..batch], &mut meta[..batch])
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments().min(SEGMENTS_MAX)
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
