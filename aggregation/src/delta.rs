//! An adapter as it travels, against the one that its receiver has: fewer bytes, and exactly the same ones come out.
//!
//! It is lossless and knows nothing of training: the next adapter's values, in the form in which they would have been sent,
//! are written as distances from the base's (`block`) and entropy-coded by zstd. So whoever rebuilds it has the digest that a
//! whole download would have had. Where the form becomes wider, as that of the final adapter does, the base is widened first.
//!
//! A delta is a head of fixed length ([`Delta::parse`]) and blocks of a million values, each with its length before it. What
//! is rebuilt is as long as the base says, so nothing that came over a network decides about memory.

mod block;

use std::io;

use rayon::prelude::*;

use crate::encoded::ReadAt;
use crate::encoding::Encoding;

/// The first bytes of a delta.
const MAGIC: [u8; 8] = *b"fdelta01";
/// Magic, the two forms, the number of values, the two digests.
const HEAD_BYTES: usize = 8 + 2 + 8 + 32 + 32;
/// Values of a block; the last has what is left.
const BLOCK: usize = 1 << 20;

/// One side of a delta: an adapter's values and the form in which they travel.
#[derive(Debug, Clone, Copy)]
pub struct Travelling<'a> {
    /// The values, exact.
    pub values: &'a [f32],
    /// The form, in which the other side has them.
    pub encoding: Encoding,
    /// SHA-256 of the bytes in that form.
    pub sha256: [u8; 32],
}

/// Writes `next` against `base`.
///
/// Blocks are coded by as many threads as there are; the bytes do not depend on their number.
///
/// # Errors
/// [`DeltaError::Form`] if a form has no deltas or `next` has a narrower one than `base`, [`DeltaError::Values`] if the
/// numbers of values differ, [`DeltaError::Coder`] if zstd has no memory.
pub fn between(base: Travelling<'_>, next: Travelling<'_>) -> Result<Vec<u8>, DeltaError> {
    let forms = Forms::new(base.encoding, next.encoding)?;
    if base.values.len() != next.values.len() {
        let (found, expected) = (next.values.len(), base.values.len());
        return Err(DeltaError::Values { found, expected });
    }
    let blocks = base.values.par_chunks(BLOCK);
    let blocks = blocks.zip(next.values.par_chunks(BLOCK));
    let blocks = blocks.map(|(before, after)| {
        let before = bits(base.encoding, &base.encoding.encode(before));
        let after = bits(next.encoding, &next.encoding.encode(after));
        block::encode(&before, &after, forms.width()).map_err(DeltaError::Coder)
    });
    let blocks: Vec<Vec<u8>> = blocks.collect::<Result<_, _>>()?;
    let length: usize = blocks.iter().map(|block| 4 + block.len()).sum();
    let mut bytes = Vec::with_capacity(HEAD_BYTES + length);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[tag(base.encoding), tag(next.encoding)]);
    bytes.extend_from_slice(&(base.values.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&base.sha256);
    bytes.extend_from_slice(&next.sha256);
    for block in blocks {
        // A block of a million values stays far below.
        let length = u32::try_from(block.len()).map_err(|_| DeltaError::TooLarge)?;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&block);
    }
    Ok(bytes)
}

/// A delta as it arrived: its head is read, the rest is believed in nothing yet.
#[derive(Debug, Clone, Copy)]
pub struct Delta<'a> {
    forms: Forms,
    values: u64,
    base: [u8; 32],
    adapter: [u8; 32],
    blocks: &'a [u8],
}

impl<'a> Delta<'a> {
    /// Reads the head.
    ///
    /// # Errors
    /// [`DeltaError::Cut`], [`DeltaError::Magic`] or [`DeltaError::Form`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DeltaError> {
        let mut rest = bytes;
        let magic: [u8; 8] = take_array(&mut rest, "head")?;
        if magic != MAGIC {
            return Err(DeltaError::Magic);
        }
        let [base, next] = take_array(&mut rest, "head")?;
        let forms = Forms::new(encoding(base)?, encoding(next)?)?;
        Ok(Self {
            forms,
            values: u64::from_le_bytes(take_array(&mut rest, "head")?),
            base: take_array(&mut rest, "head")?,
            adapter: take_array(&mut rest, "head")?,
            blocks: rest,
        })
    }

    /// SHA-256 of the adapter that it is against, as that travelled.
    pub fn base(&self) -> [u8; 32] {
        self.base
    }

    /// SHA-256 of the adapter that it is to come to. Whoever rebuilds it checks that.
    pub fn adapter(&self) -> [u8; 32] {
        self.adapter
    }

    /// Rebuilds the adapter's bytes from the base's, which are read block by block.
    ///
    /// The result has the base's number of values, and at most twice its bytes, whatever the delta says.
    ///
    /// # Errors
    /// [`DeltaError`] if the base has another length, cannot be read, or the delta is not whole, has more than it needs or
    /// says what no encoder writes. A delta of the right form that comes to other bytes is found out by their digest.
    pub fn rebuild<R: ReadAt + ?Sized>(&self, base: &R) -> Result<Vec<u8>, DeltaError> {
        let Forms { base: from, next } = self.forms;
        let found = base.size().map_err(DeltaError::Read)?;
        let expected = self.values.checked_mul(from.size(1) as u64);
        let values = usize::try_from(self.values).ok();
        let (Some(values), true) = (values, expected == Some(found)) else {
            let values = self.values;
            return Err(DeltaError::Base { values, found });
        };
        let length = values.checked_mul(next.size(1));
        let length = length.ok_or(DeltaError::TooLarge)?;
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(length)
            .map_err(|_| DeltaError::TooLarge)?;
        let mut rest = self.blocks;
        let mut before = vec![0; from.size(values.min(BLOCK))];
        let mut place = 0_u64;
        for (number, first) in (0..values).step_by(BLOCK).enumerate() {
            let count = BLOCK.min(values - first);
            let before = &mut before[..from.size(count)];
            base.read_exact_at(before, place)
                .map_err(DeltaError::Read)?;
            place += before.len() as u64;
            let length = u32::from_le_bytes(take_array(&mut rest, "blocks")?);
            let block = take(&mut rest, length as usize, "blocks")?;
            block::decode(&bits(from, before), block, self.forms.width(), &mut bytes).map_err(
                |what| DeltaError::Block {
                    block: number,
                    what,
                },
            )?;
        }
        if rest.is_empty() {
            Ok(bytes)
        } else {
            let found = rest.len();
            Err(DeltaError::LeftOver { found })
        }
    }
}

