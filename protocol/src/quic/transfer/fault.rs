//! What can go wrong with a transfer, and whose fault it is.

use quinn::{ConnectionError, ReadError, VarInt};
use thiserror::Error;

use crate::close::CloseCode;
use crate::identity::Identity;
use crate::quic::error::Closed;
use crate::quic::frames::FrameReadError;

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
    pub(super) fn stopped(code: VarInt) -> Self {
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
