//! Sending a transfer: the header, the bytes behind its offset, and the wait until the peer has all of them.

use bytes::Bytes;
use quinn::{SendStream, StoppedError, VarInt, WriteError};

use super::{TransferError, TransferFault};
use crate::close::CloseCode;
use crate::codec;
use crate::frame;
use crate::message::TransferHeader;
use crate::quic::connection::Connection;

/// Bytes handed over at a time, and so the grain of progress, and the most that is held back.
const CHUNK_BYTES: usize = 256 * 1024;

/// Control messages go before bulk bytes.
const BULK_PRIORITY: i32 = -1;

impl Connection {
    /// Sends `payload`, the whole content, from the header's offset on; returns once the peer's machine has acknowledged all of it.
    ///
    /// `progress` is told the bytes handed to the transport so far, which runs ahead of the peer
    /// by at most the stream window. Acknowledged is not accepted: that the peer says on the
    /// control stream. Dropping the future takes back what has not arrived, and the peer sees that it was abandoned.
    ///
    /// # Errors
    /// [`TransferError`] names the peer and says whose fault it is.
    pub async fn send_transfer(
        &self,
        header: &TransferHeader,
        payload: Bytes,
        progress: impl FnMut(u64) + Send,
    ) -> Result<(), TransferError> {
        let at_once = std::future::ready(());
        self.send_transfer_held(header, payload, at_once, progress)
            .await
    }

    /// Sends as [`Connection::send_transfer`] does, but the last bytes, at most 256 KiB, only after `release`: until then the peer
    /// cannot have all of it.
    ///
    /// # Errors
    /// As [`Connection::send_transfer`].
    pub async fn send_transfer_held(
        &self,
        header: &TransferHeader,
        payload: Bytes,
        release: impl Future<Output = ()> + Send,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<(), TransferError> {
        if usize::try_from(header.bytes) != Ok(payload.len()) || header.bytes < header.offset {
            return Err(self.fault(TransferFault::Announcement {
                announced: header.bytes,
                given: payload.len(),
            }));
        }
        let mut stream = self.open_transfer(header).await?;
        // Not beyond the payload's length, which is a usize.
        let mut sent = header.offset as usize;
        while sent + CHUNK_BYTES < payload.len() {
            let chunk = payload.slice(sent..sent + CHUNK_BYTES);
            self.written(stream.stream.write_chunk(chunk).await)?;
            sent += CHUNK_BYTES;
            progress(sent as u64);
        }
        release.await;
        if sent < payload.len() {
            self.written(stream.stream.write_chunk(payload.slice(sent..)).await)?;
            progress(header.bytes);
        }
        self.finished(stream).await
    }

    /// Opens a stream and says what is to come.
    async fn open_transfer(&self, header: &TransferHeader) -> Result<Outgoing, TransferError> {
        let frame = header_frame(header).map_err(|fault| self.fault(fault))?;
        let opened = self.quic().open_uni().await;
        let stream = opened.map_err(|error| self.fault(TransferFault::from(&error)))?;
        let mut stream = Outgoing {
            stream,
            is_over: false,
        };
        // An error here means a closed stream, which the first write will report.
        let _ = stream.stream.set_priority(BULK_PRIORITY);
        self.written(stream.stream.write_all(&frame).await)?;
        Ok(stream)
    }

    /// Waits until the peer has all of a stream.
    async fn finished(&self, mut stream: Outgoing) -> Result<(), TransferError> {
        // A stream closed by the peer is reported by `stopped`.
        let _ = stream.stream.finish();
        let stopped = stream.stream.stopped().await;
        stream.is_over = true;
        match stopped {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(self.fault(TransferFault::stopped(code))),
            Err(StoppedError::ConnectionLost(error)) => {
                Err(self.fault(TransferFault::from(&error)))
            }
            Err(StoppedError::ZeroRttRejected) => Err(self.fault(TransferFault::Abandoned)),
        }
    }

    fn written(&self, result: Result<(), WriteError>) -> Result<(), TransferError> {
        result.map_err(|error| {
            self.fault(match error {
                WriteError::Stopped(code) => TransferFault::stopped(code),
                WriteError::ConnectionLost(error) => TransferFault::from(&error),
                WriteError::ClosedStream | WriteError::ZeroRttRejected => TransferFault::Abandoned,
            })
        })
    }
}

/// A stream that is reset if it is dropped before the peer has all of it: quinn would end it as if it were whole, and go on
/// holding what waits to be sent.
struct Outgoing {
    stream: SendStream,
    is_over: bool,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.is_over {
            // The only error is that the stream is closed already, which is what is wanted.
            let _ = self
                .stream
                .reset(VarInt::from_u32(CloseCode::Withdrawn.wire()));
        }
    }
}

fn header_frame(header: &TransferHeader) -> Result<Vec<u8>, TransferFault> {
    let payload = codec::encode(header).map_err(|error| TransferFault::Header {
        what: error.to_string(),
    })?;
    frame::encode_frame(&payload).map_err(|error| TransferFault::Header {
        what: error.to_string(),
    })
}
