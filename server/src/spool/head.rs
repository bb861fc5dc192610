//! The head of a batch: which updates lie behind it, in which order. Nothing in it is believed before it was checked.
//!
//! Eight bytes that say what this is, the length of a list in four, the SHA-256 of the list, and the list: an encoded sequence of
//! transfer headers. The updates follow, back to back.

use std::io::{self, Read};
use std::ops::Range;

use protocol::TransferId;
use protocol::codec::{self, DecodeError, EncodeError};
use protocol::frame::MAX_FRAME_BYTES;
use protocol::message::TransferHeader;
use ring::digest::{SHA256, digest};

const MAGIC: [u8; 8] = *b"fbatch01";
const LENGTH_BYTES: usize = 4;
const DIGEST_BYTES: usize = 32;
/// All that is before the list.
const FIXED_BYTES: usize = MAGIC.len() + LENGTH_BYTES + DIGEST_BYTES;

/// Which updates a batch has, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Head {
    headers: Vec<TransferHeader>,
    /// Bytes of the head itself.
    length: u64,
}

impl Head {
    /// Draws up the head of a batch of these updates, and gives it with its bytes.
    pub(super) fn of(headers: Vec<TransferHeader>) -> Result<(Self, Vec<u8>), EncodeError> {
        let list = codec::encode(&headers)?;
        let length = u32::try_from(list.len()).expect("a list is no longer than a frame");
        let mut bytes = Vec::with_capacity(FIXED_BYTES + list.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(digest(&SHA256, &list).as_ref());
        bytes.extend_from_slice(&list);
        let length = bytes.len() as u64;
        Ok((Self { headers, length }, bytes))
    }

    /// Reads the head that a batch begins with.
    pub(super) fn read(from: &mut impl Read) -> Result<Self, HeadError> {
        let mut fixed = [0; FIXED_BYTES];
        from.read_exact(&mut fixed)?;
        let (magic, rest) = fixed.split_at(MAGIC.len());
        let (length, sha256) = rest.split_at(LENGTH_BYTES);
        if *magic != MAGIC {
            return Err(HeadError::Magic);
        }
        let length = u32::from_le_bytes(length.try_into().expect("it was split off as four bytes"));
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if MAX_FRAME_BYTES < length {
            return Err(HeadError::TooLong { found: length });
        }
        let mut list = vec![0; length];
        from.read_exact(&mut list)?;
        if digest(&SHA256, &list).as_ref() != sha256 {
            return Err(HeadError::Digest);
        }
        let headers: Vec<TransferHeader> = codec::decode(&list)?;
        let length = (FIXED_BYTES + length) as u64;
        let end = |end: u64, header: &TransferHeader| end.checked_add(header.bytes);
        if headers.iter().try_fold(length, end).is_none() {
            return Err(HeadError::Lengths);
        }
        Ok(Self { headers, length })
    }

    /// Where each update lies, in bytes from the beginning of the file.
    pub(super) fn places(&self) -> impl Iterator<Item = (TransferId, Range<u64>)> + '_ {
        let mut end = self.length;
        self.headers.iter().map(move |header| {
            let start = end;
            // The sum of all was looked at.
            end += header.bytes;
            (header.id, start..end)
        })
    }
}

/// What is wrong with a head.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeadError {
    /// There are fewer bytes, or the system does not give them.
    #[error("its head cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Something else begins like this.
    #[error("it does not begin as a batch of updates does")]
    Magic,
    /// Its list would be longer than any that is written.
    #[error("its head announces a list of {found} bytes, more than {MAX_FRAME_BYTES}")]
    TooLong {
        /// Bytes announced.
        found: usize,
    },
    /// The list was changed.
    #[error("the list of its updates does not have the SHA-256 beside it")]
    Digest,
    /// The list is none.
    #[error("the list of its updates: {0}")]
    List(#[from] DecodeError),
    /// There is no place for so many bytes.
    #[error("the updates in its list are longer than any file")]
    Lengths,
}

#[cfg(test)]
mod tests {
    use protocol::message::Content;
    use protocol::{Digest, Round};

