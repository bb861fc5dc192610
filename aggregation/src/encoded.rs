//! An update as it lies somewhere in bytes, read block by block: its values never have to be in memory all at once.

use std::io;
use std::sync::Arc;

use crate::encoding::{Encoding, int8};

/// Bytes decoded at a time.
const BLOCK_BYTES: usize = 1 << 16;

/// Bytes that can be read at any place, by several threads at a time.
pub trait ReadAt: Sync {
    /// How many bytes there are.
    ///
    /// # Errors
    /// What the system says.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// What the system says, also if there are not that many bytes.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }
}

impl<R: ReadAt + Send + ?Sized> ReadAt for Arc<R> {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let end = start.and_then(|start| start.checked_add(buffer.len()));
        match start.zip(end).and_then(|(start, end)| self.get(start..end)) {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// An encoded update.
#[derive(Debug)]
pub struct EncodedUpdate<R> {
    bytes: R,
    encoding: Encoding,
}

impl<R> EncodedUpdate<R> {
    /// Where the values are.
    pub(crate) fn bytes(&self) -> &R {
        &self.bytes
    }
}

impl<R: ReadAt> EncodedUpdate<R> {
    /// Takes bytes for values in this encoding. Nothing is read.
    pub fn new(bytes: R, encoding: Encoding) -> Self {
        Self { bytes, encoding }
    }

    /// The encoding of the values.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// How many bytes there are.
    pub(crate) fn size(&self) -> io::Result<u64> {
        self.bytes.size()
    }

    /// Reads the values from position `first` on.
    pub(crate) fn read(&self, first: usize, values: &mut [f32]) -> io::Result<()> {
        match self.encoding {
            Encoding::F32 => self.read_in_place(first, values),
            Encoding::Bf16 | Encoding::Int8 => self.decode(first, values),
        }
    }

    /// Reads f32, which lie there as they are here, without a buffer between.
    fn read_in_place(&self, first: usize, values: &mut [f32]) -> io::Result<()> {
        let (place, _) = self.place(first);
        self.bytes
            .read_exact_at(bytemuck::cast_slice_mut(values), place)?;
        if cfg!(target_endian = "big") {
            for value in values {
                *value = f32::from_bits(value.to_bits().swap_bytes());
            }
        }
        Ok(())
    }

    /// Reads values that are encoded, block by block.
    fn decode(&self, first: usize, mut values: &mut [f32]) -> io::Result<()> {
        let mut buffer = [0; BLOCK_BYTES];
        let (mut place, mut skip) = self.place(first);
        let values_at_once = self.values_at_once();
        while !values.is_empty() {
            // Behind those of the same block that are not asked for.
            let count = (skip + values.len()).min(values_at_once);
            let bytes = &mut buffer[..self.encoding.size(count)];
            self.bytes.read_exact_at(bytes, place)?;
            let (read, rest) = values.split_at_mut(count - skip);
            match self.encoding {
                Encoding::F32 | Encoding::Bf16 => self.encoding.decode(bytes, read),
                Encoding::Int8 => int8::decode(bytes, skip, read),
            }
            place += bytes.len() as u64;
            (values, skip) = (rest, 0);
        }
        Ok(())
    }

    /// Where the block of this value begins, and how many values of it come before.
    fn place(&self, value: usize) -> (u64, usize) {
        match self.encoding {
            Encoding::F32 | Encoding::Bf16 => (self.encoding.size(value) as u64, 0),
            Encoding::Int8 => (int8::block_start(value) as u64, value % int8::BLOCK),
        }
    }

    /// Values in whole blocks whose bytes fit the buffer.
    fn values_at_once(&self) -> usize {
        match self.encoding {
            Encoding::F32 => BLOCK_BYTES / 4,
            Encoding::Bf16 => BLOCK_BYTES / 2,
            Encoding::Int8 => BLOCK_BYTES / int8::BLOCK_BYTES * int8::BLOCK,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_stretch_of_values_can_be_read() {
        let values: Vec<f32> = (0..100_000_u32).map(|value| value as f32).collect();
        for encoding in [Encoding::F32, Encoding::Bf16, Encoding::Int8] {
            let bytes = encoding.encode(&values);
            let mut exact = vec![0.0; values.len()];
            encoding.decode(&bytes, &mut exact);
            let update = EncodedUpdate::new(bytes.as_slice(), encoding);
            for (first, count) in [(0, 0), (0, 1), (17, 70_000), (63, 2), (64, 64), (99_999, 1)] {
                let mut read = vec![0.0; count];
                update.read(first, &mut read).unwrap();
                assert!(read == exact[first..first + count], "{encoding:?} {first}");
            }
            assert!(update.read(99_999, &mut [0.0; 2]).is_err());
        }
    }
}
