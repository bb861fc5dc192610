//! Control messages as bytes: serde through bincode 2, the only module that names bincode.
//!
//! `config::standard()` (little-endian, variable-length integers) with a limit of one frame. Reading bytes from
//! strangers must be boring: a value is decoded whole, within the limit, and nothing may be left over.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::{LENGTH_BYTES, MAX_FRAME_BYTES};

/// Encodes one value.
///
/// # Errors
/// [`EncodeError::TooLong`] if it does not fit one frame; [`EncodeError::Unrepresentable`] if serde refuses it.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let bytes = bincode::serde::encode_to_vec(value, CONFIGURATION).map_err(|error| {
        EncodeError::Unrepresentable {
            what: error.to_string(),
        }
    })?;
    if MAX_FRAME_BYTES < bytes.len() {
        return Err(EncodeError::TooLong { found: bytes.len() });
    }
    Ok(bytes)
}

/// Gives the bytes that a value takes on a stream: its frame with the length in front.
///
/// # Errors
/// As [`encode`].
pub fn framed_bytes<T: Serialize>(value: &T) -> Result<u64, EncodeError> {
    encode(value).map(|payload| (LENGTH_BYTES + payload.len()) as u64)
}

/// Decodes one value from exactly these bytes.
///
/// # Errors
/// [`DecodeError`] if there are too many bytes, if they are not a `T`, or if some are left over.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if MAX_FRAME_BYTES < bytes.len() {
        return Err(DecodeError::TooLong { found: bytes.len() });
    }
    let (value, used) =
        bincode::serde::decode_from_slice(bytes, CONFIGURATION).map_err(|error| {
            DecodeError::Malformed {
                what: error.to_string(),
            }
        })?;
    if used < bytes.len() {
        return Err(DecodeError::Trailing {
            used,
            found: bytes.len(),
        });
    }
    Ok(value)
}

/// A value that cannot be sent. Our own fault.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Longer than one frame.
    #[error("a message of {found} bytes does not fit a frame of {MAX_FRAME_BYTES}")]
    TooLong {
        /// The length in bytes.
        found: usize,
    },
    /// Serde refused the value.
    #[error("a message cannot be encoded: {what}")]
    Unrepresentable {
        /// What serde said.
        what: String,
    },
}

/// Bytes that are not the message they should be. The sender's fault.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// More bytes than one frame may hold.
    #[error("a message of {found} bytes is longer than the limit of {MAX_FRAME_BYTES}")]
    TooLong {
        /// The length in bytes.
        found: usize,
    },
    /// Not an encoding of the expected type.
    #[error("malformed message: {what}")]
    Malformed {
        /// What the decoder found wrong; never the bytes themselves.
        what: String,
    },
    /// A whole value, and then more bytes.
    #[error("a message ends after {used} of {found} bytes")]
    Trailing {
        /// Bytes that the value used.
        used: usize,
        /// Bytes that there were.
        found: usize,
    },
}

const CONFIGURATION: Configuration<LittleEndian, Varint, Limit<MAX_FRAME_BYTES>> =
    bincode::config::standard().with_limit::<MAX_FRAME_BYTES>();
