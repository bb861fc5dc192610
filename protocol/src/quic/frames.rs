//! Frames out of a QUIC stream, also when the reader is cancelled half-way.

use bytes::{Buf, Bytes};
use quinn::{ReadError, RecvStream};

use crate::frame::{FrameDecoder, FrameError};

/// How much is taken out of quinn at a time; what is left waits here and not there.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Reads frames; everything read so far survives a dropped future.
#[derive(Debug, Default)]
pub(super) struct FrameReader {
    decoder: FrameDecoder,
    unread: Bytes,
}

impl FrameReader {
    /// Reads the next frame's payload; none if the stream ended between two frames. Cancel-safe.
    pub(super) async fn next(
        &mut self,
        stream: &mut RecvStream,
    ) -> Result<Option<Vec<u8>>, FrameReadError> {
        loop {
            let mut input: &[u8] = &self.unread;
            let payload = self.decoder.feed(&mut input);
            let used = self.unread.len() - input.len();
            self.unread.advance(used);
            if let Some(payload) = payload.map_err(FrameReadError::Frame)? {
                return Ok(Some(payload));
            }
            let chunk = stream.read_chunk(READ_BYTES_MAX, true).await;
            match chunk.map_err(FrameReadError::Read)? {
                Some(chunk) => self.unread = chunk.bytes,
                None if self.decoder.is_at_boundary() => return Ok(None),
                None => return Err(FrameReadError::Cut),
            }
        }
    }

    /// Returns what was read beyond the last frame.
    pub(super) fn into_unread(self) -> Bytes {
        self.unread
    }
}

/// Why there is no frame.
#[derive(Debug)]
pub(super) enum FrameReadError {
    /// The stream or its connection is gone.
    Read(ReadError),
    /// The announced length is forbidden.
    Frame(FrameError),
    /// The stream ended inside a frame.
    Cut,
}
