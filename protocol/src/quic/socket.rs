//! UDP sockets with buffers for bulk data.
#![expect(
    clippy::disallowed_types,
    reason = "the transport is this crate's one I/O module"
)]

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Kernel buffers asked for, each way: at 1 Gbit/s, 30 ms in which this process does not run.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Opens a socket bound to `address`.
pub(super) fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 peers too; where the system has no dual stack, IPv6 alone must do.
        let _ = socket.set_only_v6(false);
    }
    // The kernel cuts what its administrator does not allow; smaller buffers only cost speed.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}
