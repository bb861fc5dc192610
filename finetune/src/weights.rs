//! Where weights come from: one trait over safetensors folders and GGUF files.
//!
//! A source hands out one tensor at a time as f32, by its Hugging Face name and in Hugging Face's layout, whatever
//! the file holds; nothing is kept, so that a loader that drops each tensor after upload needs memory for one.

use crate::config::LlamaConfig;
pub use crate::error::LoadError;

mod safetensors_folder;
#[cfg(test)]
mod tests;

pub use safetensors_folder::SafetensorsFolder;
pub(crate) use safetensors_folder::read_json_text;

/// A base model's configuration and tensors.
pub trait WeightSource {
    /// The shape of the decoder.
    fn config(&self) -> &LlamaConfig;

    /// Whether the file has this tensor.
    fn contains(&self, hf_name: &str) -> bool;

    /// Reads one tensor as f32, row-major.
    ///
    /// # Shapes
    /// `shape` is what the caller needs, e.g. `[out, in]` of `model.layers.0.self_attn.q_proj.weight`.
    ///
    /// # Errors
    /// [`LoadError::MissingTensor`], [`LoadError::WrongShape`] if the file has another shape, and
    /// [`LoadError::Damaged`] if its bytes are not all there.
    fn tensor(&self, hf_name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError>;
}
