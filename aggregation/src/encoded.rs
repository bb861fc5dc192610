//! An update as it lies somewhere in bytes, read block by block: its values never have to be in memory all at once.

use std::io;

use crate::encoding::Encoding;

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
pub struct EncodedUpdate<'a, R: ?Sized> {
    bytes: &'a R,
    encoding: Encoding,
}

impl<'a, R: ReadAt + ?Sized> EncodedUpdate<'a, R> {
    /// Takes bytes for values in this encoding. Nothing is read.
    pub fn new(bytes: &'a R, encoding: Encoding) -> Self {
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
        let width = self.encoding.width();
        let mut buffer = [0; BLOCK_BYTES];
        let mut offset = (first * width) as u64;
        for values in values.chunks_mut(BLOCK_BYTES / width) {
            let bytes = &mut buffer[..values.len() * width];
            self.bytes.read_exact_at(bytes, offset)?;
            self.encoding.decode(bytes, values);
            offset += bytes.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_stretch_of_values_can_be_read() {
        let values: Vec<f32> = (0..100_000_u32).map(|value| value as f32).collect();
        for encoding in [Encoding::F32, Encoding::Bf16] {
            let bytes = encoding.encode(&values);
            let mut exact = vec![0.0; values.len()];
            encoding.decode(&bytes, &mut exact);
            let update = EncodedUpdate::new(bytes.as_slice(), encoding);
            for (first, count) in [(0, 0), (0, 1), (17, 70_000), (99_999, 1)] {
                let mut read = vec![0.0; count];
                update.read(first, &mut read).unwrap();
                assert_eq!(read, exact[first..first + count]);
            }
            assert!(update.read(99_999, &mut [0.0; 2]).is_err());
        }
    }
}
