//! Amounts of bytes as people write them: `"64MiB"`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// A number of bytes, written with its unit.
///
/// Only the binary units are read, so that nobody has to know which `MB` is meant.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(u64);

impl ByteSize {
    /// Makes a size of so many MiB.
    pub const fn mebibytes(count: u32) -> Self {
        // A u32 of MiB is below 2^52 bytes.
        Self((count as u64) << 20)
    }

    /// Makes a size of so many KiB.
    pub const fn kibibytes(count: u32) -> Self {
        Self((count as u64) << 10)
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = UNITS
            .into_iter()
            .find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes))
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

/// A text is no size.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{0:?} is no size: write a whole number and its unit (B, KiB, MiB or GiB), such as \"64MiB\""
)]
pub struct SizeError(String);

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || SizeError(text.to_owned());
        let (number, unit) = UNITS
            .into_iter()
            .find_map(|(name, bytes)| Some((text.strip_suffix(name)?, bytes)))
            .ok_or_else(refused)?;
        let number: u64 = number.trim_end().parse().map_err(|_| refused())?;
        number.checked_mul(unit).map(Self).ok_or_else(refused)
    }
}

impl TryFrom<String> for ByteSize {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_with_their_largest_whole_unit() {
        for (text, bytes) in [
            ("0B", 0),
            ("1536B", 1536),
            ("2KiB", 2048),
            ("64MiB", 64 << 20),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, text));
        }
        assert_eq!("1024 MiB".parse::<ByteSize>().unwrap().to_string(), "1GiB");
    }

    #[test]
    fn a_size_without_a_unit_or_out_of_range_is_refused() {
        for text in [
            "64",
            "64MB",
            "-1B",
            "1.5GiB",
            "",
            "MiB",
            "99999999999999999GiB",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
