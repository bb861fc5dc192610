//! GGUF model files, versions 2 and 3, as a [`WeightSource`].
//!
//! An own reader: [`header`] reads metadata and tensor places with every bound checked, [`blocks`] widens the block
//! formats to f32, [`names`] maps tensor names to those of Hugging Face, `shape` reads the decoder's configuration.
//! Source: the format's specification, docs/gguf.md of ggml, and the block structures of ggml-common.h.
//!
//! Files of architecture `llama` hold the rows of the query and key projections in the order of interleaved rotary
//! pairs; they are handed out in Hugging Face's half-rotation order.

use crate::config::LlamaConfig;
use crate::error::LoadError;
use crate::mapped_file::MappedFile;
use crate::weights::WeightSource;
use std::path::Path;

pub mod blocks;
pub mod header;
pub mod names;
mod shape;
#[cfg(test)]
mod tests;

use header::{Header, TensorPlace};
pub(crate) use shape::special_token;

/// An opened GGUF file; its tensors are mapped, not read.
#[derive(Debug)]
pub struct GgufFile {
    file: MappedFile,
    header: Header,
    config: LlamaConfig,
    /// Query and key rows are in interleaved order.
    permuted: bool,
}

impl GgufFile {
    /// Maps the file and reads its header.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] if any count, length or offset does not fit the file, [`LoadError::Unsupported`] if its
    /// architecture or version is not known.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let file = MappedFile::open(path)?;
        let header = Header::read(file.bytes()).map_err(|what| LoadError::damaged(path, what))?;
        let config = shape::config(&header, file.bytes(), path)?;
        let permuted = header.text("general.architecture") == Some("llama");
        Ok(Self {
            file,
            header,
            config,
            permuted,
        })
    }

    /// Metadata and tensor places.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    fn place(&self, hf_name: &str) -> Option<&TensorPlace> {
        self.header.tensors.get(&names::gguf_name(hf_name)?)
    }

    /// Rows of a head's projection, when this tensor must be brought back to half-rotation order.
    fn permuted_heads(&self, hf_name: &str) -> Option<usize> {
        if !self.permuted {
            return None;
        }
        if hf_name.contains(".q_proj.") {
            Some(self.config.num_attention_heads)
        } else if hf_name.contains(".k_proj.") {
            Some(self.config.num_key_value_heads)
        } else {
            None
        }
    }
}

impl WeightSource for GgufFile {
    fn config(&self) -> &LlamaConfig {
        &self.config
    }

    fn contains(&self, hf_name: &str) -> bool {
        self.place(hf_name).is_some()
    }

    fn tensor(&self, hf_name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let path = self.file.path();
        let place = self
            .place(hf_name)
            .ok_or_else(|| LoadError::MissingTensor {
                path: path.to_owned(),
                name: hf_name.to_owned(),
            })?;
        let found: Vec<usize> = place.dimensions.iter().rev().copied().collect();
        if found != shape {
            return Err(LoadError::WrongShape {
                path: path.to_owned(),
                name: hf_name.to_owned(),
                found,
                expected: shape.to_vec(),
            });
        }
        let bytes = self
            .file
            .bytes()
            .get(place.bytes.clone())
            .ok_or_else(|| LoadError::damaged(path, format!("tensor {hf_name} is cut off")))?;
        let values = place.format.widen(bytes).ok_or_else(|| {
            LoadError::unsupported(
                path,
                format!(
                    "tensor {hf_name} is {:?}; F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K are",
                    place.format
                ),
            )
        })?;
        Ok(match self.permuted_heads(hf_name) {
            Some(heads) => half_rotation_rows(&values, heads, self.config.head_dim),
            None => values,
        })
    }
}

/// Brings rows from interleaved to half-rotation order: row `2 j + s` of a head becomes row `s head_dim / 2 + j`.
///
/// The inverse of `permute` in llama.cpp's convert_hf_to_gguf.py.
fn half_rotation_rows(values: &[f32], heads: usize, head_dim: usize) -> Vec<f32> {
    let columns = values.len() / (heads * head_dim);
    let mut rows = Vec::with_capacity(values.len());
    for head in values.chunks_exact(head_dim * columns) {
        for half in 0..2 {
            for pair in 0..head_dim / 2 {
                let row = 2 * pair + half;
                rows.extend_from_slice(&head[row * columns..(row + 1) * columns]);
            }
        }
    }
    rows
}