/// The forms of both sides.
#[derive(Debug, Clone, Copy)]
struct Forms {
    base: Encoding,
    next: Encoding,
}

impl Forms {
    fn new(base: Encoding, next: Encoding) -> Result<Self, DeltaError> {
        match (base, next) {
            (Encoding::Bf16, Encoding::Bf16 | Encoding::F32) | (Encoding::F32, Encoding::F32) => {
                Ok(Self { base, next })
            }
            _ => Err(DeltaError::Form),
        }
    }

    /// Bytes of a rebuilt value.
    fn width(self) -> usize {
        self.next.size(1)
    }
}

fn tag(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::F32 => 0,
        Encoding::Bf16 => 1,
        Encoding::Int8 => 2,
    }
}

fn encoding(tag: u8) -> Result<Encoding, DeltaError> {
    match tag {
        0 => Ok(Encoding::F32),
        1 => Ok(Encoding::Bf16),
        _ => Err(DeltaError::Form),
    }
}

/// The values as bits of f32.
fn bits(encoding: Encoding, bytes: &[u8]) -> Vec<u32> {
    match encoding {
        Encoding::F32 => {
            let values = bytes.as_chunks().0.iter();
            values.map(|&value| u32::from_le_bytes(value)).collect()
        }
        Encoding::Bf16 | Encoding::Int8 => {
            let values = bytes.as_chunks().0.iter();
            values
                .map(|&value| u32::from(u16::from_le_bytes(value)) << 16)
                .collect()
        }
    }
}

/// Cuts the first bytes off what is left.
fn take<'a>(rest: &mut &'a [u8], count: usize, part: &'static str) -> Result<&'a [u8], DeltaError> {
    let (bytes, behind) = rest
        .split_at_checked(count)
        .ok_or(DeltaError::Cut { part })?;
    *rest = behind;
    Ok(bytes)
}

fn take_array<const N: usize>(rest: &mut &[u8], part: &'static str) -> Result<[u8; N], DeltaError> {
    let (bytes, behind) = rest.split_first_chunk().ok_or(DeltaError::Cut { part })?;
    *rest = behind;
    Ok(*bytes)
}

/// What is no delta, or not of this base.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// It ends too early.
    #[error("the delta is cut off in its {part}")]
    Cut {
        /// Where.
        part: &'static str,
    },
    /// It begins as no delta does.
    #[error("the bytes are no delta of a form known here")]
    Magic,
    /// The forms of its values have no delta.
    #[error(
        "there are deltas of adapters in bf16 and f32, to the same form or from bf16 to f32, and this is none"
    )]
    Form,
    /// Both sides must have as many values.
    #[error("an adapter of {found} values has no delta against one of {expected}")]
    Values {
        /// Of the next adapter.
        found: usize,
        /// Of the base.
        expected: usize,
    },
    /// The base is not as long as it says.
    #[error("the delta is of {values} values, which are not those of a base of {found} bytes")]
    Base {
        /// Said by the delta.
        values: u64,
        /// Length of the base.
        found: u64,
    },
    /// The base cannot be read.
    #[error("the delta's base cannot be read: {0}")]
    Read(#[source] io::Error),
    /// A block is not what an encoder writes.
    #[error("block {block} of the delta cannot be decoded: {what}")]
    Block {
        /// Its number, from zero.
        block: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Bytes follow the last block.
    #[error("{found} bytes are behind the end of the delta")]
    LeftOver {
        /// How many.
        found: usize,
    },
    /// There is no room for it.
    #[error("the adapter is too large for this machine's memory")]
    TooLarge,
    /// zstd failed.
    #[error("the delta cannot be coded: {0}")]
    Coder(#[source] io::Error),
}

#[cfg(test)]
mod tests;
