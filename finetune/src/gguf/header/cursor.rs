//! A reading position in a GGUF header.

use super::MetaValue;

/// The value type of arrays.
const ARRAY: u32 = 9;

pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let taken = self
            .position
            .checked_add(count)
            .and_then(|end| self.bytes.get(self.position..end))
            .ok_or_else(|| {
                format!(
                    "it ends in its header: {count} bytes are needed at byte {}",
                    self.position
                )
            })?;
        self.position += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        Ok(*taken
            .first_chunk()
            .expect("take returns what was asked for"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Reads a count of things of at least `bytes_each`, and believes it only if they can be there.
    pub(super) fn count(&mut self, what: &str, bytes_each: usize) -> Result<usize, String> {
        let at = self.position;
        let count = self.u64()?;
        let room = (self.bytes.len() - self.position) / bytes_each;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= room)
            .ok_or_else(|| {
                format!("it announces {count} {what} at byte {at}, but there is room for {room}")
            })
    }

    pub(super) fn text(&mut self) -> Result<String, String> {
        let length = self.count("bytes of text", 1)?;
        let at = self.position;
        let bytes = self.take(length)?;
        match str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(format!("the text at byte {at} is not UTF-8")),
        }
    }

    pub(super) fn value(&mut self) -> Result<MetaValue, String> {
        let kind = self.u32()?;
        if kind == ARRAY {
            self.array_value()
        } else {
            self.scalar(kind)
        }
    }

    fn scalar(&mut self, kind: u32) -> Result<MetaValue, String> {
        Ok(match kind {
            6 => MetaValue::Float(f64::from(f32::from_le_bytes(self.array()?))),
            12 => MetaValue::Float(f64::from_le_bytes(self.array()?)),
            7 => MetaValue::Bool(self.array::<1>()?[0] != 0),
            8 => MetaValue::Text(self.text()?),
            _ => MetaValue::Integer(self.integer(kind)?),
        })
    }

    fn integer(&mut self, kind: u32) -> Result<i128, String> {
        Ok(match kind {
            0 => u8::from_le_bytes(self.array()?).into(),
            1 => i8::from_le_bytes(self.array()?).into(),
            2 => u16::from_le_bytes(self.array()?).into(),
            3 => i16::from_le_bytes(self.array()?).into(),
            4 => u32::from_le_bytes(self.array()?).into(),
            5 => i32::from_le_bytes(self.array()?).into(),
            10 => u64::from_le_bytes(self.array()?).into(),
            11 => i64::from_le_bytes(self.array()?).into(),
            _ => return Err(format!("unknown value type {kind}")),
        })
    }

    fn array_value(&mut self) -> Result<MetaValue, String> {
        let kind = self.u32()?;
        match kind {
            8 => {
                let count = self.count("texts", 8)?;
                (0..count)
                    .map(|_| self.text())
                    .collect::<Result<_, _>>()
                    .map(MetaValue::Texts)
            }
            6 => {
                let count = self.count("floats", 4)?;
                (0..count)
                    .map(|_| Ok(f32::from_le_bytes(self.array()?)))
                    .collect::<Result<_, _>>()
                    .map(MetaValue::Floats)
            }
            12 => {
                let count = self.count("floats", 8)?;
                (0..count)
                    .map(|_| Ok(f64::from_le_bytes(self.array()?) as f32))
                    .collect::<Result<_, _>>()
                    .map(MetaValue::Floats)
            }
            ARRAY => Err("arrays of arrays are not used by models".to_owned()),
            _ => self.integers(kind),
        }
    }

    fn integers(&mut self, kind: u32) -> Result<MetaValue, String> {
        let bytes_each = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4 | 5 => 4,
            _ => 8,
        };
        let count = self.count("integers", bytes_each)?;
        (0..count)
            .map(|_| {
                let value = if kind == 7 {
                    self.integer(0)?
                } else {
                    self.integer(kind)?
                };
                i64::try_from(value).map_err(|_| format!("{value} does not fit 64 bits"))
            })
            .collect::<Result<_, _>>()
            .map(MetaValue::Integers)
    }
}
