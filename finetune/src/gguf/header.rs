//! The header of a GGUF file: metadata and the places of tensors.
//!
//! Bytes from strangers: a count or length is believed only if the bytes it announces are there, so that no allocation
//! is larger than a small multiple of the file. Errors are sentences that follow "FILE is damaged: ".

use super::blocks::BlockFormat;
use std::collections::BTreeMap;
use std::ops::Range;

mod cursor;

use cursor::Cursor;

/// ggml has four; a file with more is damaged.
const DIMENSIONS_MAX: usize = 4;

/// One metadata value; integers of all widths are one, and so are floats.
#[derive(Clone, Debug, PartialEq)]
pub enum MetaValue {
    /// u8 to u64 and i8 to i64.
    Integer(i128),
    /// f32 and f64.
    Float(f64),
    /// A flag.
    Bool(bool),
    /// UTF-8 text.
    Text(String),
    /// An array of texts.
    Texts(Vec<String>),
    /// An array of integers or flags.
    Integers(Vec<i64>),
    /// An array of floats.
    Floats(Vec<f32>),
}

/// Where a tensor lies in the file and how it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorPlace {
    /// Dimensions as in the file: the fastest first, the reverse of Hugging Face's shape.
    pub dimensions: Vec<usize>,
    /// The storage format.
    pub format: BlockFormat,
    /// Its bytes, counted from the start of the file; inside the file.
    pub bytes: Range<usize>,
}

/// A checked header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// Metadata by key.
    pub metadata: BTreeMap<String, MetaValue>,
    /// Tensors by their GGUF name.
    pub tensors: BTreeMap<String, TensorPlace>,
}

impl Header {
    /// Reads the header of a whole file.
    ///
    /// # Errors
    /// A sentence that says what does not fit, and where.
    pub fn read(file: &[u8]) -> Result<Self, String> {
        let mut cursor = Cursor::new(file);
        if cursor.take(4)? != b"GGUF" {
            return Err("it does not start with GGUF".to_owned());
        }
        match cursor.u32()? {
            2 | 3 => (),
            version if version.swap_bytes() < 16 => {
                return Err("it is a big-endian GGUF file; use the little-endian one".to_owned());
            }
            version => return Err(format!("its GGUF version is {version}; 2 and 3 are known")),
        }
        let tensor_count = cursor.count("tensors", 24)?;
        let entry_count = cursor.count("metadata entries", 13)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..entry_count {
            let key = cursor.text()?;
            let value = cursor
                .value()
                .map_err(|what| format!("metadata {key:?}: {what}"))?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(format!("metadata {key:?} is there twice"));
            }
        }
        let mut header = Self {
            metadata,
            tensors: BTreeMap::new(),
        };
        header.read_tensors(&mut cursor, tensor_count, file.len())?;
        Ok(header)
    }

    fn read_tensors(
        &mut self,
        cursor: &mut Cursor<'_>,
        count: usize,
        file_bytes: usize,
    ) -> Result<(), String> {
        let alignment = match self.integer("general.alignment") {
            None => 32,
            Some(value) => usize::try_from(value)
                .ok()
                .filter(|a| a.is_power_of_two() && *a <= 1 << 20)
                .ok_or_else(|| format!("general.alignment is {value}"))?,
        };
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            places.push(read_place(cursor)?);
        }
        let data_start = cursor.position().next_multiple_of(alignment);
        for (name, mut place) in places {
            let start = data_start.checked_add(place.bytes.start);
            let end = data_start.checked_add(place.bytes.end);
            let (Some(start), Some(end)) = (start, end) else {
                return Err(format!("tensor {name} lies beyond any file"));
            };
            if end > file_bytes {
                return Err(format!(
                    "it is truncated in tensor {name}: {end} bytes are needed, {file_bytes} are there"
                ));
            }
            place.bytes = start..end;
            if self.tensors.insert(name.clone(), place).is_some() {
                return Err(format!("tensor {name} is there twice"));
            }
        }
        Ok(())
    }

    /// An integer of the metadata.
    pub fn integer(&self, key: &str) -> Option<i128> {
        match self.metadata.get(key)? {
            MetaValue::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// An integer of the metadata that fits a size.
    pub fn size(&self, key: &str) -> Option<usize> {
        self.integer(key)
            .and_then(|value| usize::try_from(value).ok())
    }

    /// A number of the metadata, integer or not.
    pub fn number(&self, key: &str) -> Option<f64> {
        match self.metadata.get(key)? {
            MetaValue::Float(value) => Some(*value),
            MetaValue::Integer(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// A flag of the metadata.
    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.metadata.get(key)? {
            MetaValue::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// A text of the metadata.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            MetaValue::Text(value) => Some(value),
            _ => None,
        }
    }

    /// An array of texts of the metadata.
    pub fn texts(&self, key: &str) -> Option<&[String]> {
        match self.metadata.get(key)? {
            MetaValue::Texts(values) => Some(values),
            _ => None,
        }
    }

    /// An array of integers of the metadata.
    pub fn integers(&self, key: &str) -> Option<&[i64]> {
        match self.metadata.get(key)? {
            MetaValue::Integers(values) => Some(values),
            _ => None,
        }
    }
}

/// Reads one tensor's entry; its byte range still counts from the start of the data.
fn read_place(cursor: &mut Cursor<'_>) -> Result<(String, TensorPlace), String> {
    let name = cursor.text()?;
    let dimension_count = cursor.u32()? as usize;
    if dimension_count == 0 || dimension_count > DIMENSIONS_MAX {
        return Err(format!("tensor {name:?} has {dimension_count} dimensions"));
    }
    let mut dimensions = Vec::with_capacity(dimension_count);
    for _ in 0..dimension_count {
        let dimension = cursor.u64()?;
        let dimension = usize::try_from(dimension)
            .map_err(|_| format!("tensor {name:?} has a dimension of {dimension}"))?;
        dimensions.push(dimension);
    }
    let kind = cursor.u32()?;
    let format = BlockFormat::from_id(kind)
        .ok_or_else(|| format!("tensor {name:?} has unknown type {kind}"))?;
    let start = cursor.u64()?;
    let (block_values, block_bytes) = format.block();
    let too_large = || format!("tensor {name:?} of {dimensions:?} is larger than any file");
    if !dimensions[0].is_multiple_of(block_values) {
        return Err(format!(
            "tensor {name:?} of {dimensions:?} does not divide into blocks of {block_values}"
        ));
    }
    let values = dimensions
        .iter()
        .try_fold(1usize, |product, dimension| product.checked_mul(*dimension))
        .ok_or_else(too_large)?;
    let bytes = (values / block_values)
        .checked_mul(block_bytes)
        .ok_or_else(too_large)?;
    let start = usize::try_from(start).map_err(|_| too_large())?;
    let end = start.checked_add(bytes).ok_or_else(too_large)?;
    Ok((
        name,
        TensorPlace {
            dimensions,
            format,
            bytes: start..end,
        },
    ))
}
