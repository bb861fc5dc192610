//! Bulk transfers: one unidirectional stream each, a header frame and then the raw bytes.
//!
//! The receiver allocates nothing before it has compared the header with what its owner allows. One that
//! takes a transfer into memory gets bytes only if their number and their SHA-256 are those of the header;
//! one that takes it piece by piece, to continue an interrupted transfer, checks the whole itself.

mod fault;
mod outgoing;

use bytes::Bytes;
use quinn::{RecvStream, VarInt};
use ring::digest::{Context, SHA256};

pub use self::fault::{TransferError, TransferFault};
use super::connection::Connection;
use super::frames::FrameReader;
use crate::close::CloseCode;
use crate::codec;
use crate::identity::Identity;
use crate::message::TransferHeader;

/// Pieces taken out of quinn at a time, each from one packet: a lock and a wake-up for all of them.
const PIECES_MAX: usize = 64;

/// A transfer stream whose header is not whole yet; kept by the connection between calls.
#[derive(Debug)]
pub(super) struct HalfOpen {
    stream: RecvStream,
    frames: FrameReader,
}

impl Connection {
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

    fn fault(&self, fault: TransferFault) -> TransferError {
        TransferError {
            peer: Box::new(self.peer().clone()),
            fault,
        }
    }
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
