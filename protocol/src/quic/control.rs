//! The control stream: messages both ways, one frame each.
//!
//! Both halves survive cancellation, so that a driver may `select!` over them: a dropped
//! [`ControlReceiver::recv`] keeps what it has read, a dropped [`ControlSender::send`] the rest of
//! its frame, which goes out before the next one.

use bytes::{Buf, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::connection::Connection;
use super::error::Closed;
use super::frames::{FrameReadError, FrameReader};
use crate::codec::{self, DecodeError, EncodeError};
use crate::frame::{self, FrameError};
use crate::identity::Identity;

/// Our half of the control stream.
#[derive(Debug)]
pub struct ControlSender {
    connection: Connection,
    stream: SendStream,
    unsent: BytesMut,
}

impl ControlSender {
    pub(super) fn new(connection: &Connection, stream: SendStream) -> Self {
        Self {
            connection: connection.clone(),
            stream,
            unsent: BytesMut::new(),
        }
    }

    /// Sends one message; returns once quinn has all of it.
    ///
    /// Cancel-safe: a message whose sending is dropped still goes out whole, before the next.
    ///
    /// # Errors
    /// [`ControlError`] names the peer. [`ControlFault::Encode`] is our own fault, and leaves the
    /// stream usable.
    pub async fn send<M: Serialize>(&mut self, message: &M) -> Result<(), ControlError> {
        let payload = codec::encode(message).map_err(|e| self.fault(ControlFault::Encode(e)))?;
        let frame = frame::encode_frame(&payload)
            .map_err(|error| self.fault(ControlFault::Frame(error)))?;
        self.unsent.extend_from_slice(&frame);
        while !self.unsent.is_empty() {
            let written = self.stream.write(&self.unsent).await;
            let written = written.map_err(|error| self.lost(&error))?;
            self.unsent.advance(written);
        }
        Ok(())
    }

    /// Ends our half: the peer's receiver sees the end after the last message.
    pub fn finish(mut self) {
        // The only error is that the stream is closed already, which is what is wanted.
        let _ = self.stream.finish();
    }

    fn lost(&self, error: &WriteError) -> ControlError {
        let fault = match error {
            WriteError::ConnectionLost(error) => ControlFault::Closed(Closed::from(error)),
            WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                ControlFault::Abandoned
            }
        };
        self.fault(fault)
    }

    fn fault(&self, fault: ControlFault) -> ControlError {
        ControlError::new(&self.connection, fault)
    }
}

/// The peer's half of the control stream.
#[derive(Debug)]
pub struct ControlReceiver {
    connection: Connection,
    stream: RecvStream,
    frames: FrameReader,
}

impl ControlReceiver {
    pub(super) fn new(connection: &Connection, stream: RecvStream) -> Self {
        Self {
            connection: connection.clone(),
            stream,
            frames: FrameReader::default(),
        }
    }

    /// Receives one message; none once the peer has ended its half. Cancel-safe.
    ///
    /// # Errors
    /// [`ControlError`] names the peer. After [`ControlFault::Frame`] or [`ControlFault::Decode`]
    /// the peer has broken the protocol, and the owner closes the connection.
    pub async fn recv<M: DeserializeOwned>(&mut self) -> Result<Option<M>, ControlError> {
        match self.frames.next(&mut self.stream).await {
            Ok(None) => Ok(None),
            Ok(Some(payload)) => match codec::decode(&payload) {
                Ok(message) => Ok(Some(message)),
                Err(error) => Err(self.fault(ControlFault::Decode(error))),
            },
            Err(error) => Err(self.fault(ControlFault::from(error))),
        }
    }

    fn fault(&self, fault: ControlFault) -> ControlError {
        ControlError::new(&self.connection, fault)
    }
}

/// A control stream that is of no more use, and with whom.
#[derive(Debug, Error)]
#[error("control stream with {peer}: {fault}")]
pub struct ControlError {
    /// The other side.
    pub peer: Box<Identity>,
    /// What happened.
    pub fault: ControlFault,
}

impl ControlError {
    fn new(connection: &Connection, fault: ControlFault) -> Self {
        Self {
            peer: Box::new(connection.peer().clone()),
            fault,
        }
    }
}

/// What happened to a control stream.
#[derive(Debug, Error)]
pub enum ControlFault {
    /// Our message cannot be sent. Our fault.
    #[error("{0}")]
    Encode(EncodeError),
    /// A frame has a forbidden length. The sender's fault.
    #[error("{0}")]
    Frame(FrameError),
    /// A frame is not the message expected. The peer's fault.
    #[error("{0}")]
    Decode(DecodeError),
    /// The stream ended inside a frame. The peer's fault.
    #[error("it ended in the middle of a message")]
    Cut,
    /// The peer closed the stream without the connection. The peer's fault.
    #[error("the peer abandoned it")]
    Abandoned,
    /// The connection ended.
    #[error("{0}")]
    Closed(Closed),
}

impl From<FrameReadError> for ControlFault {
    fn from(error: FrameReadError) -> Self {
        match error {
            FrameReadError::Frame(error) => Self::Frame(error),
            FrameReadError::Cut => Self::Cut,
            FrameReadError::Read(ReadError::ConnectionLost(error)) => {
                Self::Closed(Closed::from(&error))
            }
            FrameReadError::Read(_) => Self::Abandoned,
        }
    }
}
