//! The opening of the control stream: the client asks to be admitted, the server says that it is.
//!
//! In TLS 1.3 a client has finished its handshake before the server has seen the client's
//! certificate. So the client opens the control stream with eight bytes and waits for the same
//! eight, which a server sends only to a peer that it has let in. It costs one round trip in the
//! life of a connection, and makes a refused certificate an error of connecting.

use std::net::SocketAddr;

use quinn::{ConnectionError, ReadExactError, RecvStream, SendStream, WriteError};

use super::error::HandshakeError;

/// What opens the control stream, both ways.
const GREETING: [u8; 8] = *b"foedus/1";

/// Its length in bytes: what either side says before the first frame.
pub const GREETING_BYTES: u64 = GREETING.len() as u64;

/// Why nobody was admitted.
pub(super) enum AdmissionError {
    /// The connection ended first.
    Lost(ConnectionError),
    /// The peer sent something else.
    Foreign(SocketAddr),
}

impl AdmissionError {
    /// Turns the loss of a connection into words by `explain`.
    pub(super) fn explained(
        self,
        explain: impl FnOnce(&ConnectionError) -> HandshakeError,
    ) -> HandshakeError {
        match self {
            Self::Lost(error) => explain(&error),
            Self::Foreign(remote) => HandshakeError::Foreign {
                remote,
                what: "its control stream opens with other bytes".to_owned(),
            },
        }
    }
}

/// Asks to be admitted, and waits until we are. The client's side.
pub(super) async fn ask(
    quic: &quinn::Connection,
    remote: SocketAddr,
) -> Result<(SendStream, RecvStream), AdmissionError> {
    let (mut send, mut recv) = quic.open_bi().await.map_err(AdmissionError::Lost)?;
    write(&mut send, remote).await?;
    read(&mut recv, remote).await?;
    Ok((send, recv))
}

/// Waits until we are asked, and admits. The server's side.
pub(super) async fn grant(
    quic: &quinn::Connection,
    remote: SocketAddr,
) -> Result<(SendStream, RecvStream), AdmissionError> {
    let (mut send, mut recv) = quic.accept_bi().await.map_err(AdmissionError::Lost)?;
    read(&mut recv, remote).await?;
    write(&mut send, remote).await?;
    Ok((send, recv))
}

async fn write(stream: &mut SendStream, remote: SocketAddr) -> Result<(), AdmissionError> {
    match stream.write_all(&GREETING).await {
        Ok(()) => Ok(()),
        Err(WriteError::ConnectionLost(error)) => Err(AdmissionError::Lost(error)),
        Err(_) => Err(AdmissionError::Foreign(remote)),
    }
}

async fn read(stream: &mut RecvStream, remote: SocketAddr) -> Result<(), AdmissionError> {
    let mut greeting = [0; GREETING.len()];
    match stream.read_exact(&mut greeting).await {
        Ok(()) if greeting == GREETING => Ok(()),
        Err(ReadExactError::ReadError(quinn::ReadError::ConnectionLost(error))) => {
            Err(AdmissionError::Lost(error))
        }
        _ => Err(AdmissionError::Foreign(remote)),
    }
}
