//! Why a connection ends, an update is refused or a run fails: one exhaustive table.
//!
//! Each row gives the number on the wire, the label of the metric, and the sentence for the peer. Numbers are
//! never used twice, not across the three kinds either, so that one number in a log says everything. An unknown
//! number is a decode error: versions are agreed on in `Hello`, before any of these is sent.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! table {
    (
        $(#[$doc:meta])* $name:ident:
        $( $variant:ident = $wire:literal $label:literal $when:ident $sentence:literal ; )*
    ) => {
        $(#[$doc])*
        ///
        /// Its number on the wire, its label in serde's formats for people.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u32)]
        pub enum $name {
            $( #[doc = concat!("`", $label, "`: ", $sentence, ".")] $variant = $wire, )*
        }

        impl $name {
            /// Every row of the table, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )*];

            /// The number on the wire.
            pub fn wire(self) -> u32 {
                match self { $( Self::$variant => $wire, )* }
            }

            /// The row with this number.
            pub fn from_wire(wire: u32) -> Option<Self> {
                match wire { $( $wire => Some(Self::$variant), )* _ => None }
            }

            /// The row with this label.
            pub fn from_label(label: &str) -> Option<Self> {
                match label { $( $label => Some(Self::$variant), )* _ => None }
            }

            /// The value of the metric's label `reason`.
            pub fn label(self) -> &'static str {
                match self { $( Self::$variant => $label, )* }
            }

            /// The sentence for the peer: lower case, without a full stop, nothing about our insides.
            pub fn sentence(self) -> &'static str {
                match self { $( Self::$variant => $sentence, )* }
            }

            /// Whether trying again later, unchanged, can succeed.
            pub fn is_temporary(self) -> bool {
                match self { $( Self::$variant => When::$when.is_temporary(), )* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.sentence())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    self.label().serialize(serializer)
                } else {
                    self.wire().serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let label = String::deserialize(deserializer)?;
                    Self::from_label(&label).ok_or_else(|| D::Error::custom("no known reason"))
                } else {
                    Self::try_from(u32::deserialize(deserializer)?).map_err(D::Error::custom)
                }
            }
        }

        impl From<$name> for u32 {
            fn from(row: $name) -> Self {
                row.wire()
            }
        }

        impl TryFrom<u32> for $name {
            type Error = UnknownCode;

            fn try_from(wire: u32) -> Result<Self, UnknownCode> {
                Self::from_wire(wire).ok_or(UnknownCode { wire })
            }
        }
    };
}

table! {
    /// Why a connection was closed: the QUIC application error code.
    CloseCode:
    Finished        = 0x00 "finished"         Never "the run is over";
    Left            = 0x01 "left"             Never "the participant leaves the run";
    Declined        = 0x02 "declined"         Never "the participant declines the run plan";
    Superseded      = 0x03 "superseded"       Never "the same participant opened a newer connection";
    Stalled         = 0x04 "stalled"          Later "no progress for longer than the plan's stall limit";
    ServerStopping  = 0x05 "server-stopping"  Later "the server is stopping";
    RunFailed       = 0x06 "run-failed"       Later "the run failed";
    VersionMismatch = 0x07 "version-mismatch" Never "the two sides speak different protocol versions";
    NotInCohort     = 0x08 "not-in-cohort"    Never "the run plan does not name this participant";
    Full            = 0x09 "full"             Later "the run has as many participants as its plan allows";
    Malformed       = 0x0a "malformed"        Never "a message could not be decoded";
    Unexpected      = 0x0b "unexpected"       Never "a message is not allowed in this state";
    WrongPlan       = 0x0c "wrong-plan"       Never "a message names another run plan";
    WrongRound      = 0x0d "wrong-round"      Never "a message names a round that cannot be";
    BadTransfer     = 0x0e "bad-transfer"     Never "a transfer is not what was announced";
    BadSignature    = 0x0f "bad-signature"    Never "the run plan is not signed by the server's key";
    BadPlan         = 0x10 "bad-plan"         Never "the run plan breaks its own rules";
    Silent          = 0x11 "silent"           Later "the participant did not answer in time while joining";
    Revoked         = 0x12 "revoked"          Never "the certificate is revoked";
    Internal        = 0x13 "internal"         Later "an internal error";
    Deceived        = 0x14 "deceived"         Never "a rule of secure aggregation was broken";
    Flooding        = 0x15 "flooding"         Never "the participant sends more messages than it may";
    TooOften        = 0x16 "too-often"        Later "the participant connects more often than it may";
    BadTranscript   = 0x17 "bad-transcript"   Never "the transcript is not what the participant saw and was told";
    Withdrawn       = 0x18 "withdrawn"        Never "the sender took the transfer back";
    Expired         = 0x19 "expired"          Later "the certificate of this connection is over; connect with a renewed one";
    TooMuch         = 0x1a "too-much"         Later "the participant fetches more bytes of adapters than it may in one round";
}

