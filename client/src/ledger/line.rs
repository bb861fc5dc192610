//! A line of the file: the entry's JSON with its signature as the last member.
//!
//! What is signed is [`CONTEXT`] and the JSON without the signature, byte for byte as it stands in the file; so a reader needs
//! no canonical JSON, only the line.

use protocol::{Digest, quic::verify_signature};

use super::entry::Entry;

/// Writes a line, newline included. `sign` gets the bytes to sign.
pub(super) fn write(entry: &Entry, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> String {
    let mut line = serde_json::to_string(entry)
        .expect("an entry has string keys and no value that JSON lacks");
    let signature = sign(&signed(&line));
    line.pop();
    line.push_str(MEMBER);
    for byte in signature {
        line.push(char::from(HEX[usize::from(byte >> 4)]));
        line.push(char::from(HEX[usize::from(byte & 15)]));
    }
    line.push_str("\"}\n");
    line
}

/// A line taken apart; neither chain nor signature is checked yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) entry: Entry,
    /// What the signature is over.
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Line {
    /// Reads a line without its newline.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let whole = text
            .strip_suffix("\"}")
            .ok_or("it does not end with a signature")?;
        let at = whole
            .len()
            .checked_sub(SIGNATURE_DIGITS)
            .ok_or("it does not end with a signature")?;
        let (body, digits) = whole
            .split_at_checked(at)
            .ok_or("it does not end with a signature")?;
        let body = body
            .strip_suffix(MEMBER)
            .ok_or("it does not end with a signature")?;
        let signature = bytes_of(digits).ok_or("its signature is not hexadecimal")?;
        let body = format!("{body}}}");
        let entry = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        Ok(Self {
            entry,
            message: signed(&body),
            signature,
        })
    }

    /// Whether this key signed it.
    pub(super) fn is_signed_by(&self, public_key: &Digest) -> bool {
        verify_signature(&public_key.0, &self.message, &self.signature)
    }
}

/// The digest by which the next line names this one; the newline is not part of it.
pub(super) fn digest(line: &str) -> Digest {
    Digest::of(line.trim_end_matches('\n').as_bytes())
}

fn signed(body: &str) -> Vec<u8> {
    [CONTEXT, body.as_bytes()].concat()
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        HEX.iter()
            .position(|&known| known == byte)
            .map(|place| place as u8)
    };
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?))
        .collect()
}

/// What stands before a line in the signed bytes, so that no other signature of the key passes for one.
const CONTEXT: &[u8] = b"foedus/ledger/1";
const MEMBER: &str = ",\"signature\":\"";
const SIGNATURE_DIGITS: usize = 128;
const HEX: &[u8; 16] = b"0123456789abcdef";
