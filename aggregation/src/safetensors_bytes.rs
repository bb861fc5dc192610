//! Safetensors files as bytes: reading within bounds, writing deterministically.
//!
//! Reading goes through the `safetensors` crate after the header length is known to be sane.
//! Writing does not, because that crate keeps metadata in a `HashMap` and would give different
//! bytes from run to run. Format: <https://huggingface.co/docs/safetensors>: header length as
//! u64, JSON header padded to eight bytes, data without gaps.

use std::collections::BTreeMap;

use half::{bf16, f16};
use safetensors::tensor::{SafeTensors, TensorView};
use safetensors::{Dtype, SafeTensorError};
use serde::Serialize;

use crate::encoding::le_bytes;

/// Longest header that is looked at: enough for a hundred thousand tensors.
const HEADER_BYTES_MAX: u64 = 16 << 20;

/// Why bytes are not a safetensors file within bounds.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ContainerError {
    /// The file ends before it is complete, or goes on after its end.
    #[error("the safetensors file is truncated or has bytes beyond its end")]
    Length,
    /// The header is longer than any adapter needs.
    #[error("the safetensors header claims {found} bytes, more than {HEADER_BYTES_MAX}")]
    Header {
        /// Its length as claimed.
        found: u64,
    },
    /// The header does not make sense.
    #[error("the safetensors header is not valid: {what}")]
    Invalid {
        /// What the reader found wrong.
        what: String,
    },
    /// There are more tensors than any adapter has.
    #[error("the safetensors file has {found} tensors, more than {limit}")]
    TooManyTensors {
        /// Tensors found.
        found: usize,
        /// Tensors allowed.
        limit: usize,
    },
}

/// A safetensors file that was read; tensors still lie in its bytes.
pub(crate) struct Container<'a> {
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tensors: BTreeMap<String, Tensor<'a>>,
}

/// One tensor in the bytes of a file.
pub(crate) struct Tensor<'a>(TensorView<'a>);

impl Tensor<'_> {
    pub(crate) fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    /// The values widened to f32, or none if they are of another type than f32, f16 or bf16.
    pub(crate) fn to_f32(&self) -> Option<Vec<f32>> {
        let data = self.0.data();
        let narrow = |widen: fn([u8; 2]) -> f32| {
            data.as_chunks::<2>()
                .0
                .iter()
                .map(|&bytes| widen(bytes))
                .collect()
        };
        match self.0.dtype() {
            Dtype::F32 => Some(
                data.as_chunks::<4>()
                    .0
                    .iter()
                    .map(|&b| f32::from_le_bytes(b))
                    .collect(),
            ),
            Dtype::F16 => Some(narrow(|bytes| f16::from_le_bytes(bytes).to_f32())),
            Dtype::BF16 => Some(narrow(|bytes| bf16::from_le_bytes(bytes).to_f32())),
            _ => None,
        }
    }
}

/// Reads a file of at most `tensors_max` tensors.
pub(crate) fn read(bytes: &[u8], tensors_max: usize) -> Result<Container<'_>, ContainerError> {
    let length = bytes.first_chunk::<8>().ok_or(ContainerError::Length)?;
    let length = u64::from_le_bytes(*length);
    if length > HEADER_BYTES_MAX {
        return Err(ContainerError::Header { found: length });
    }
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(describe)?;
    let file = SafeTensors::deserialize(bytes).map_err(describe)?;
    if file.len() > tensors_max {
        return Err(ContainerError::TooManyTensors {
            found: file.len(),
            limit: tensors_max,
        });
    }
    let metadata = header.metadata().iter().flatten();
    Ok(Container {
        metadata: metadata
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        tensors: file
            .iter()
            .map(|(name, view)| (name.to_owned(), Tensor(view)))
            .collect(),
    })
}

fn describe(error: SafeTensorError) -> ContainerError {
    match error {
        SafeTensorError::HeaderTooSmall
        | SafeTensorError::InvalidHeaderLength
        | SafeTensorError::MetadataIncompleteBuffer => ContainerError::Length,
        // Escaped and cut, because these messages can repeat what the file says.
        other => {
            let what = other.to_string().escape_debug().take(160).collect();
            ContainerError::Invalid { what }
        }
    }
}

/// One tensor to write.
pub(crate) struct Source<'a> {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: &'a [f32],
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Metadata(&'a BTreeMap<String, String>),
    Tensor {
        dtype: &'static str,
        shape: &'a [usize],
        data_offsets: [usize; 2],
    },
}

/// What a file with these f32 tensors begins with; the tensors follow without gaps, in the order of their names.
pub(crate) fn head(
    metadata: &BTreeMap<String, String>,
    tensors: &BTreeMap<String, Source<'_>>,
) -> Vec<u8> {
    let mut header = BTreeMap::from([("__metadata__", Entry::Metadata(metadata))]);
    let mut end = 0;
    for (name, tensor) in tensors {
        let start = end;
        end += size_of_val(tensor.values);
        let data_offsets = [start, end];
        header.insert(
            name,
            Entry::Tensor {
                dtype: "F32",
                shape: &tensor.shape,
                data_offsets,
            },
        );
    }
    let mut header = serde_json::to_vec(&header).expect("strings and numbers are valid JSON");
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut header);
    bytes
}

/// The bytes of a file with these f32 tensors, in the order of their names.
pub(crate) fn write(
    metadata: &BTreeMap<String, String>,
    tensors: &BTreeMap<String, Source<'_>>,
) -> Vec<u8> {
    let mut bytes = head(metadata, tensors);
    for tensor in tensors.values() {
        bytes.extend_from_slice(&le_bytes(tensor.values));
    }
    bytes
}
