//! Bulk transfers: one unidirectional stream each, a header frame and then the raw bytes.
//!
//! The receiver allocates nothing before it has compared the header with what its owner allows. One that
//! takes a transfer into memory gets bytes only if their number and their SHA-256 are those of the header;
//! one that takes it piece by piece, to continue an interrupted transfer, checks the whole itself.

use bytes::Bytes;
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError};
use ring::digest::{Context, SHA256};
use thiserror::Error;

use super::connection::Connection;
use super::error::Closed;
use super::frames::{FrameReadError, FrameReader};
use crate::close::CloseCode;
use crate::codec;
use crate::frame;
use crate::identity::Identity;
use crate::message::TransferHeader;

/// Bytes handed over at a time, and so the grain of progress.
const CHUNK_BYTES: usize = 256 * 1024;

/// Pieces taken out of quinn at a time, each from one packet: a lock and a wake-up for all of them.
const PIECES_MAX: usize = 64;

/// Control messages go before bulk bytes.
const BULK_PRIORITY: i32 = -1;

/// A transfer stream whose header is not whole yet; kept by the connection between calls.
#[derive(Debug)]
pub(super) struct HalfOpen {
    stream: RecvStream,
    frames: FrameReader,
}

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

    /// Sends as [`Connection::send_transfer`] does, but the last bytes, at most 256 KiB, only after `release`: until then the peer cannot have
    /// all of it.
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

    /// Waits for the peer's next transfer and reads its header. Cancel-safe.
    ///
    /// Several transfers may be received at a time; calls at a time take turns.
    ///
    /// # Errors
    /// [`TransferError`] names the peer.
    pub async fn accept_transfer(&self) -> Result<IncomingTransfer, TransferError> {
        let mut slot = self.half_open().lock().await;
        let half_open = match slot.take() {
            Some(half_open) => slot.insert(half_open),
            None => {
                let accepted = self.quic().accept_uni().await;
                let stream = accepted.map_err(|e| self.fault(TransferFault::from(&e)))?;
                let frames = FrameReader::default();
                slot.insert(HalfOpen { stream, frames })
            }
        };
        let read = half_open.frames.next(&mut half_open.stream).await;
        let half_open = slot.take();
        let header = match read {
            Ok(Some(payload)) => {
                codec::decode::<TransferHeader>(&payload).map_err(|error| TransferFault::Header {
                    what: error.to_string(),
                })
            }
            Ok(None) => Err(TransferFault::Header {
                what: "it is missing".to_owned(),
            }),
            Err(error) => Err(TransferFault::from(error)),
        };
        let header = header.map_err(|fault| self.fault(fault))?;
        let HalfOpen { stream, frames } =
            half_open.expect("the slot was filled above, under its lock");
        Ok(IncomingTransfer {
            connection: self.clone(),
            header,
            stream,
            unread: frames.into_unread(),
            received: header.offset,
        })
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

    fn fault(&self, fault: TransferFault) -> TransferError {
        TransferError {
            peer: Box::new(self.peer().clone()),
            fault,
        }
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

/// A transfer whose header has arrived and whose bytes have not been asked for.
///
/// Dropping it tells the peer to stop sending.
#[derive(Debug)]
pub struct IncomingTransfer {
    connection: Connection,
    header: TransferHeader,
    stream: RecvStream,
    unread: Bytes,
    /// Up to which byte of the whole.
    received: u64,
}

impl IncomingTransfer {
    /// Returns what the peer announces.
    pub fn header(&self) -> &TransferHeader {
        &self.header
    }

    /// Returns who sends.
    pub fn peer(&self) -> &Identity {
        self.connection.peer()
    }

    /// Turns the transfer away; the peer is told `code`.
    pub fn refuse(mut self, code: CloseCode) {
        self.stop(code);
    }

    /// Checks that there may be this many bytes in all, before any is taken.
    ///
    /// # Errors
    /// [`TransferFault::TooLarge`] or [`TransferFault::Offset`]; the peer is told to stop.
    pub fn limit(&mut self, bytes_max: u64) -> Result<(), TransferError> {
        let TransferHeader { bytes, offset, .. } = self.header;
        if bytes_max < bytes {
            return Err(self.abort(TransferFault::TooLarge {
                announced: bytes,
                limit: bytes_max,
            }));
        }
        if bytes < offset {
            return Err(self.abort(TransferFault::Offset { found: offset }));
        }
        Ok(())
    }

    /// Receives the bytes that are there, in order and at least one; none after the last.
    ///
    /// They come in pieces as the packets brought them. What they add up to is for the caller to compare with the header.
    ///
    /// # Errors
    /// [`TransferError`] names the peer, and says if there are fewer or more bytes than announced.
    pub async fn next(&mut self) -> Result<Option<Vec<Bytes>>, TransferError> {
        let mut pieces = vec![std::mem::take(&mut self.unread)];
        if pieces[0].is_empty() {
            pieces.resize(PIECES_MAX, Bytes::new());
            match self.stream.read_chunks(&mut pieces).await {
                Ok(Some(count)) => pieces.truncate(count),
                Ok(None) => return self.complete().map(|()| None),
                Err(error) => return Err(self.connection.fault(TransferFault::from(error))),
            }
        }
        let announced = self.header.bytes;
        self.received += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        if announced < self.received {
            return Err(self.abort(TransferFault::TooLong { announced }));
        }
        Ok(Some(pieces))
    }

    /// Receives a transfer from its first byte into memory, at most `bytes_max`.
    ///
    /// `progress` is told the bytes received so far; a stall is when it is not called.
    ///
    /// # Errors
    /// [`TransferError`] names the peer, and says if the transfer is too large for us, has an
    /// offset, has fewer or more bytes than announced, or another digest.
    pub async fn receive(
        mut self,
        bytes_max: u64,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<Vec<u8>, TransferError> {
        self.limit(bytes_max)?;
        let mut payload = match self.room() {
            Ok(payload) => payload,
            Err(fault) => return Err(self.abort(fault)),
        };
        let mut digest = Context::new(&SHA256);
        while let Some(pieces) = self.next().await? {
            for piece in &pieces {
                digest.update(piece);
                payload.extend_from_slice(piece);
            }
            progress(payload.len() as u64);
        }
        if digest.finish().as_ref() != self.header.sha256.0 {
            return Err(self.connection.fault(TransferFault::WrongDigest));
        }
        Ok(payload)
    }

    /// Allocates for a whole transfer.
    fn room(&self) -> Result<Vec<u8>, TransferFault> {
        let TransferHeader { bytes, offset, .. } = self.header;
        if offset != 0 {
            return Err(TransferFault::Offset { found: offset });
        }
        let mut payload = Vec::new();
        let room = usize::try_from(bytes).map(|bytes| payload.try_reserve_exact(bytes));
        match room {
            Ok(Ok(())) => Ok(payload),
            _ => Err(TransferFault::TooLarge {
                announced: bytes,
                limit: isize::MAX as u64,
            }),
        }
    }

    fn complete(&self) -> Result<(), TransferError> {
        let (announced, found) = (self.header.bytes, self.received);
        if found == announced {
            return Ok(());
        }
        let fault = TransferFault::TooShort { announced, found };
        Err(self.connection.fault(fault))
    }

    fn abort(&mut self, fault: TransferFault) -> TransferError {
        self.stop(CloseCode::BadTransfer);
        self.connection.fault(fault)
    }

    fn stop(&mut self, code: CloseCode) {
        // The only error is that the stream has ended already.
        let _ = self.stream.stop(VarInt::from_u32(code.wire()));
    }
}

/// A transfer that failed, and with whom.
#[derive(Debug, Error)]
#[error("transfer with {peer}: {fault}")]
pub struct TransferError {
    /// The other side.
    pub peer: Box<Identity>,
    /// What happened.
    pub fault: TransferFault,
}

/// What happened to a transfer.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum TransferFault {
    /// The header does not describe the payload given. Our fault.
    #[error("the header announces {announced} bytes and {given} were given to send")]
    Announcement {
        /// Bytes in the header.
        announced: u64,
        /// Bytes given.
        given: usize,
    },
    /// The header cannot be read or written.
    #[error("its header is of no use: {what}")]
    Header {
        /// What is wrong.
        what: String,
    },
    /// An offset that was not asked for.
    #[error("it starts at byte {found}, where it was not asked to")]
    Offset {
        /// The offset found.
        found: u64,
    },
    /// More bytes announced than the receiver allows. The sender's fault.
    #[error("it announces {announced} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Bytes in the header.
        announced: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// More bytes than announced. The sender's fault.
    #[error("it has more than the {announced} bytes announced")]
    TooLong {
        /// Bytes in the header.
        announced: u64,
    },
    /// Fewer bytes than announced. The sender's fault, or it broke off.
    #[error("it ended after {found} of {announced} bytes")]
    TooShort {
        /// Bytes in the header.
        announced: u64,
        /// Bytes received.
        found: u64,
    },
    /// Other bytes than announced. The sender's fault.
    #[error("its bytes do not have the SHA-256 announced")]
    WrongDigest,
    /// The receiver turned it away.
    #[error("refused by the receiver: {0}")]
    Refused(CloseCode),
    /// The other side closed the stream without a reason we know.
    #[error("the other side abandoned it")]
    Abandoned,
    /// The connection ended.
    #[error("{0}")]
    Closed(Closed),
}

impl TransferFault {
    fn stopped(code: VarInt) -> Self {
        let known = u32::try_from(code.into_inner()).ok();
        known
            .and_then(CloseCode::from_wire)
            .map_or(Self::Abandoned, Self::Refused)
    }
}

impl From<&ConnectionError> for TransferFault {
    fn from(error: &ConnectionError) -> Self {
        Self::Closed(Closed::from(error))
    }
}

impl From<ReadError> for TransferFault {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => Self::from(&error),
            ReadError::Reset(_)
            | ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Self::Abandoned,
        }
    }
}

impl From<FrameReadError> for TransferFault {
    fn from(error: FrameReadError) -> Self {
        match error {
            FrameReadError::Read(error) => Self::from(error),
            FrameReadError::Frame(error) => Self::Header {
                what: error.to_string(),
            },
            FrameReadError::Cut => Self::Header {
                what: "it is cut off".to_owned(),
            },
        }
    }
}
