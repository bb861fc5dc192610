//! What a line of the ledger says.

use jiff::Timestamp;
use protocol::{Digest, quic::TlsMaterial};
use serde::{Deserialize, Serialize};

/// One line, without its signature.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Entry {
    /// Its number, from 0.
    pub number: u64,
    /// When it was written, by the site's clock.
    pub at: Timestamp,
    /// SHA-256 of the line before it; zeros in the first.
    pub previous: Digest,
    /// What happened, or is about to.
    #[serde(flatten)]
    pub fact: Fact,
}

/// What happened, or is about to.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    /// A process begins to write; its key signs this line and those after it.
    Opened {
        /// The site's identity.
        site: String,
        /// Serial number of its certificate.
        certificate: String,
        /// The certificate's Ed25519 key.
        public_key: Digest,
        /// Program and version.
        software: String,
    },
    /// The end of the file was half a line, which was taken away. What it was about had not left.
    Torn {
        /// Bytes taken away.
        bytes: u64,
        /// Their SHA-256.
        sha256: Digest,
    },
    /// An earlier process ended before it counted this connection's datagrams.
    Uncounted {
        /// The connection.
        connection: u64,
    },
    /// A connection is about to be made, or to be tried at another address of the server.
    Dial {
        /// Its number.
        connection: u64,
        /// The server as "host:port"; where it was tried before, the other address.
        address: String,
        /// The greeting that opens the control stream.
        bytes: u64,
    },
    /// The server has proved who it is.
    Connected {
        /// The connection.
        connection: u64,
        /// Its identity.
        server: String,
        /// SHA-256 of its certificate.
        certificate: Digest,
    },
    /// A message is about to leave.
    Message {
        /// The connection.
        connection: u64,
        /// The message's name in the protocol.
        message: String,
        /// The run, once its plan is known.
        #[serde(flatten)]
        run: Option<RunReference>,
        /// The round it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        round: Option<u32>,
        /// With its length in front.
        bytes: u64,
    },
    /// Bytes `from..to` of something are about to leave.
    Transfer {
        /// The connection.
        connection: u64,
        /// What they are.
        purpose: Purpose,
        /// The run.
        #[serde(flatten)]
        run: RunReference,
        /// The round.
        round: u32,
        /// SHA-256 of the whole.
        sha256: Digest,
        /// The first byte that leaves.
        from: u64,
        /// One past the last.
        to: u64,
        /// The header in front of them.
        header_bytes: u64,
        /// The data set's loss of privacy so far, this release included; absent without differential privacy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epsilon: Option<f64>,
    },
    /// A connection is over, and this is what its socket sent in all.
    Closed {
        /// The connection.
        connection: u64,
        /// Datagrams.
        datagrams: u64,
        /// Bytes in them.
        datagram_bytes: u64,
        /// What this ledger has for the connection's streams; the difference is what QUIC and TLS added.
        stream_bytes: u64,
    },
    /// Something was refused, and why.
    Refused {
        /// The run, if a plan was refused or asked.
        #[serde(flatten)]
        run: Option<RunReference>,
        /// Every reason.
        reasons: Vec<String>,
    },
}

/// A run by its name and the digest of its plan.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RunReference {
    /// The run's name.
    pub run: String,
    /// SHA-256 of its plan.
    pub plan: Digest,
}

/// What a transfer's bytes are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A round's update.
    Update,
}

impl Fact {
    pub(super) fn opened(tls: &TlsMaterial, software: &str) -> Self {
        Self::Opened {
            site: tls.identity().to_string(),
            certificate: tls.serial().to_owned(),
            public_key: Digest(tls.public_key()),
            software: software.to_owned(),
        }
    }

    /// The word that the line has for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "opened",
            Self::Torn { .. } => "torn",
            Self::Uncounted { .. } => "uncounted",
            Self::Dial { .. } => "dial",
            Self::Connected { .. } => "connected",
            Self::Message { .. } => "message",
            Self::Transfer { .. } => "transfer",
            Self::Closed { .. } => "closed",
            Self::Refused { .. } => "refused",
        }
    }

    /// The connection it is about.
    pub fn connection(&self) -> Option<u64> {
        match self {
            Self::Uncounted { connection }
            | Self::Dial { connection, .. }
            | Self::Connected { connection, .. }
            | Self::Message { connection, .. }
            | Self::Transfer { connection, .. }
            | Self::Closed { connection, .. } => Some(*connection),
            Self::Opened { .. } | Self::Torn { .. } | Self::Refused { .. } => None,
        }
    }

    /// Bytes that leave on a stream for it.
    pub fn stream_bytes(&self) -> u64 {
        match self {
            Self::Dial { bytes, .. } | Self::Message { bytes, .. } => *bytes,
            Self::Transfer {
                from,
                to,
                header_bytes,
                ..
            } => header_bytes.saturating_add(to.saturating_sub(*from)),
            _ => 0,
        }
    }
}
