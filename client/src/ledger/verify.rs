//! Whether a ledger is what the site wrote: the chain, every signature, and whose keys signed.

use std::{collections::BTreeSet, fmt};

use protocol::Digest;

use super::{Fact, reading::Reading};

/// A line that is not what the site wrote.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Flaw {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for Flaw {}

/// A ledger that was verified.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What it says.
    pub reading: Reading,
    /// The keys that signed it, all of them accepted ones.
    pub keys: BTreeSet<Digest>,
}

/// Verifies the bytes of a ledger: numbers, chain and signatures, by one of the accepted Ed25519 keys each.
///
/// `noted` is the SHA-256 of a line that somebody kept: it must still be there, so that a ledger that was cut off before it
/// is noticed.
///
/// # Errors
/// The first [`Flaw`].
pub fn verify(
    bytes: &[u8],
    accepted: &BTreeSet<Digest>,
    noted: Option<Digest>,
) -> Result<Verified, Flaw> {
    let reading = Reading::of(bytes)?;
    let (mut key, mut keys) = (None, BTreeSet::new());
    for line in reading.lines() {
        let flaw = |what: String| Flaw {
            line: line.entry.number + 1,
            what,
        };
        if let Fact::Opened {
            public_key, site, ..
        } = &line.entry.fact
        {
            if !accepted.contains(public_key) {
                return Err(flaw(format!(
                    "it is signed by the key {public_key} in the name of {site}, which is in no certificate given; \
                     name an earlier certificate of this site if there was one"
                )));
            }
            key = Some(*public_key);
            keys.insert(*public_key);
        }
        let Some(key) = key else {
            return Err(flaw("no line before it says whose key signs it".to_owned()));
        };
        if !line.is_signed_by(&key) {
            return Err(flaw(
                "its signature does not fit: it was changed, or somebody else wrote it".to_owned(),
            ));
        }
    }
    if let Some(noted) = noted {
        let known = bytes
            .split(|&byte| byte == b'\n')
            .any(|text| Digest::of(text) == noted);
        if !known {
            let what = format!(
                "no line has the SHA-256 {noted} that was noted: the ledger was cut off or is another one"
            );
            return Err(Flaw {
                line: reading.entries.len() as u64,
                what,
            });
        }
    }
    Ok(Verified { reading, keys })
}