    use super::*;

    fn header(number: u8, bytes: u64) -> TransferHeader {
        let name = "north".parse().unwrap();
        let sha256 = Digest([number; 32]);
        TransferHeader::update(&name, Round(1), Digest([1; 32]), Content { bytes, sha256 })
    }

    /// SplitMix64.
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A head over any list, with a digest that is right.
    fn sealed(list: &[u8]) -> Vec<u8> {
        let length = u32::try_from(list.len()).unwrap().to_le_bytes();
        let sha256 = digest(&SHA256, list);
        [&MAGIC[..], &length, sha256.as_ref(), list].concat()
    }

    #[test]
    fn a_head_reads_back_whatever_follows_it_and_says_where_updates_lie() {
        for count in [0, 1, 2, 64] {
            let headers = (0..count).map(|number| header(number, 1000 + u64::from(number)));
            let headers: Vec<_> = headers.collect();
            let (head, mut bytes) = Head::of(headers.clone()).unwrap();
            let mut end = bytes.len() as u64;
            bytes.extend_from_slice(b"an update");
            assert_eq!(Head::read(&mut bytes.as_slice()).unwrap(), head);
            let places: Vec<_> = head.places().collect();
            assert_eq!(places.len(), headers.len());
            for (header, (id, place)) in headers.iter().zip(places) {
                assert_eq!((id, place), (header.id, end..end + header.bytes));
                end += header.bytes;
            }
        }
    }

    #[test]
    fn a_head_cut_off_anywhere_or_with_any_byte_changed_is_an_error() {
        let (_, bytes) = Head::of(vec![header(1, 5), header(2, 7)]).unwrap();
        for place in 0..bytes.len() {
            let error = Head::read(&mut &bytes[..place]).unwrap_err();
            assert!(matches!(error, HeadError::Read(_)), "{place}: {error}");
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                Head::read(&mut changed.as_slice()).unwrap_err();
            }
        }
    }

    #[test]
    fn no_more_is_allocated_than_any_head_has_and_lengths_that_overflow_are_refused() {
        let mut bytes = sealed(&[]);
        bytes[MAGIC.len()..][..LENGTH_BYTES].copy_from_slice(&u32::MAX.to_le_bytes());
        let error = Head::read(&mut bytes.as_slice()).unwrap_err();
        assert!(matches!(error, HeadError::TooLong { .. }), "{error}");
        let list = codec::encode(&vec![header(1, u64::MAX), header(2, 1)]).unwrap();
        let error = Head::read(&mut sealed(&list).as_slice()).unwrap_err();
        assert!(matches!(error, HeadError::Lengths), "{error}");
        // As many headers as no list has room for.
        let error =
            Head::read(&mut sealed(&[253, 255, 255, 255, 255, 255, 255, 255, 255]).as_slice());
        assert!(matches!(error.unwrap_err(), HeadError::List(_)));
    }

    /// A list that its digest goes with is still anybody's: whatever it says, places are in order and none ends before it starts.
    #[test]
    fn any_list_is_an_error_or_has_places_in_order() {
        let whole = codec::encode(&vec![header(1, 5), header(2, 7), header(3, 0)]).unwrap();
        let mut read = 0;
        for seed in 0..100_000 {
            let (mut state, mut list) = (seed, whole.clone());
            for _ in 0..=next(&mut state) % 3 {
                let place = (next(&mut state) % list.len() as u64) as usize;
                let byte = next(&mut state) as u8;
                match next(&mut state) % 4 {
                    0 => list[place] = byte,
                    1 => list[place] ^= 1 << (byte % 8),
                    2 => drop(list.remove(place)),
                    _ => list.insert(place, byte),
                }
            }
            let Ok(head) = Head::read(&mut sealed(&list).as_slice()) else {
                continue;
            };
            read += 1;
            let mut end = head.length;
            for (_, place) in head.places() {
                assert!(place.start == end && end <= place.end, "seed {seed}");
                end = place.end;
            }
        }
        assert!(1000 < read, "only {read} lists were read");
    }
}
