//! The small values that name things on the wire: digests, rounds, runs, participants, transfers.
//!
//! Newtypes, so that a round is never mistaken for a step. Labels (run and participant names) share one
//! alphabet with the certificate's URI, `[a-z0-9][a-z0-9-]{0,62}`, and are checked when they are made, also
//! when they come off the wire.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
///
/// `Display` and `FromStr` use 64 lower-case hexadecimal digits, and so do serde's formats for people; `Debug` shows the
/// first eight.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

impl FromStr for Digest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 32];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err(IdError::Digest),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(D::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

/// The number of a round; the first round of a run is 1.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct Round(pub u32);

impl Round {
    /// The first round of every run.
    pub const FIRST: Self = Self(1);

    /// The round after this one. At the largest number it stays there; a plan's limit on rounds is far below.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies one transfer of bulk bytes, the same on every connection that carries a part of it.
///
/// Derived from what is carried, so that an interrupted transfer is recognised after either side restarted.
#[derive(Clone, Copy, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct TransferId(pub [u8; 16]);

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

/// One connection, as the owner of a [`Coordinator`](crate::coordinator::Coordinator) numbers them.
///
/// Never on the wire. Numbers are not used twice within a run.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The label as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                if is_label(&text) { Ok(Self(text)) } else { Err(IdError::Label) }
            }
        }

        impl From<$name> for String {
            fn from(label: $name) -> Self {
                label.0
            }
        }
    };
}

label! {
    /// The name of one run, chosen by the server's operator.
    RunId
}
label! {
    /// The name of one participant, as its certificate states it.
    ParticipantName
}

/// Whether the text is a label: `[a-z0-9][a-z0-9-]{0,62}`.
pub fn is_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= LABEL_BYTES_MAX
        && bytes.first().is_some_and(|&first| plain(first))
        && bytes.iter().all(|&byte| plain(byte) || byte == b'-')
}

/// A text that is not the identifier it should be. The text itself is not repeated: it may come from a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Not a run or participant name.
    #[error("a name is 1 to 63 characters of a-z, 0-9 and '-', and does not begin with '-'")]
    Label,
    /// Not a digest.
    #[error("a digest is 64 hexadecimal digits")]
    Digest,
}

/// The longest label, in bytes: that of one DNS label.
pub const LABEL_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_abc_is_the_published_one_and_survives_its_text() {
        let digest = Digest::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(format!("{digest:?}"), "ba7816bf");
        assert_eq!("ba78".parse::<Digest>(), Err(IdError::Digest));
    }

    #[test]
    fn labels_follow_the_alphabet_of_the_certificate() {
        for good in ["a", "0", "ward-7", &"x".repeat(63)] {
            assert!(good.parse::<ParticipantName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a_b", "a b", "ä", "a/b", &"x".repeat(64)] {
            assert_eq!(bad.parse::<RunId>(), Err(IdError::Label), "{bad}");
        }
    }
}
