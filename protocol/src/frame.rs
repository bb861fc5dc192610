//! Frames: a message's length as a little-endian `u32`, then the message.
//!
//! The decoder is incremental (a stream may be cut anywhere) and holds at most one frame: it takes from the
//! caller's buffer what the frame at hand needs and leaves the rest there, so no peer can make it allocate more
//! than [`MAX_FRAME_BYTES`].

/// Puts the length in front of a message.
///
/// # Errors
/// [`FrameError`] if the message is empty or longer than [`MAX_FRAME_BYTES`].
pub fn encode_frame(payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    payload_length(length.to_le_bytes())?;
    let mut frame = Vec::with_capacity(LENGTH_BYTES + payload.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(payload);
    Ok(frame)
}

/// Reads and checks the length that opens a frame.
///
/// # Errors
/// [`FrameError`] if it announces an empty message or one longer than [`MAX_FRAME_BYTES`].
pub fn payload_length(prefix: [u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(prefix);
    match usize::try_from(length) {
        Ok(0) => Err(FrameError::Empty),
        Ok(length) if length <= MAX_FRAME_BYTES => Ok(length),
        _ => Err(FrameError::TooLong { found: length }),
    }
}

/// Takes frames apart, however the stream was cut.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    prefix: [u8; LENGTH_BYTES],
    prefix_filled: usize,
    payload: Vec<u8>,
    payload_length: usize,
}

impl FrameDecoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes off the front of `input` until a message is whole or `input` is empty.
    ///
    /// Call it again with the same `input` until it returns `None`.
    ///
    /// # Errors
    /// [`FrameError`] if a frame announces a forbidden length; the stream cannot be read any further.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        if self.prefix_filled < LENGTH_BYTES {
            let taken = take(input, LENGTH_BYTES - self.prefix_filled);
            self.prefix[self.prefix_filled..][..taken.len()].copy_from_slice(taken);
            self.prefix_filled += taken.len();
            if self.prefix_filled < LENGTH_BYTES {
                return Ok(None);
            }
            self.payload_length = payload_length(self.prefix)?;
        }
        self.payload
            .extend_from_slice(take(input, self.payload_length - self.payload.len()));
        if self.payload.len() < self.payload_length {
            return Ok(None);
        }
        self.prefix_filled = 0;
        Ok(Some(std::mem::take(&mut self.payload)))
    }

    /// Whether the stream may end here: no frame is half read.
    pub fn is_at_boundary(&self) -> bool {
        self.prefix_filled == 0
    }
}

/// Splits at most `wanted` bytes off the front.
fn take<'a>(input: &mut &'a [u8], wanted: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(wanted.min(input.len()));
    *input = rest;
    taken
}

/// A frame whose announced length is forbidden.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No message is empty.
    #[error("a frame announces an empty message")]
    Empty,
    /// Longer than [`MAX_FRAME_BYTES`].
    #[error("a frame announces {found} bytes, more than the limit of {MAX_FRAME_BYTES}")]
    TooLong {
        /// The announced length in bytes.
        found: u32,
    },
}

/// The longest message, in bytes.
pub const MAX_FRAME_BYTES: usize = 65_536;

/// The length of the prefix, in bytes.
pub const LENGTH_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_little_endian_and_comes_first() {
        assert_eq!(
            encode_frame(b"abc").unwrap(),
            [3, 0, 0, 0, b'a', b'b', b'c']
        );
    }

    #[test]
    fn empty_and_overlong_frames_are_refused_both_ways() {
        assert_eq!(encode_frame(&[]), Err(FrameError::Empty));
        assert_eq!(
            encode_frame(&vec![0; MAX_FRAME_BYTES + 1]),
            Err(FrameError::TooLong { found: 65_537 })
        );
        assert_eq!(
            FrameDecoder::new().feed(&mut &[0; 4][..]),
            Err(FrameError::Empty)
        );
        assert_eq!(
            FrameDecoder::new().feed(&mut &[0xff; 8][..]),
            Err(FrameError::TooLong { found: u32::MAX })
        );
    }

    #[test]
    fn a_hostile_length_allocates_nothing_before_bytes_arrive() {
        let mut decoder = FrameDecoder::new();
        assert_eq!(decoder.feed(&mut &65_536_u32.to_le_bytes()[..]), Ok(None));
        assert_eq!(decoder.payload.capacity(), 0);
        assert!(!decoder.is_at_boundary());
    }
}