table! {
    /// Why an update was refused. The round goes on with the others.
    RefusalReason:
    WrongRound      = 0x100 "wrong-round"     Never "the update is for another round";
    WrongPlan       = 0x101 "wrong-plan"      Never "the update is for another run plan";
    Duplicate       = 0x102 "duplicate"       Never "the round already has this participant's update";
    NotInRound      = 0x103 "not-in-round"    Never "the participant was not asked in this round";
    Late            = 0x104 "late"            Never "the round was closed before the update was whole";
    WrongTransfer   = 0x105 "wrong-transfer"  Never "the transfer is not the one that was offered";
    WrongSize       = 0x106 "wrong-size"      Never "the update does not have the size of the plan's layout";
    WrongDigest     = 0x107 "wrong-digest"    Never "the bytes do not have the digest that was offered";
    ZeroWeight      = 0x108 "zero-weight"     Never "the update has no weight";
    OverWeight      = 0x109 "over-weight"     Never "the weight is above the plan's limit";
    NotFinite       = 0x10a "not-finite"      Never "the update holds a value that is not finite";
    // 0x10c was never said: whoever agrees to a plan has compared its layout.
    OverNorm        = 0x10b "over-norm"       Never "the norm is above the plan's limit";
    Internal        = 0x10d "internal"        Later "the server could not take the update in";
    OverAllowance   = 0x10e "over-allowance"  Never "the participant sent or fetched more bytes than it may in one round";
    BrokenOff       = 0x10f "broken-off"      Never "the participant broke off or stalled too often in this round";
    LeftOut         = 0x110 "left-out"        Never "attempts at the round's sum came to nothing over this participant too often";
}

table! {
    /// Why a run ended without an adapter.
    RunFailure:
    TooFewJoined     = 0x200 "too-few-joined"      Later "fewer participants than the quorum joined in time";
    QuorumNotMet     = 0x201 "quorum-not-met"      Later "fewer updates than the quorum arrived before the hard deadline";
    QuorumOutOfReach = 0x202 "quorum-out-of-reach" Later "so many participants declined, left or were refused that the quorum cannot be met";
    Stopped          = 0x203 "stopped"             Later "the operator stopped the run";
    Internal         = 0x204 "internal"            Never "the server could not go on";
    SumNotOpened     = 0x205 "sum-not-opened"      Later "the sum of the masked updates could not be read";
}

/// The two answers to "does it help to try again, unchanged?".
enum When {
    Later,
    Never,
}

impl When {
    fn is_temporary(&self) -> bool {
        match self {
            Self::Later => true,
            Self::Never => false,
        }
    }
}

/// A number that is in no row of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{wire:#x} is no known reason")]
pub struct UnknownCode {
    /// The number.
    pub wire: u32,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_are_unique_over_all_three_tables_and_lead_back() {
        let mut numbers = BTreeSet::new();
        for &row in CloseCode::ALL {
            assert_eq!(CloseCode::from_wire(row.wire()), Some(row));
            assert!(numbers.insert(row.wire()));
        }
        for &row in RefusalReason::ALL {
            assert_eq!(RefusalReason::from_wire(row.wire()), Some(row));
            assert_eq!(RefusalReason::from_label(row.label()), Some(row));
            assert!(numbers.insert(row.wire()));
        }
        for &row in RunFailure::ALL {
            assert_eq!(RunFailure::from_wire(row.wire()), Some(row));
            assert!(numbers.insert(row.wire()));
        }
        assert_eq!(CloseCode::try_from(0xff), Err(UnknownCode { wire: 0xff }));
    }

    #[test]
    fn labels_are_unique_within_a_table_and_sentences_are_sentences() {
        fn check(rows: impl Iterator<Item = (&'static str, &'static str)>) {
            let mut labels = BTreeSet::new();
            for (label, sentence) in rows {
                assert!(labels.insert(label), "{label}");
                assert!(
                    label.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                    "{label}"
                );
                assert!(
                    !sentence.ends_with('.') && sentence.is_ascii(),
                    "{sentence}"
                );
            }
        }
        check(
            CloseCode::ALL
                .iter()
                .map(|row| (row.label(), row.sentence())),
        );
        check(
            RefusalReason::ALL
                .iter()
                .map(|row| (row.label(), row.sentence())),
        );
        check(
            RunFailure::ALL
                .iter()
                .map(|row| (row.label(), row.sentence())),
        );
    }
}
